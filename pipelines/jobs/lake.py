"""The data bucket as a job sees it, keys below one root (a bucket or a local folder).

Everything that a job reads or writes goes through here, so a job runs on a laptop's folder as it runs on a bucket. A
Lake is a plain value: Spark sends it to its workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError


class LakeError(Exception):
    """An object that must be there is not; the message names it."""


@dataclass(frozen=True)
class Lake:
    """Keys below `root`."""

    root: str

    def uri(self, key: str) -> str:
        """What Spark, or a person, calls the object or the prefix."""
        return f"{self.root}/{key}"

    def read(self, key: str) -> bytes:
        """The object. Raises LakeError when there is none."""
        try:
            if self._bucket is None:
                return self._path(key).read_bytes()
            found: bytes = self._s3().get_object(Bucket=self._bucket, Key=key)["Body"].read()
            return found
        except FileNotFoundError as error:
            raise LakeError(f"{self.uri(key)} does not exist") from error
        except ClientError as error:
            raise LakeError(f"{self.uri(key)}: {error.response['Error'].get('Message', error)}") from error

    def write(self, key: str, data: bytes) -> None:
        """Puts the whole object; a reader sees the one before or this one, nothing between."""
        if self._bucket is not None:
            self._s3().put_object(Bucket=self._bucket, Key=key, Body=data)
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(data)
        part.replace(path)

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key that starts with `prefix`, in order."""
        if self._bucket is None:
            root = Path(self.root)
            found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
            yield from sorted(key for key in found if key.startswith(prefix))
            return
        for page in self._s3().get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            yield from (item["Key"] for item in page.get("Contents", []))

    @property
    def _bucket(self) -> str | None:
        scheme, _, rest = self.root.partition("://")
        return rest if scheme == "s3" else None

    def _path(self, key: str) -> Path:
        return Path(self.root) / key

    def _s3(self) -> Any:
        return boto3.client("s3")
