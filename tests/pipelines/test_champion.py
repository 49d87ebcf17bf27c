"""The challenger is measured against the package that was approved last."""

import io
import tarfile
from pathlib import Path
from typing import Any

import boto3
import pytest

from pipelines.jobs import champion
from pipelines.jobs.folders import ArchiveError

GROUP = "ml-lab-dev-models"


def fetch(into: Path) -> Path | None:
    return champion.fetch(boto3.client("sagemaker"), boto3.client("s3"), GROUP, into)


def checkpoint(weights: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("model.safetensors")
        member.size = len(weights)
        tar.addfile(member, io.BytesIO(weights))
    return packed.getvalue()


def test_before_the_first_approval_there_is_no_champion(package: Any, tmp_path: Path) -> None:
    package("PendingManualApproval")
    package("Rejected")
    assert fetch(tmp_path) is None


def test_the_newest_approved_package_is_the_champion(package: Any, put: Any, tmp_path: Path) -> None:
    put("old.tar.gz", checkpoint(b"old"))
    put("new.tar.gz", checkpoint(b"new"))
    package(checkpoint="s3://lake/old.tar.gz")
    package(checkpoint="s3://lake/new.tar.gz")
    package("Rejected", checkpoint="s3://lake/rejected.tar.gz")
    found = fetch(tmp_path)
    assert found is not None
    assert (found / "model.safetensors").read_bytes() == b"new"


def test_an_approved_package_that_hides_its_checkpoint_is_an_error(sagemaker: Any, tmp_path: Path) -> None:
    sagemaker.create_model_package(ModelPackageGroupName=GROUP, ModelApprovalStatus="Approved")
    with pytest.raises(champion.ChampionError, match="has no 'checkpoint'"):
        fetch(tmp_path)


def test_a_broken_checkpoint_is_an_error(package: Any, put: Any, tmp_path: Path) -> None:
    put("broken.tar.gz", b"not an archive")
    package(checkpoint="s3://lake/broken.tar.gz")
    with pytest.raises(ArchiveError, match="cannot be unpacked"):
        fetch(tmp_path)
