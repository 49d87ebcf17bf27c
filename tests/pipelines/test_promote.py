"""An approved release is taken over file by file, by digest, and waits for an approval of its own."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from pipelines.functions import promote, register
from pipelines.functions.promote import PromotionRefused
from pipelines.functions.registry import Registration, digest_of

BUCKET, OWN, OWN_GROUP, TABLE = "lake", "prod-lake", "ml-lab-prod-models", "ml-lab-dev-runs"
VERSION = "1.0.42"
CHECKPOINT = "runs/run-1/train/run-1-train/output/model.tar.gz"
WEIGHTS = b"weights"
FILES = {"endpoint/model.tar.gz": b"for the endpoint", "edge-x86/model.zip": b"for the device"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive(weights: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("model.safetensors")
        entry.size = len(weights)
        tar.addfile(entry, io.BytesIO(weights))
    return buffer.getvalue()


MANIFEST = {
    "version": VERSION,
    "model_sha256": sha256(WEIGHTS),
    "contract": {"dataset": "digits", "modality": "image", "task": "classification"},
    "artifacts": [{"target": "cloud-cpu", "format": "onnx-fp32", "chosen": True}],
    "files": {path: sha256(content) for path, content in FILES.items()},
}


@pytest.fixture(autouse=True)
def release(s3: Any, sagemaker: Any, table: Any, put: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release in one environment, and the function in another."""
    s3.create_bucket(Bucket=OWN)
    sagemaker.create_model_package_group(ModelPackageGroupName=OWN_GROUP)
    for path, content in FILES.items():
        put(f"releases/{VERSION}/{path}", content)
    put(f"releases/{VERSION}/manifest.json", MANIFEST)
    put(CHECKPOINT, archive(WEIGHTS))
    for name, value in {
        "SOURCE_GROUP": "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/ml-lab-dev-models",
        "SOURCE_REGION": "us-east-1",
        "PACKAGE_GROUP": OWN_GROUP,
        "SERVE_IMAGE": "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-lab-prod-serve:abc",
        "BUCKET": OWN,
        "TABLE": TABLE,
    }.items():
        monkeypatch.setenv(name, value)
    promote.runtime.cache_clear()
    register.runtime.cache_clear()


def keys() -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket=OWN)
    return [row["Key"] for row in found.get("Contents", [])]


def test_the_copy_waits_here_with_the_same_files_under_the_same_keys(
    event: Callable[[str], Any], package: Callable[..., str], sagemaker: Any, s3: Any, row: Any
) -> None:
    source = package(digest=digest_of(MANIFEST))
    answer = promote.handler(event("promote"), None)
    assert (answer["version"], answer["approval"], answer["source"]) == (VERSION, "PendingManualApproval", source)
    made = sagemaker.describe_model_package(ModelPackageName=answer["model_package"])
    assert made["ModelPackageGroupName"] == OWN_GROUP
    (container,) = made["InferenceSpecification"]["Containers"]
    assert container["Image"].endswith("/ml-lab-prod-serve:abc")
    assert container["ModelDataUrl"] == f"s3://{OWN}/releases/{VERSION}/endpoint/model.tar.gz"
    registration = Registration.of(made)
    assert registration.digest == digest_of(MANIFEST) and registration.checkpoint == f"s3://{OWN}/{CHECKPOINT}"
    for path, content in FILES.items():
        assert s3.get_object(Bucket=OWN, Key=f"releases/{VERSION}/{path}")["Body"].read() == content
    assert json.loads(s3.get_object(Bucket=OWN, Key=f"releases/{VERSION}/manifest.json")["Body"].read()) == MANIFEST
    # The release flow finds the run's row by the run.
    assert row(f"promoted#{VERSION}")["run"] == "run-1" and row(f"promoted#{VERSION}")["source"] == source


def test_the_same_version_again_gives_the_package_that_is_here(package: Callable[..., str], sagemaker: Any) -> None:
    package(digest=digest_of(MANIFEST))
    assert promote.handler({}, None) == promote.handler({}, None)
    found = sagemaker.list_model_packages(ModelPackageGroupName=OWN_GROUP)["ModelPackageSummaryList"]
    assert len(found) == 1


@pytest.mark.parametrize("approval", ["PendingManualApproval", "Rejected"])
def test_what_is_not_approved_there_is_not_taken(package: Callable[..., str], approval: str) -> None:
    package(approval, digest=digest_of(MANIFEST))
    with pytest.raises(PromotionRefused, match="ml-lab-dev-models has no approved model; approve it there first"):
        promote.handler({}, None)
    assert keys() == []


def test_another_version_than_those_there_is_refused(package: Callable[..., str]) -> None:
    package(digest=digest_of(MANIFEST))
    with pytest.raises(PromotionRefused, match=r"no approved version 9\.9\.9"):
        promote.handler({"version": "9.9.9"}, None)


def test_a_package_that_is_older_than_digests_is_refused(package: Callable[..., str]) -> None:
    package(digest="")
    with pytest.raises(PromotionRefused, match="has no digest of its release; run the flow there once more"):
        promote.handler({}, None)


@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        (f"releases/{VERSION}/endpoint/model.tar.gz", b"changed since", r"endpoint/model\.tar\.gz has SHA-256"),
        (f"releases/{VERSION}/manifest.json", {**MANIFEST, "files": {}}, "is not the manifest that"),
        (CHECKPOINT, archive(b"other weights"), "holds other weights"),
    ],
)
def test_what_was_changed_after_the_approval_is_refused_and_never_registered(
    put: Any, package: Callable[..., str], sagemaker: Any, key: str, content: Any, said: str
) -> None:
    package(digest=digest_of(MANIFEST))
    put(key, content)
    with pytest.raises(PromotionRefused, match=said):
        promote.handler({}, None)
    assert sagemaker.list_model_packages(ModelPackageGroupName=OWN_GROUP)["ModelPackageSummaryList"] == []
    assert f"releases/{VERSION}/manifest.json" not in keys()
