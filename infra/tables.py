"""The tables of `lab.toml`, each with its keys, what they mean, and what is allowed there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# What a release can be made for; the endpoint and the desk's devices need the first two.
TARGETS = ("cloud-cpu", "edge-x86", "cloud-gpu", "edge-arm64", "edge-jetson")
REQUIRED = ("cloud-cpu", "edge-x86")
METRICS = (
    "accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision", "log_loss",
    "mae", "rmse", "r2", "nasa_score",
)  # fmt: skip
TASKS = {
    "image": ("classification", "anomaly"),
    "tabular": ("classification", "regression"),
    "timeseries": ("classification", "regression", "rul", "anomaly"),
}

FORMAT = Literal[
    "onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int8-dynamic", "openvino-fp32", "openvino-bf16", "openvino-int8",
    "executorch-fp32", "executorch-int8", "aoti-cpu", "aoti-cuda", "tensorrt-fp16",
]  # fmt: skip
Slug = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
Instance = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+$", max_length=200)]
Account = Annotated[str, Field(pattern=r"^\d{12}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Loss = Annotated[float, Field(ge=0.0)]


class Table(BaseModel):
    """One table of `lab.toml`: unknown keys are refused, values are never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Lab(Table):
    """`[lab]`: what every resource's name starts with, and where it lies.

    The limits keep a bucket's name within 63 characters. With an `account`, the stack goes to that one and no other.
    `promote_from` names the environment whose approved models this one takes, as copies that wait for an approval here.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=16)] = "ml-lab"
    environment: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$", max_length=8)] = "dev"
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] = "us-east-1"
    account: Account | None = None
    promote_from: str | None = None


class Data(Table):
    """`[data]`: the data set whose raw manifest starts the flow, and how it is to be read; `lab adapt` writes it.

    Of pictures: `pixels`, height and width of the tensor; `labels`, a CSV with labels or boxes, and `patch`, the side
    of what is cut around a box. Of tables and series: columns by their role, texts that stand for a missing value, the
    file's own form (`decimal` stands before decimals, `dates` is strptime's pattern of times that are not in ISO 8601);
    `window` and `stride` in rows, `rul_cap` in steps of time, `intervals` a JSON file of time spans.
    """

    dataset: Annotated[Slug, Field(max_length=40)] = "digits"
    path: str | None = None
    modality: Literal["image", "tabular", "timeseries"] = "image"
    task: Literal["classification", "regression", "rul", "anomaly"] = "classification"
    corrupt_share: Share = 0.01
    pixels: Annotated[int, Field(ge=0, le=512)] = 0
    labels: str = ""
    patch: Annotated[int, Field(ge=0, le=4096)] = 0
    target: str = ""
    group: str = ""
    time: str = ""
    exclude: list[str] = []
    categories: list[str] = []
    missing: list[str] = []
    format: Literal["csv", "whitespace", "parquet"] = "csv"
    header: bool = True
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    dates: str = ""
    window: Annotated[int, Field(ge=1, le=10_000)] = 30
    stride: Annotated[int, Field(ge=1, le=10_000)] = 1
    rul_cap: Annotated[int, Field(ge=1)] = 125
    intervals: str = ""


class Train(Table):
    """`[train]`: the net, its training, and the instances of the training and the processing jobs.

    `trials` above 0 searches for hyperparameters with that many trainings; `patience` ends a training after so many
    epochs without a better validation loss, 0 never; `flip` says how pictures may be mirrored. A step learns from
    `accumulate` times `batch` samples, which go through the net in so many parts. `precision` and `compile`
    take bf16 and torch.compile on a GPU alone when they are `auto`. Of several `instances` each takes its share of
    every batch.
    """

    size: Literal["tiny", "base"] = "tiny"
    epochs: Annotated[int, Field(ge=1, le=1000)] = 25
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 17
    trials: Annotated[int, Field(ge=0, le=100)] = 0
    patience: Annotated[int, Field(ge=0, le=1000)] = 10
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    batch: Annotated[int, Field(ge=2, le=65_536)] = 32
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    instance: Instance = "ml.m5.xlarge"
    instances: Annotated[int, Field(ge=1, le=20)] = 1
    processing_instance: Instance = "ml.m5.xlarge"
    spot: bool = False
    max_minutes: Annotated[int, Field(ge=1, le=24 * 60)] = 60
    glue_workers: Annotated[int, Field(ge=2, le=100)] = 2
    mlflow: str = ""


class Gate(Table):
    """`[gate]`: the success criteria. A metric that grows with quality is a minimum, an error is a maximum."""

    accuracy: Share | None = None
    balanced_accuracy: Share | None = None
    macro_f1: Share | None = None
    auroc: Share | None = None
    average_precision: Share | None = None
    log_loss: Loss | None = None
    mae: Loss | None = None
    rmse: Loss | None = None
    r2: Annotated[float, Field(le=1.0)] | None = None
    nasa_score: Loss | None = None
    beat_baseline: bool = True
    ship_baseline: bool = False
    beat_champion: bool = False
    max_metric_drop: Share = 0.01
    min_agreement: Share = 0.995


class Target(Table):
    """`[targets.NAME]`: where an artefact must run, in which formats it may ship, and what it may cost there.

    Every format that makes sense there is measured where its packages are installed; `measure = "allowed"` keeps to
    `formats`. `batch` is what throughput is measured at, `disk_mb` is for the artefact and all that it needs beside it.
    """

    formats: Annotated[list[FORMAT], Field(min_length=1)] = ["onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int8-dynamic"]
    measure: Literal["all", "allowed"] = "all"
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    batch: Annotated[int, Field(ge=1, le=1024)] = 8
    memory_mb: Annotated[int, Field(ge=64)] = 2048
    disk_mb: Annotated[int, Field(ge=1)] | None = None
    p95_ms: Annotated[float, Field(gt=0)] | None = None


class Serving(Table):
    """`[serving]`: a serverless endpoint (nothing to pay when idle) or one that holds an instance.

    Of instances alone: up to `max_instances` by load, each meant for `requests_per_instance` a minute, and
    `capture_percent` of all requests and answers kept below capture/ in the data bucket. `batch` lets the model's role
    read batch/input/ and write batch/output/ there, for transform jobs.

    `delete_at`, such as `20:00` in UTC, deletes an endpoint of instances each day; a release makes it anew.
    """

    serverless: bool = True
    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = 2048
    max_concurrency: Annotated[int, Field(ge=1, le=200)] = 5
    instance: Instance = "ml.m5.large"
    max_instances: Annotated[int, Field(ge=1, le=20)] = 1
    requests_per_instance: Annotated[int, Field(ge=1)] = 6000
    capture_percent: Annotated[int, Field(ge=0, le=100)] = 0
    batch: bool = False
    delete_at: Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d)?$")] = ""


class Edge(Table):
    """`[edge]`: when a deployment stops, when a device has seen too much that is new.

    The canaries are watched for `watch_minutes` (unset: 30 in prod, six seconds elsewhere) and must give
    `watch_answers` each, at most `error_percent` of them errors; one that is silent for `silent_minutes` fails the
    release. Then the fleet receives the model, `rollout_per_minute` devices at first, times `rollout_factor` each time
    that as many have taken it.

    A labelling queue has at most `queue_rows` of the samples that devices sent.

    `devices` and `canaries` say how many cores the desk simulates, and how many of them receive a model first; the
    devices of an account are real, and join the groups that their owner puts them into.

    What the runtime on every device is configured with: the `source` that it looks at, seconds between its telemetry
    (`telemetry_s`), disk for messages that wait (`spool_mb`), space left free (`free_mb`), samples kept for labelling
    in a day (`capture_per_day`, 0 for none) and whether with their content (`capture_inputs`), and the Ed25519 key
    that must have signed a model (`public_key`, 32 bytes in base64; docs/edge.md). edge/settings.py says more.
    """

    devices: Annotated[int, Field(ge=1, le=50)] = 5
    canaries: Annotated[int, Field(ge=1, le=49)] = 1
    drift_psi: Annotated[float, Field(gt=0)] = 0.25
    abort_failed_percent: Annotated[float, Field(gt=0, le=100)] = 10.0
    timeout_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] = 60
    watch_minutes: Annotated[float, Field(gt=0, le=12 * 60)] | None = None
    watch_answers: Annotated[int, Field(ge=1)] = 1
    error_percent: Annotated[float, Field(ge=0, lt=100)] = 1.0
    silent_minutes: Annotated[float, Field(ge=1, le=12 * 60)] = 5.0
    rollout_per_minute: Annotated[int, Field(ge=1, le=1000)] = 10
    rollout_factor: Annotated[float, Field(ge=1.1, le=5)] = 2.0
    queue_rows: Annotated[int, Field(ge=1, le=2_000)] = 200
    source: Annotated[str, Field(min_length=1, max_length=500)] = "inbox"
    telemetry_s: Annotated[float, Field(ge=0.1, le=86_400)] = 60.0
    spool_mb: Annotated[float, Field(ge=1, le=10_000)] = 8.0
    free_mb: Annotated[int, Field(ge=0)] = 16
    capture_per_day: Annotated[int, Field(ge=0, le=100_000)] = 0
    capture_inputs: bool = True
    public_key: Annotated[str, Field(pattern=r"^([A-Za-z0-9+/]{43}=)?$")] = ""


class Budget(Table):
    """`[budget]`: US dollars a run and a month may cost; `email` also receives the alarms."""

    run_usd: Annotated[float, Field(gt=0)] = 5.0
    month_usd: Annotated[float, Field(gt=0)] = 100.0
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")] | None = None


class Delivery(Table):
    """`[delivery]`: what deploys the stack from a repository; nothing does, unless one is named.

    `github` is `owner/name`: its workflows get a role without keys. `provider` is "existing" where the account has
    GitHub's identity provider already, for there can be one only. Without GitHub, a CodePipeline: `connection` is the
    ARN of a CodeConnections connection, `repository` its `group/name`, `branch` what is deployed from it.
    """

    github: Repository | None = None
    provider: Literal["create", "existing"] = "create"
    connection: Annotated[str, Field(pattern=r"^arn:[a-z-]+:code(star-)?connections:")] | None = None
    repository: Repository | None = None
    branch: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]+$", max_length=200)] = "main"


class Place(Table):
    """Where an environment of the same lab lies, and from which one it takes models."""

    name: str
    region: str
    account: Account | None = None
    promote_from: str | None = None


class Security(Table):
    """`[security]`: where jobs and functions run.

    `network = "none"` leaves them in AWS's service network; `"vpc"` puts them into private subnets that reach AWS
    services through endpoints and nothing else, which are billed by the hour (infra/network.py).
    """

    network: Literal["none", "vpc"] = "none"
