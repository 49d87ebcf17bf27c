"""Publishes a gated release below `releases/<version>/` and registers it as a model package that waits for a person.

Event: `{"run", "bucket", "checkpoint", "execution"}`, where `checkpoint` is the S3 URI of the training job's
model.tar.gz. Answer: `{"model_package", "version", "approval"}`. A version is published and registered once: whoever
writes its manifest first has it, and the same model again gives the package and the files that are there. Nothing else
in the flow may write below `releases/`, so what runs is what was approved.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

from pipelines.functions import documents
from pipelines.functions.documents import DocumentError
from pipelines.functions.registry import Registration, digest_of

PENDING = "PendingManualApproval"
MEDIA = ["image/png", "image/jpeg", "text/csv", "application/x-npy", "application/json"]


class VersionTaken(Exception):
    """Another model has the version; the message says whose it is."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one function instance works with."""

    group: str
    image: str
    s3: Any
    sagemaker: Any


@cache
def runtime() -> Runtime:
    """The environment, read once per function instance."""
    return Runtime(
        group=os.environ["PACKAGE_GROUP"],
        image=os.environ["SERVE_IMAGE"],
        s3=boto3.client("s3"),
        sagemaker=boto3.client("sagemaker"),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry."""
    return register(event, runtime())


def register(event: dict[str, Any], here: Runtime) -> dict[str, Any]:
    """The package of the run's version, made if it is not there. Raises DocumentError, VersionTaken."""
    bucket, run = event["bucket"], event["run"]
    exported = documents.read(here.s3, bucket, f"runs/{run}/export/export.json")
    version = str(exported["version"])
    place = f"releases/{version}"
    manifest = _claimed(here, bucket, f"{place}/manifest.json", exported)
    if (there := registered(here, version)) is not None:
        return there
    _publish(here, bucket, place, manifest)
    registration = Registration(
        run=run,
        version=version,
        checkpoint=event["checkpoint"],
        manifest=f"s3://{bucket}/{place}/manifest.json",
        digest=digest_of(manifest),
    )
    return create(here, registration, manifest)


def create(here: Runtime, registration: Registration, manifest: dict[str, Any]) -> dict[str, Any]:
    """A package of a version whose files are there, in the words of the answer; another's that was quicker."""
    try:
        made = here.sagemaker.create_model_package(**_request(here, registration, manifest))
    except ClientError:
        if (there := registered(here, registration.version)) is not None:
            return there
        raise
    return {"model_package": made["ModelPackageArn"], "version": registration.version, "approval": PENDING}


def registered(here: Runtime, version: str) -> dict[str, Any] | None:
    """The package of a version, whatever was decided about it; None when there is none."""
    pages = here.sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=here.group, SortBy="CreationTime", SortOrder="Descending"
    )
    for page in pages:
        for summary in page["ModelPackageSummaryList"]:
            arn = summary["ModelPackageArn"]
            package: dict[str, Any] = here.sagemaker.describe_model_package(ModelPackageName=arn)
            if package.get("CustomerMetadataProperties", {}).get("version") == version:
                return {"model_package": arn, "version": version, "approval": package["ModelApprovalStatus"]}
    return None


def _claimed(here: Runtime, bucket: str, key: str, exported: dict[str, Any]) -> dict[str, Any]:
    """The manifest that stands for the version: this export's where none was written before."""
    if documents.create(here.s3, bucket, key, exported):
        return exported
    first = documents.read(here.s3, bucket, key)
    if first["model_sha256"] != exported["model_sha256"]:
        raise VersionTaken(
            f"s3://{bucket}/{key} is of other weights, by run {first['run']}: two models in 2^28 share a version; "
            "train with another [train] seed"
        )
    return first


def _publish(here: Runtime, bucket: str, place: str, manifest: dict[str, Any]) -> None:
    """Copies the files of a manifest from the export of the run that wrote it."""
    source = f"exports/{manifest['run']}/{manifest['version']}"
    try:
        for path in sorted(manifest["files"]):
            documents.copy(here.s3, bucket, f"{source}/{path}", f"{place}/{path}")
    except DocumentError as error:
        mend = f"nothing is registered yet: delete s3://{bucket}/{place}/manifest.json, and run the flow again"
        raise DocumentError(f"{error}; {mend}") from error


def _request(here: Runtime, registration: Registration, manifest: dict[str, Any]) -> dict[str, Any]:
    chosen = sum(1 for artifact in manifest["artifacts"] if artifact.get("chosen"))
    contract = manifest["contract"]
    return {
        "ModelPackageGroupName": here.group,
        "ModelPackageDescription": (
            f"{contract['dataset']} {registration.version}: {contract['modality']} {contract['task']}, "
            f"{chosen} artefacts"
        ),
        "ModelApprovalStatus": PENDING,
        "InferenceSpecification": {
            "Containers": [{"Image": here.image, "ModelDataUrl": registration.below_release("endpoint/model.tar.gz")}],
            "SupportedContentTypes": MEDIA,
            "SupportedResponseMIMETypes": ["application/json"],
        },
        "CustomerMetadataProperties": registration.metadata(),
        # Two executions that race to the same version get the same package from SageMaker itself.
        "ClientToken": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{here.group}/{registration.version}")),
    }
