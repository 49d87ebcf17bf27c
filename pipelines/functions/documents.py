"""Objects in the data bucket, JSON documents above all, read and written with errors that name the object."""

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
    s3.put_object(Bucket=bucket, Key=key, **_body(document))


def create(s3: Any, bucket: str, key: str, document: dict[str, Any]) -> bool:
    """Writes a JSON object where none is: False when one is there, which then stays. Of several at once one writes."""
    try:
        s3.put_object(Bucket=bucket, Key=key, IfNoneMatch="*", **_body(document))
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "ConditionalRequestConflict":  # another one is at it
            return create(s3, bucket, key, document)
        if code != "PreconditionFailed":
            raise
        return False
    return True


def copy(s3: Any, bucket: str, key: str, to: str) -> None:
    """Copies an object of at most 5 GB within the bucket, without its tags. Raises DocumentError."""
    try:
        s3.copy_object(Bucket=bucket, Key=to, CopySource={"Bucket": bucket, "Key": key}, TaggingDirective="REPLACE")
    except ClientError as error:
        reason = error.response["Error"].get("Message") or error.response["Error"]["Code"]
        raise DocumentError(f"s3://{bucket}/{key} cannot be copied to {to}: {reason}") from error


def _body(document: dict[str, Any]) -> dict[str, Any]:
    return {"Body": json.dumps(document, sort_keys=True, indent=1).encode(), "ContentType": "application/json"}
