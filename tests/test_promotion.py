"""A model goes from one environment to the next on the embedded AWS, by the command that a workflow calls."""

import hashlib
import io
import json
import tarfile
from typing import Any

import boto3
import pytest
from copies import Project

pytestmark = [pytest.mark.slow, pytest.mark.flow]

ACCOUNT, VERSION, WEIGHTS = "123456789012", "1.0.42", b"weights"
SOURCE = f"ml-lab-dev-data-{ACCOUNT}-us-east-1"
CHECKPOINT = "runs/run-1/train/run-1-train/output/model.tar.gz"
FILES = {"endpoint/model.tar.gz": b"for the endpoint", "edge-x86/model.zip": b"for the device"}
MANIFEST = {
    "version": VERSION,
    "model_sha256": hashlib.sha256(WEIGHTS).hexdigest(),
    "contract": {"dataset": "digits", "modality": "image", "task": "classification"},
    "artifacts": [{"target": "cloud-cpu", "format": "onnx-fp32", "chosen": True}],
    "files": {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()},
}


def digest() -> str:
    """As the source's registry has it: of version, weights and files."""
    known = {key: MANIFEST[key] for key in ("version", "model_sha256", "files")}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def checkpoint() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("model.safetensors")
        entry.size = len(WEIGHTS)
        tar.addfile(entry, io.BytesIO(WEIGHTS))
    return buffer.getvalue()


class Source:
    """The environment that the model comes from: its bucket and its registry."""

    def __init__(self, where: dict[str, str]) -> None:
        self._given = {
            "endpoint_url": where["AWS_ENDPOINT_URL"],
            "region_name": "us-east-1",
            "aws_access_key_id": where["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": where["AWS_SECRET_ACCESS_KEY"],
        }
        s3 = self.client("s3")
        s3.create_bucket(Bucket=SOURCE)
        for path, content in FILES.items():
            s3.put_object(Bucket=SOURCE, Key=f"releases/{VERSION}/{path}", Body=content)
        s3.put_object(Bucket=SOURCE, Key=f"releases/{VERSION}/manifest.json", Body=json.dumps(MANIFEST))
        s3.put_object(Bucket=SOURCE, Key=CHECKPOINT, Body=checkpoint())
        self.client("sagemaker").create_model_package_group(ModelPackageGroupName="ml-lab-dev-models")

    def client(self, service: str) -> Any:
        return boto3.client(service, **self._given)

    def approve(self) -> str:
        artifact = f"s3://{SOURCE}/releases/{VERSION}/endpoint/model.tar.gz"
        made = self.client("sagemaker").create_model_package(
            ModelPackageGroupName="ml-lab-dev-models",
            ModelApprovalStatus="Approved",
            InferenceSpecification={
                "Containers": [{"Image": "serve:1", "ModelDataUrl": artifact}],
                "SupportedContentTypes": ["image/png"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
            CustomerMetadataProperties={
                "run": "run-1",
                "version": VERSION,
                "checkpoint": f"s3://{SOURCE}/{CHECKPOINT}",
                "manifest": f"s3://{SOURCE}/releases/{VERSION}/manifest.json",
                "digest": digest(),
            },
        )
        return str(made["ModelPackageArn"])


def test_prod_takes_what_dev_approved_and_nothing_else(project: Project) -> None:
    tables = '\n[environments.dev]\n\n[environments.prod]\npromote_from = "dev"\n'
    project.edit("lab.toml", lambda text: text + tables)
    done = project.lab("up", "--port", "0", "--environment", "prod")
    assert done.returncode == 0, done.stderr
    try:
        where = json.loads(project.lab("env", "--json").stdout)
        source = Source(where)
        refused = project.lab("promote", "--endpoint", "local", "--environment", "prod")
        assert refused.returncode == 1 and "has no approved model; approve it there first" in refused.stderr
        package = source.approve()
        done = project.lab("promote", "--endpoint", "local", "--environment", "prod", "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert (said["version"], said["approval"], said["source"]) == (VERSION, "PendingManualApproval", package)
        assert ":model-package/ml-lab-prod-models/1" in said["model_package"]
        status = json.loads(project.lab("status", "--json").stdout)
        assert [row["approval"] for row in status["packages"]] == ["PendingManualApproval"]
        own = status["stack"]["outputs"]["DataBucket"]
        copied = source.client("s3").get_object(Bucket=own, Key=f"releases/{VERSION}/edge-x86/model.zip")
        assert own != SOURCE and copied["Body"].read() == FILES["edge-x86/model.zip"]
        none = project.lab("promote", "--endpoint", "local", "--environment", "dev")
        assert none.returncode == 1 and "there is no function ml-lab-dev-promote" in none.stderr
    finally:
        assert project.lab("down").returncode == 0
