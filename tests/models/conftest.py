"""Rendered pictures, curated as the ETL leaves them, and what one short training and one release make of them."""

import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models import datasets, drift, features, tables, train
from models.contract import ANOMALY, Column, Contract, Target
from models.export import release

SEED = 17
SPLITS = ("train", "validation", "test")
# Generous: these tests are not about this machine's speed, nor about what else could be measured.
QUICK = {"threads": 1, "batch": 4, "p95_ms": 5000.0, "measure": "allowed"}
TARGETS = {
    "cloud-cpu": {"formats": ["onnx-fp32"], **QUICK},
    "edge-x86": {"formats": ["onnx-fp32", "tflite-int8"], **QUICK},
}


def curate(raw: Path, out: Path, manifest: Mapping[str, Any], shape: tuple[int, int, int]) -> Path:
    """What the ETL makes of a raw data set, in a few lines: Parquet by split, and the contract."""
    classes = tuple(manifest["classes"])
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in manifest["files"]:
        tensor = features.decode((raw / file["path"]).read_bytes(), shape)
        name = features.sample_id(tensor)
        about = {"label": classes.index(file["label"]), "label_name": file["label"]}
        row = {"id": name, "source": file["path"], **about, "tensor": tensor.tobytes()}
        rows[features.split_of(name, SEED)].append(row)
    for split in SPLITS:
        (out / split).mkdir(parents=True)
        table = pa.Table.from_pylist(rows[split])
        table = table.set_column(2, "label", table["label"].cast(pa.int32()))
        half = table.num_rows // 2
        pq.write_table(table.slice(0, half), out / split / "part-0.parquet")
        pq.write_table(table.slice(half), out / split / "part-1.parquet")
    seen = np.stack([np.frombuffer(row["tensor"], np.uint8).reshape(shape) for row in rows["train"]])
    contract_of(seen, classes, rows, manifest["dataset"]).save(out / "contract.json")
    return out


def contract_of(
    seen: np.ndarray, classes: tuple[str, ...], rows: Mapping[str, list[dict[str, Any]]], dataset: str
) -> Contract:
    profile = {}
    for name, values in drift.summarize(seen).items():
        edges = np.linspace(values.min(), values.max(), 6)
        shares = drift.histogram(values, edges) / len(values)
        profile[name] = {"edges": edges.tolist(), "shares": shares.tolist()}
    counts = {
        split: {name: sum(row["label_name"] == name for row in rows[split]) for name in classes} for split in SPLITS
    }
    return Contract(
        schema=2,
        dataset=dataset,
        modality="image",
        task="classification",
        shape=tuple(seen.shape[1:]),
        classes=classes,
        mean=tuple(float(value) for value in seen.mean((0, 2, 3))),
        std=tuple(float(value) for value in seen.std((0, 2, 3))),
        counts=counts,
        profile=profile,
    )


def write_curated(
    folder: Path,
    tensors: np.ndarray,
    labels: np.ndarray,
    splits: np.ndarray,
    groups: np.ndarray | None = None,
    **about: Any,
) -> Path:
    """Samples of a table or series as the ETL leaves them: `splits` says where each is, `about` the contract."""
    classes = about.setdefault("classes", ())
    units = np.full(len(labels), "") if groups is None else groups
    for split in SPLITS:
        (folder / split).mkdir(parents=True)
        rows = [
            {
                "id": features.sample_id(tensors[i]) + f"{i:06}",
                "source": f"rows.csv:{i + 1}",
                "label": labels[i].item(),
                "label_name": classes[labels[i]] if classes else "",
                "tensor": tensors[i].tobytes(),
                "group": str(units[i]),
            }
            for i in np.flatnonzero(splits == split)
        ]
        table = pa.Table.from_pylist(rows)
        kind = pa.int32() if classes else pa.float64()
        pq.write_table(table.set_column(2, "label", table["label"].cast(kind)), folder / split / "part-0.parquet")
    seen = tensors[splits == "train"].reshape(-1, tensors.shape[-1]).astype(np.float64)
    numbers = np.array([column.values is None for column in about["columns"]])
    std = np.where(numbers, np.nanstd(seen, axis=0), 1.0)
    counts = {
        split: {name: int((labels[splits == split] == k).sum()) for k, name in enumerate(classes)}
        or {"all": int((splits == split).sum())}
        for split in SPLITS
    }
    Contract(
        schema=2,
        shape=tuple(tensors.shape[1:]),
        mean=tuple(np.where(numbers, np.nanmean(seen, axis=0), 0.0).tolist()),
        std=tuple(np.where(std > 0, std, 1.0).tolist()),
        counts=counts,
        profile={},
        **about,
    ).save(folder / "contract.json")
    return folder


