"""A gated release is registered once, pending a person's approval, with all that later steps need."""

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.functions import register
from pipelines.functions.documents import DocumentError
from pipelines.functions.registry import digest_of

Event = Callable[[str], dict[str, Any]]
MANIFEST = {
    "schema": 1,
    "version": "1.0.42",
    "run": "run-1",
    "model_sha256": "ab" * 32,
    "contract": {"dataset": "digits", "modality": "image", "task": "classification", "classes": ["0", "1"]},
    "artifacts": [{"target": "cloud-cpu", "format": "onnx-fp32", "chosen": True}],
    "files": {"endpoint/model.tar.gz": "cd" * 32},
}


@pytest.fixture(autouse=True)
def environment(s3: Any, sagemaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKAGE_GROUP", "ml-lab-dev-models")
    monkeypatch.setenv("SERVE_IMAGE", "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-lab-dev-serve:abc")
    register.runtime.cache_clear()


def test_the_package_waits_for_approval_and_knows_where_it_comes_from(event: Event, put: Any, sagemaker: Any) -> None:
    put("runs/run-1/export/export.json", MANIFEST)
    answer = register.handler(event("register"), None)
    package = sagemaker.describe_model_package(ModelPackageName=answer["model_package"])
    assert answer == {
        "model_package": package["ModelPackageArn"],
        "version": "1.0.42",
        "approval": "PendingManualApproval",
    }
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    assert package["CustomerMetadataProperties"] == {
        "run": "run-1",
        "version": "1.0.42",
        "checkpoint": "s3://lake/runs/run-1/train/run-1-train/output/model.tar.gz",
        "manifest": "s3://lake/releases/1.0.42/manifest.json",
        "digest": digest_of(MANIFEST),
    }
    container = package["InferenceSpecification"]["Containers"][0]
    assert container["Image"].endswith("/ml-lab-dev-serve:abc")
    assert container["ModelDataUrl"] == "s3://lake/releases/1.0.42/endpoint/model.tar.gz"


@pytest.mark.parametrize("decision", ["PendingManualApproval", "Approved", "Rejected"])
def test_the_same_weights_again_give_the_package_that_is_there(
    event: Event, put: Any, sagemaker: Any, decision: str
) -> None:
    put("runs/run-1/export/export.json", MANIFEST)
    put("runs/run-2/export/export.json", {**MANIFEST, "run": "run-2"})
    first = register.handler(event("register"), None)
    # Stock moto forgets the metadata of an updated package unless it is sent again.
    metadata = sagemaker.describe_model_package(ModelPackageName=first["model_package"])["CustomerMetadataProperties"]
    sagemaker.update_model_package(
        ModelPackageArn=first["model_package"], ModelApprovalStatus=decision, CustomerMetadataProperties=metadata
    )
    again = register.handler({**event("register"), "run": "run-2"}, None)
    assert again == {**first, "approval": decision}
    found = sagemaker.list_model_packages(ModelPackageGroupName="ml-lab-dev-models")["ModelPackageSummaryList"]
    assert len(found) == 1


def test_files_that_were_written_anew_wait_in_a_package_of_their_own_unless_it_is_decided(
    event: Event, put: Any, sagemaker: Any
) -> None:
    def run(number: int) -> dict[str, Any]:
        files = {"edge-x86/model.zip": str(number) * 64}
        put(f"runs/run-{number}/export/export.json", {**MANIFEST, "run": f"run-{number}", "files": files})
        return register.handler({**event("register"), "run": f"run-{number}"}, None)

    first, second = run(1), run(2)
    assert first["model_package"] != second["model_package"] and first["version"] == second["version"]
    assert run(2) == second, "a retry finds its own"
    known = sagemaker.describe_model_package(ModelPackageName=second["model_package"])["CustomerMetadataProperties"]
    assert known["run"] == "run-2"
    sagemaker.update_model_package(
        ModelPackageArn=second["model_package"], ModelApprovalStatus="Approved", CustomerMetadataProperties=known
    )
    assert run(3) == {**second, "approval": "Approved"}


def test_other_weights_are_another_package(event: Event, put: Any) -> None:
    put("runs/run-1/export/export.json", MANIFEST)
    put("runs/run-2/export/export.json", {**MANIFEST, "version": "1.0.43"})
    first = register.handler(event("register"), None)
    second = register.handler({**event("register"), "run": "run-2"}, None)
    assert first["model_package"] != second["model_package"]


def test_a_run_without_an_export_is_refused_by_the_object_s_name(event: Event) -> None:
    with pytest.raises(DocumentError, match=r"s3://lake/runs/run-1/export/export.json cannot be read"):
        register.handler(event("register"), None)
