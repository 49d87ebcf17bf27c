"""Turns bundles into files that the CDK stages as assets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from infra.bundles import Bundle
from infra.permissions import Allow


class Staging:
    """Archives of one synthesis: written once into `folder`, looked up by bundle."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self._folder = folder
        self._digests: dict[str, str] = {}

    def archive(self, bundle: Bundle, extra: Mapping[str, bytes] | None = None) -> Path:
        """The bundle's archive as a file."""
        return self.write(f"{bundle.name}.{bundle.form}", bundle.archive(self.root, extra))

    def script(self, bundle: Bundle) -> Path:
        """The bundle's first entry alone, as a service takes it that starts a script by its own URI."""
        entry = self.root / bundle.entries[0]
        return self.write(f"{bundle.name}-{entry.name}", entry.read_bytes())

    def write(self, name: str, content: bytes) -> Path:
        """`content` as a file that an asset can take."""
        path = self._folder / name
        path.write_bytes(content)
        self._digests[name] = hashlib.sha256(content).hexdigest()
        return path

    def asset(self, scope: Construct, id: str, path: Path) -> s3_assets.Asset:
        """A file asset, referred to by `s3_bucket_name` and `s3_object_key`."""
        return s3_assets.Asset(scope, id, path=str(path))

    def digest(self) -> str:
        """Hex sha256 over everything written so far: the code as one number."""
        lines = "".join(f"{name} {self._digests[name]}\n" for name in sorted(self._digests))
        return hashlib.sha256(lines.encode()).hexdigest()


def uri(asset: s3_assets.Asset) -> str:
    """An asset's `s3://` URI."""
    return f"s3://{asset.s3_bucket_name}/{asset.s3_object_key}"


def object_arn(asset: s3_assets.Asset) -> str:
    """An asset's ARN, for a role that may read this object and no other."""
    return f"{asset.bucket.bucket_arn}/{asset.s3_object_key}"


def find_object(first: s3_assets.Asset, *more: s3_assets.Asset) -> Allow:
    """List these keys alone, as SageMaker does before it reads an input of the type S3Prefix."""
    only = {"StringEquals": {"s3:prefix": [asset.s3_object_key for asset in (first, *more)]}}
    return Allow(actions=["s3:ListBucket"], on=[first.bucket.bucket_arn], when=only)