def drawn_splits(count: int, seed: int = 0) -> np.ndarray:
    """Seven tenths to train, the rest in halves."""
    return np.random.default_rng(seed).permutation(
        np.array(SPLITS)[np.searchsorted([0.7, 0.85], np.arange(count) / count, "right")]
    )


TABLE = (Column(name="x"), Column(name="y"), Column(name="kind", values=("a", "b", "c")), Column(name="noise"))


def table_rows(count: int = 400, seed: int = 0) -> np.ndarray:
    """Two numbers, one of them with gaps, a category with an unknown value now and then, and noise."""
    rng = np.random.default_rng(seed)
    rows = np.stack(
        [rng.normal(50, 10, count), rng.normal(-3, 0.5, count), rng.integers(0, 3, count), rng.normal(0, 1, count)], 1
    )
    rows[rng.random(count) < 0.1, 1] = np.nan
    rows[rng.random(count) < 0.05, 2] = np.nan
    return rows.astype(np.float32)


def table_signal(rows: np.ndarray) -> np.ndarray:
    """What x, y and kind say together, not in a straight line."""
    z = np.nan_to_num((rows[:, :2] - [50, -3]) / [10, 0.5])
    return z[:, 0] * np.where(rows[:, 2] == 1, -1.0, 1.0) + 0.5 * z[:, 1]


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 rows of two classes, curated. Read only."""
    rows = table_rows()
    labels = (table_signal(rows) > 0.3).astype(np.int64)
    return write_curated(
        tmp_path_factory.mktemp("table") / "curated", rows, labels, drawn_splits(len(rows)),
        dataset="table", modality="tabular", task="classification", classes=("no", "yes"), columns=TABLE,
    )  # fmt: skip


@pytest.fixture(scope="session")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 rows whose target is a number around 1000, curated. Read only."""
    rows = table_rows()
    labels = 1000 + 200 * table_signal(rows) + np.random.default_rng(1).normal(0, 10, len(rows))
    splits = drawn_splits(len(rows))
    seen = labels[splits == "train"]
    return write_curated(
        tmp_path_factory.mktemp("prices") / "curated", rows, labels, splits,
        dataset="prices", modality="tabular", task="regression", columns=TABLE,
        target=Target(name="price", mean=float(seen.mean()), std=float(seen.std())),
    )  # fmt: skip


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 units that run to their end, in windows of 12 steps of two sensors, lives capped at 40. Read only."""
    rng = np.random.default_rng(3)
    parts, lives, units = [], [], []
    for unit in range(24):
        length = int(rng.integers(50, 90))
        wear = np.exp((np.arange(length) - length) / 15)
        series = np.stack([wear + rng.normal(0, 0.05, length), 500 - 20 * wear + rng.normal(0, 1, length)], 1)
        found = tables.windows(series.astype(np.float32), 12, 3)
        parts.append(found)
        lives.append(np.minimum(40.0, np.arange(len(found))[::-1] * 3.0))
        units.append(np.full(len(found), f"u{unit:02}"))
    groups, labels = np.concatenate(units), np.concatenate(lives)
    splits = np.array(SPLITS)[np.searchsorted([16, 20], [int(name[1:]) for name in groups], "right")]
    seen = labels[splits == "train"]
    return write_curated(
        tmp_path_factory.mktemp("engines") / "curated", np.concatenate(parts), labels, splits, groups,
        dataset="engines", modality="timeseries", task="rul", columns=(Column(name="wear"), Column(name="heat")),
        target=Target(name="rul", mean=float(seen.mean()), std=float(seen.std()), cap=40.0),
        group="unit", time="cycle", stride=3,
    )  # fmt: skip


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of 16 steps of a wave and its delayed copy; anomalies, none in training, break the tie. Read only."""
    rng = np.random.default_rng(4)
    count, steps = 500, 16
    labels = (np.arange(count) % 10 == 0).astype(np.int64)
    splits = drawn_splits(count, 5)
    labels[splits == "train"] = 0
    phase = rng.uniform(0, 2 * np.pi, count)[:, None] + np.arange(steps) * 0.4
    tensors = np.stack([np.sin(phase), np.sin(phase - 1.0)], 2) + rng.normal(0, 0.05, (count, steps, 2))
    tensors[labels == 1, :, 1] *= -1
    return write_curated(
        tmp_path_factory.mktemp("machine") / "curated", (70 + 5 * tensors).astype(np.float32), labels, splits,
        dataset="machine", modality="timeseries", task="anomaly", classes=ANOMALY, time="timestamp",
        columns=(Column(name="first"), Column(name="second")),
    )  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The nets of these tests are tiny: on a busy machine a second thread costs twenty times what it saves."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 rendered surfaces of four classes, 16x16, curated. Read only."""
    folder = tmp_path_factory.mktemp("defects")
    manifest = datasets.write("surface-defects", folder / "raw", count=120, pixels=16)
    return curate(folder / "raw", folder / "curated", manifest, (1, 16, 16))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """700 digits, curated. Read only."""
    folder = tmp_path_factory.mktemp("digits")
    manifest = datasets.write("digits", folder / "raw", count=700)
    return curate(folder / "raw", folder / "curated", manifest, (1, 8, 8))


