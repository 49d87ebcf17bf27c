"""A data bucket, a run table and a model registry in moto, the canonical events, and a Greengrass that answers."""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from models.contract import Contract
from pipelines.jobs import export, train

EVENTS = Path(__file__).parents[1] / "events"
GROUP = "ml-lab-dev-models"
TABLE = "ml-lab-dev-runs"
BUCKET = "lake"
VERSION = "1.0.42"


@pytest.fixture
def event() -> Callable[[str], dict[str, Any]]:
    def load(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text("utf-8"))
        return found

    return load


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_SESSION_TOKEN": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        yield


@pytest.fixture
def s3(aws: None) -> Any:
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def put(s3: Any) -> Callable[[str, Any], None]:
    """Puts a document, or text as it is, into the bucket."""

    def put(key: str, document: Any) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    return put


@pytest.fixture
def get(s3: Any) -> Callable[[str], Any]:
    return lambda key: json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())


@pytest.fixture
def sagemaker(aws: None) -> Any:
    client = boto3.client("sagemaker")
    client.create_model_package_group(ModelPackageGroupName=GROUP)
    return client


@pytest.fixture
def package(sagemaker: Any) -> Callable[..., str]:
    """Registers a package as the flow does and returns its ARN."""

    def package(approval: str = "Approved", **metadata: str) -> str:
        known = {
            "run": "run-1",
            "version": VERSION,
            "checkpoint": f"s3://{BUCKET}/runs/run-1/train/run-1-train/output/model.tar.gz",
            "manifest": f"s3://{BUCKET}/releases/{VERSION}/manifest.json",
            "digest": "0" * 64,
        }
        made = sagemaker.create_model_package(
            ModelPackageGroupName=GROUP,
            ModelApprovalStatus=approval,
            InferenceSpecification={
                "Containers": [
                    {"Image": "serve:1", "ModelDataUrl": f"s3://{BUCKET}/releases/{VERSION}/endpoint/model.tar.gz"}
                ],
                "SupportedContentTypes": ["image/png"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
            CustomerMetadataProperties={key: value for key, value in {**known, **metadata}.items() if value},
        )
        return str(made["ModelPackageArn"])

    return package


@pytest.fixture
def table(aws: None) -> Any:
    """The run table as a client; `rows` and `row` read it."""
    client = boto3.client("dynamodb")
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "claim", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "claim", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return client


@pytest.fixture
def claim(table: Any) -> Callable[..., None]:
    """Claims an input for a run, as the flow's state Claim does."""

    def claim(claim: str = "d1#c1#", run: str = "run-1", status: str = "RUNNING", **more: str) -> None:
        item = {"claim": claim, "run": run, "status": status, "dataset": "digits", **more}
        table.put_item(TableName=TABLE, Item={name: {"S": value} for name, value in item.items()})

    return claim


@pytest.fixture
def row(table: Any) -> Callable[..., dict[str, str]]:
    def row(claim: str = "d1#c1#") -> dict[str, str]:
        item = table.get_item(TableName=TABLE, Key={"claim": {"S": claim}}).get("Item", {})
        return {name: value["S"] for name, value in item.items()}

    return row


class Greengrass:
    """Greengrass's control plane as far as one component needs it; moto has none."""

    class exceptions:
        class ConflictException(ClientError):
            pass

    def __init__(self, states: list[str]) -> None:
        self.recipes: dict[str, dict[str, Any]] = {}
        self.deployments: list[dict[str, Any]] = []
        self._states = states

    def create_component_version(self, *, inlineRecipe: bytes) -> dict[str, Any]:
        recipe = json.loads(inlineRecipe)
        name, version = recipe["ComponentName"], recipe["ComponentVersion"]
        arn = f"arn:aws:greengrass:us-east-1:123456789012:components:{name}:versions:{version}"
        if arn in self.recipes:
            body: Any = {"Error": {"Code": "ConflictException", "Message": "it is there"}}
            raise self.exceptions.ConflictException(body, "CreateComponentVersion")
        self.recipes[arn] = recipe
        return {"arn": arn, "componentName": name, "componentVersion": version}

    def deploy(self, target: str, **components: str) -> None:
        """A deployment to a group, newer than all before; versions by component name."""
        wanted = {name: {"componentVersion": version} for name, version in components.items()}
        self.deployments.append({"target": target, "components": wanted})

    def get_paginator(self, name: str) -> Any:
        assert name == "list_deployments"
        return self

    def paginate(self, *, targetArn: str, historyFilter: str) -> Iterator[dict[str, Any]]:
        """One row to a page, oldest first, as nobody promises an order."""
        assert historyFilter == "ALL"
        for number, row in enumerate(self.deployments):
            if row["target"] == targetArn:
                yield {"deployments": [{"deploymentId": str(number), "creationTimestamp": number}]}

    def get_deployment(self, *, deploymentId: str) -> dict[str, Any]:
        return {"deploymentId": deploymentId, "components": self.deployments[int(deploymentId)]["components"]}

    def describe_component(self, *, arn: str) -> dict[str, Any]:
        assert arn in self.recipes
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return {"arn": arn, "status": {"componentState": state, "message": "as the service says"}}


@pytest.fixture
def greengrass() -> Callable[..., Greengrass]:
    """A Greengrass whose component goes through the given states."""
    return lambda *states: Greengrass(list(states) or ["DEPLOYABLE"])


# A small data set as the ETL leaves it, and what train and export make of it, once per session.


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two easy classes, bright and dark, 12x12, as curated Parquet with a contract."""
    folder = tmp_path_factory.mktemp("curated")
    rng = np.random.default_rng(17)
    counts: dict[str, dict[str, int]] = {}
    for split, each in (("train", 32), ("validation", 12), ("test", 16)):
        labels = np.arange(2 * each) % 2
        pixels = rng.integers(0, 90, (2 * each, 1, 12, 12)) + 130 * labels[:, None, None, None]
        rows = {
            "id": [hashlib.sha256(sample.tobytes()).hexdigest() for sample in pixels],
            "source": [f"{label}/{split}-{at}.png" for at, label in enumerate(labels)],
            "label": labels.astype(np.int32),
            "label_name": [("dark", "bright")[label] for label in labels],
            "tensor": [sample.astype(np.uint8).tobytes() for sample in pixels],
        }
        (folder / split).mkdir()
        pq.write_table(pa.table(rows), folder / split / "part-00000.snappy.parquet")
        counts[split] = {"dark": each, "bright": each}
    Contract(
        schema=2,
        dataset="lamps",
        modality="image",
        task="classification",
        shape=(1, 12, 12),
        classes=("dark", "bright"),
        mean=(110.0,),
        std=(70.0,),
        counts=counts,
        profile={},
    ).save(folder / "contract.json")
    return folder


@pytest.fixture(scope="session")
def trained(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a processing job: `model/model.tar.gz` from our training job, `curated`, and room for the rest."""
    processing = tmp_path_factory.mktemp("ml") / "processing"
    model = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SM_CHANNEL_CURATED", str(curated))
        patch.setenv("SM_MODEL_DIR", str(model))
        patch.setenv("CHECKPOINT_DIR", str(tmp_path_factory.mktemp("checkpoints")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert (
            train.main(["--size", "tiny", "--epochs", "10", "--batch", "8", "--seed", "17", "--execution", "run-1"])
            == 0
        )
    (processing / "model").mkdir(parents=True)
    with tarfile.open(processing / "model" / "model.tar.gz", "w:gz") as tar:
        for path in sorted(model.iterdir()):
            tar.add(path, path.name)
    shutil.copytree(curated, processing / "curated")
    return processing


@pytest.fixture(scope="session")
def released(trained: Path) -> Path:
    """The same folder after the export job for both targets."""
    target = {"formats": ["onnx-fp32"], "threads": 1, "memory_mb": 512, "p95_ms": 500.0, "measure": "allowed"}
    targets = json.dumps({"cloud-cpu": target, "edge-x86": target})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGEMAKER_BASE_DIR", str(trained.parent))
        assert export.main(["--run", "run-1", "--targets", targets]) == 0
    return trained
