"""Fetches the champion, the model approved last, to measure a challenger against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.jobs.folders import unpack


class ChampionError(Exception):
    """The approved package does not say where its checkpoint is."""


def fetch(sagemaker: Any, s3: Any, group: str, into: Path) -> Path | None:
    """The unpacked checkpoint of the newest approved package of `group` in `into`, None when nothing is approved yet.

    Raises ChampionError, ArchiveError.
    """
    found = sagemaker.list_model_packages(
        ModelPackageGroupName=group,
        ModelApprovalStatus="Approved",
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=1,
    )["ModelPackageSummaryList"]
    if not found:
        return None
    arn = found[0]["ModelPackageArn"]
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    bucket, _, key = (
        package.get("CustomerMetadataProperties", {}).get("checkpoint", "").removeprefix("s3://").partition("/")
    )
    if not key:
        raise ChampionError(
            f"{arn} is approved, but its metadata has no 'checkpoint' (an s3:// URI) to compare with; "
            "add it with update-model-package, or reject the package"
        )
    into.mkdir(parents=True, exist_ok=True)
    archive = into / "model.tar.gz"
    s3.download_file(bucket, key, str(archive))
    return unpack(archive, into / "checkpoint")
