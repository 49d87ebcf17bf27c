"""Registers a gated release as a model package that waits for a person's approval.

Event: `{"run", "bucket", "checkpoint", "execution"}`, where `checkpoint` is the S3 URI of the training job's
model.tar.gz. Answer: `{"model_package", "version", "approval"}`. A version is
registered once: the same weights again give the package that is there.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3

from pipelines.functions import documents
from pipelines.functions.registry import Registration, digest_of

PENDING = "PendingManualApproval"
MEDIA = ["image/png", "image/jpeg", "text/csv", "application/x-npy", "application/json"]


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
    """The package of the run's version, made if it is not there. Raises DocumentError."""
    bucket, run = event["bucket"], event["run"]
    manifest = documents.read(here.s3, bucket, f"runs/{run}/export/export.json")
    version = str(manifest["version"])
    registration = Registration(
        run=run,
        version=version,
        checkpoint=event["checkpoint"],
        manifest=f"s3://{bucket}/releases/{version}/manifest.json",
        digest=digest_of(manifest),
    )
    return ensure(here, registration, manifest)


def ensure(here: Runtime, registration: Registration, manifest: dict[str, Any]) -> dict[str, Any]:
    """The package of a version, made if it is not there, in the words of the answer.

    Where nobody has decided yet, a run that trained the same weights again gets a package of its own: it has written
    the release's files anew, and an approval stands for files.
    """
    there = _newest(here, registration.version)
    if there is not None and (there["ModelApprovalStatus"] != PENDING or _digest(there) == registration.digest):
        return _answer(there, registration.version)
    again = f"/{registration.digest}" if there is not None else ""
    made = here.sagemaker.create_model_package(**_request(here, registration, manifest, again))
    return {"model_package": made["ModelPackageArn"], "version": registration.version, "approval": PENDING}


def registered(here: Runtime, version: str) -> dict[str, Any] | None:
    """The newest package of a version, whatever was decided about it; None when there is none."""
    there = _newest(here, version)
    return None if there is None else _answer(there, version)


def _newest(here: Runtime, version: str) -> dict[str, Any] | None:
    pages = here.sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=here.group, SortBy="CreationTime", SortOrder="Descending"
    )
    for page in pages:
        for summary in page["ModelPackageSummaryList"]:
            arn = summary["ModelPackageArn"]
            package: dict[str, Any] = here.sagemaker.describe_model_package(ModelPackageName=arn)
            if package.get("CustomerMetadataProperties", {}).get("version") == version:
                return package
    return None


def _digest(package: dict[str, Any]) -> str:
    return str(package["CustomerMetadataProperties"].get("digest", ""))


def _answer(package: dict[str, Any], version: str) -> dict[str, Any]:
    return {
        "model_package": package["ModelPackageArn"],
        "version": version,
        "approval": package["ModelApprovalStatus"],
    }


def _request(here: Runtime, registration: Registration, manifest: dict[str, Any], again: str) -> dict[str, Any]:
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
        "ClientToken": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{here.group}/{registration.version}{again}")),
    }
