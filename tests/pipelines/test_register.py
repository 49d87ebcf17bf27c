"""A gated release is registered once, pending a person's approval, with all that later steps need."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

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


PATHS = ("edge-x86/model.zip", "endpoint/model.tar.gz")


def content(s3: Any, path: str) -> bytes:
    """Of a file of the release."""
    body: bytes = s3.get_object(Bucket="lake", Key=f"releases/1.0.42/{path}")["Body"].read()
    return body


@pytest.fixture(autouse=True)
def environment(s3: Any, sagemaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKAGE_GROUP", "ml-lab-dev-models")
    monkeypatch.setenv("SERVE_IMAGE", "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-lab-dev-serve:abc")
    register.runtime.cache_clear()


@pytest.fixture
def exported(put: Any) -> Callable[..., dict[str, Any]]:
    """Puts what a run exports into the lake; answers its manifest."""

    def export(number: int, **about: Any) -> dict[str, Any]:
        run, content = f"run-{number}", str(number)
        files = {path: hashlib.sha256(content.encode()).hexdigest() for path in PATHS}
        manifest = {**MANIFEST, "run": run, "files": files, **about}
        put(f"runs/{run}/export/export.json", manifest)
        for path in PATHS:
            put(f"exports/{run}/{manifest['version']}/{path}", content.encode())
        return manifest

    return export


@pytest.fixture
def registers(event: Event, exported: Any) -> Callable[..., dict[str, Any]]:
    """Registers what a run exports."""

    def register_run(number: int, **about: Any) -> dict[str, Any]:
        exported(number, **about)
        return register.handler({**event("register"), "run": f"run-{number}"}, None)

    return register_run


def test_the_package_waits_for_approval_and_knows_where_it_comes_from(
    event: Event, exported: Any, sagemaker: Any
) -> None:
    manifest = exported(1)
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
        "digest": digest_of(manifest),
    }
    container = package["InferenceSpecification"]["Containers"][0]
    assert container["Image"].endswith("/ml-lab-dev-serve:abc")
    assert container["ModelDataUrl"] == "s3://lake/releases/1.0.42/endpoint/model.tar.gz"


@pytest.mark.parametrize("decision", ["PendingManualApproval", "Approved", "Rejected"])
def test_the_same_model_again_gives_the_package_and_the_files_that_are_there(
    registers: Any, s3: Any, sagemaker: Any, decision: str
) -> None:
    first = registers(1)
    # Stock moto forgets the metadata of an updated package unless it is sent again.
    metadata = sagemaker.describe_model_package(ModelPackageName=first["model_package"])["CustomerMetadataProperties"]
    sagemaker.update_model_package(
        ModelPackageArn=first["model_package"], ModelApprovalStatus=decision, CustomerMetadataProperties=metadata
    )
    assert registers(2) == {**first, "approval": decision}
    found = sagemaker.list_model_packages(ModelPackageGroupName="ml-lab-dev-models")["ModelPackageSummaryList"]
    assert len(found) == 1
    assert {content(s3, path) for path in PATHS} == {b"1"}
    assert json.loads(content(s3, "manifest.json"))["run"] == "run-1"


def test_a_release_that_was_broken_off_is_completed_with_the_files_of_the_run_that_began_it(
    registers: Any, exported: Any, s3: Any, sagemaker: Any
) -> None:
    begun = exported(1)
    s3.put_object(Bucket="lake", Key="releases/1.0.42/manifest.json", Body=json.dumps(begun))
    package = sagemaker.describe_model_package(ModelPackageName=registers(2)["model_package"])
    known = package["CustomerMetadataProperties"]
    assert (known["run"], known["digest"]) == ("run-2", digest_of(begun)), "who registers is who has the row"
    assert {content(s3, path) for path in PATHS} == {b"1"}


def test_an_export_whose_files_are_gone_is_not_registered(event: Event, put: Any, sagemaker: Any) -> None:
    put("runs/run-1/export/export.json", MANIFEST)
    with pytest.raises(DocumentError) as told:
        register.handler(event("register"), None)
    assert "s3://lake/exports/run-1/1.0.42/endpoint/model.tar.gz cannot be copied" in str(told.value)
    assert "delete s3://lake/releases/1.0.42/manifest.json, and run the flow again" in str(told.value)
    assert not sagemaker.list_model_packages(ModelPackageGroupName="ml-lab-dev-models")["ModelPackageSummaryList"]


def test_one_that_another_execution_registers_meanwhile_is_that_one_s(
    exported: Any, event: Event, sagemaker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(1)
    here, won = register.runtime(), []

    class Slow:
        """SageMaker, which is asked by another execution first and then refuses the token with other words."""

        def __getattr__(self, name: str) -> Any:
            return getattr(sagemaker, name)

        def create_model_package(self, **given: Any) -> None:
            won.append(sagemaker.create_model_package(**given)["ModelPackageArn"])
            raise ClientError({"Error": {"Code": "ValidationException"}}, "CreateModelPackage")

    answer = register.register(event("register"), dataclasses.replace(here, sagemaker=Slow()))
    assert [answer["model_package"]] == won


def test_another_version_is_another_package(registers: Any) -> None:
    assert registers(1)["model_package"] != registers(2, version="1.0.43")["model_package"]


def test_other_weights_under_a_version_that_is_taken_are_refused(registers: Any, s3: Any) -> None:
    registers(1)
    with pytest.raises(
        register.VersionTaken, match=r"releases/1\.0\.42/manifest\.json is of other weights, by run run-1"
    ):
        registers(2, model_sha256="ef" * 32)
    assert content(s3, PATHS[0]) == b"1"


def test_a_run_without_an_export_is_refused_by_the_object_s_name(event: Event) -> None:
    with pytest.raises(DocumentError, match=r"s3://lake/runs/run-1/export/export.json cannot be read"):
        register.handler(event("register"), None)
