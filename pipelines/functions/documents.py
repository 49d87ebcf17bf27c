"""JSON documents in the data bucket, read and written with errors that name the object."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError


class DocumentError(Exception):
    """A document is missing or is not the JSON object that it must be; the message says which and why."""


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://bucket/key` URI. Raises DocumentError."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key:
        raise DocumentError(f"'{uri}' is no s3://bucket/key URI")
    return bucket, key


def read(s3: Any, bucket: str, key: str) -> dict[str, Any]:
    """The JSON object at a key. Raises DocumentError."""
    try:
        text = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        reason = error.response["Error"].get("Message") or error.response["Error"]["Code"]
        raise DocumentError(f"s3://{bucket}/{key} cannot be read: {reason}") from error
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DocumentError(f"s3://{bucket}/{key} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DocumentError(f"s3://{bucket}/{key} holds a {type(found).__name__}, not a JSON object")
    return found


def write(s3: Any, bucket: str, key: str, document: dict[str, Any]) -> None:
    """Writes a JSON object, keys sorted, so that the same content is the same object."""
    body = json.dumps(document, sort_keys=True, indent=1).encode()
    s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
