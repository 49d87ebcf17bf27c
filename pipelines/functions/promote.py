"""Takes an approved model of another environment over: its files, each by its digest, as a package that waits here.

Event: `{}` for what was approved there last, or `{"version"}`. Answer: `{"model_package", "version", "approval",
"source"}`. What the source's approval stands for is the digest of the release (registry.py): files that differ from it
are refused, whoever changed them. Nothing is trained or measured again. The same version again gives the package that
is here.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import IO, Any

import boto3

from pipelines.functions import documents, register
from pipelines.functions.registry import Registration, digest_of

PIECE = 1024 * 1024
WEIGHTS = "model.safetensors"


class PromotionRefused(Exception):
    """There is nothing approved to take, or it is not what was approved; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one function instance works with: `source_…` reach the other environment, `own` registers here."""

    source_group: str
    bucket: str
    table: str
    source_sagemaker: Any
    source_s3: Any
    s3: Any
    dynamodb: Any
    own: register.Runtime


@cache
def runtime() -> Runtime:
    """The environment, read once per function instance."""
    region = os.environ["SOURCE_REGION"]
    return Runtime(
        source_group=os.environ["SOURCE_GROUP"],
        bucket=os.environ["BUCKET"],
        table=os.environ["TABLE"],
        source_sagemaker=boto3.client("sagemaker", region_name=region),
        source_s3=boto3.client("s3", region_name=region),
        s3=boto3.client("s3"),
        dynamodb=boto3.client("dynamodb"),
        own=register.runtime(),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry."""
    return promote(event, runtime())


def promote(event: dict[str, Any], here: Runtime) -> dict[str, Any]:
    """Copies a release and registers it. Raises PromotionRefused, DocumentError, RegistryError."""
    package = _approved(here, str(event.get("version", "")))
    there = Registration.of(package)
    source = {"source": package["ModelPackageArn"]}
    already = register.registered(here.own, there.version)
    if already is not None:
        return {**already, **source}
    if not there.digest:
        raise PromotionRefused(
            f"{package['ModelPackageArn']} has no digest of its release; run the flow there once more"
        )
    manifest = documents.read(here.source_s3, *documents.split(there.manifest))
    if digest_of(manifest) != there.digest:
        raise PromotionRefused(
            f"{there.manifest} is not the manifest that {package['ModelPackageArn']} was approved with"
        )
    for path, digest in sorted(manifest["files"].items()):
        _copy(here, there.below_release(path), digest)
    _copy_checkpoint(here, there.checkpoint, manifest["model_sha256"])
    taken = Registration(
        run=there.run,
        version=there.version,
        checkpoint=_own(here, there.checkpoint),
        manifest=_own(here, there.manifest),
        digest=there.digest,
    )
    documents.write(here.s3, *documents.split(taken.manifest), manifest)
    _note(here, taken, source["source"])
    return {**register.create(here.own, taken, manifest), **source}


def _approved(here: Runtime, version: str) -> dict[str, Any]:
    """The source's newest approved package, or that of a version."""
    for arn in _approved_there(here):
        package: dict[str, Any] = here.source_sagemaker.describe_model_package(ModelPackageName=arn)
        if not version or package.get("CustomerMetadataProperties", {}).get("version") == version:
            return package
    what = f"version {version}" if version else "model"
    raise PromotionRefused(f"{here.source_group} has no approved {what}; approve it there first")


def _approved_there(here: Runtime) -> Iterator[str]:
    pages = here.source_sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=here.source_group,
        ModelApprovalStatus="Approved",
        SortBy="CreationTime",
        SortOrder="Descending",
    )
    for page in pages:
        for summary in page["ModelPackageSummaryList"]:
            yield summary["ModelPackageArn"]


def _copy(here: Runtime, uri: str, digest: str) -> None:
    """One object into this environment's bucket, under the key that it has there, if its content is as approved."""
    with _fetched(here, uri) as file:
        found = hashlib.sha256()
        while piece := file.read(PIECE):
            found.update(piece)
        if found.hexdigest() != digest:
            raise PromotionRefused(f"{uri} has SHA-256 {found.hexdigest()[:12]}…, approved was {digest[:12]}…")
        _put(here, uri, file)


def _copy_checkpoint(here: Runtime, uri: str, weights: str) -> None:
    """The training job's archive, whose weights must be those of the release: the next champion is measured with it."""
    with _fetched(here, uri) as file:
        with tarfile.open(fileobj=file, mode="r:gz") as archive:
            member = archive.extractfile(WEIGHTS)
            found = hashlib.sha256(member.read() if member else b"").hexdigest()
        if found != weights:
            raise PromotionRefused(f"{uri} holds other weights ({found[:12]}…) than the release ({weights[:12]}…)")
        _put(here, uri, file)


def _fetched(here: Runtime, uri: str) -> IO[bytes]:
    bucket, key = documents.split(uri)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's `with` closes it
    here.source_s3.download_fileobj(bucket, key, file)
    file.seek(0)
    return file


def _put(here: Runtime, uri: str, file: IO[bytes]) -> None:
    file.seek(0)
    here.s3.upload_fileobj(file, here.bucket, documents.split(uri)[1])


def _own(here: Runtime, uri: str) -> str:
    return f"s3://{here.bucket}/{documents.split(uri)[1]}"


def _note(here: Runtime, taken: Registration, source: str) -> None:
    """A row like a run's: the release flow looks its run up there."""
    row = {
        "claim": f"promoted#{taken.version}",
        "run": taken.run,
        "version": taken.version,
        "status": "PROMOTED",
        "source": source,
        "updated": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    here.dynamodb.put_item(TableName=here.table, Item={name: {"S": value} for name, value in row.items()})