@pytest.fixture(scope="session")
def trained(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny net after three epochs on the surfaces. Read only."""
    folder = tmp_path_factory.mktemp("trained")
    train.train(
        train.Config(epochs=3, seed=SEED), curated, folder / "model", folder / "checkpoints", lambda figures: None
    )
    return folder / "model"


@pytest.fixture(scope="session")
def targets() -> dict[str, dict[str, Any]]:
    """What `released` is made for. Read only."""
    return TARGETS


@pytest.fixture(scope="session")
def released(trained: Path, curated: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of the trained net's release, and its manifest. Read only."""
    out = tmp_path_factory.mktemp("releases")
    manifest = release.release(trained, curated, out, TARGETS, "run-1")
    return out / manifest["version"], manifest


@pytest.fixture(scope="session")
def served(released: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released package of the endpoint, unpacked. Read only."""
    return unpacked(released[0], tmp_path_factory.mktemp("package"))


def unpacked(release_folder: Path, folder: Path) -> Path:
    """A release's package for the endpoint, as a folder."""
    with tarfile.open(release_folder / "endpoint" / "model.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """An endpoint's package of a tiny net that learned from a curated folder for an epoch, from a seed of its own."""

    def pack(data: Path, seed: int = SEED) -> Path:
        folder = tmp_path_factory.mktemp("packed")
        config = train.Config(epochs=1, seed=seed)
        train.train(config, data, folder / "model", folder / "points", lambda figures: None)
        manifest = release.release(folder / "model", data, folder / "out", TARGETS, f"seed-{seed}")
        return unpacked(folder / "out" / manifest["version"], folder / "package")

    return pack


@pytest.fixture(scope="session")
def served_rows(packed: Callable[..., Path], table: Path) -> Path:
    """A package that answers to rows of a table. Read only."""
    return packed(table)


@pytest.fixture
def package(served: Path, tmp_path: Path) -> Path:
    """A copy of the package, to break."""
    return Path(shutil.copytree(served, tmp_path / "package"))


@pytest.fixture
def contract() -> Callable[..., Contract]:
    """A contract of two classes, any field of it replaced."""

    def make(**other: Any) -> Contract:
        given: dict[str, Any] = {
            "schema": 2,
            "dataset": "digits",
            "modality": "image",
            "task": "classification",
            "shape": (1, 8, 8),
            "classes": ("even", "odd"),
            "mean": (80.0,),
            "std": (60.5,),
            "counts": {"train": {"even": 7, "odd": 8}},
            "profile": {"mean": {"edges": [0.0, 128.0, 255.0], "shares": [0.5, 0.5]}},
        }
        return Contract(**given | other)

    return make


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    rc: int
    out: str
    err: str


@pytest.fixture(scope="session")
def started() -> Callable[..., list[Ended]]:
    """Runs a script as so many ranks, as `torchrun` would start them on as many hosts, to the end of all."""

    def start(world: int, script: str, *argv: str) -> list[Ended]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        about = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "LOCAL_RANK": "0"}
        about |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
        running = [
            subprocess.Popen(
                [sys.executable, "-c", script, *argv],
                cwd=Path(__file__).parents[2],
                env={**os.environ, **about, "RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(world)
        ]
        try:
            said = [each.communicate(timeout=200) for each in running]
        finally:
            for each in running:
                each.kill()
        return [Ended(each.returncode, *texts) for each, texts in zip(running, said, strict=True)]

    return start
