"""Rendered pictures, curated as the ETL leaves them, and what one short training and one release make of them."""

import shutil
import tarfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models import datasets, drift, features, train
from models.contract import Contract
from models.export import release

SEED = 17
SPLITS = ("train", "validation", "test")
# Generous: these tests are not about this machine's speed.
TARGETS = {
    "cloud-cpu": {"formats": ["onnx-fp32"], "threads": 1, "p95_ms": 5000.0},
    "edge-x86": {"formats": ["onnx-fp32", "tflite-int8"], "threads": 1, "p95_ms": 5000.0},
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
        schema=1,
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
def released(trained: Path, curated: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of the trained net's release, and its manifest. Read only."""
    out = tmp_path_factory.mktemp("releases")
    manifest = release.release(trained, curated, out, TARGETS, "run-1")
    return out / manifest["version"], manifest


@pytest.fixture(scope="session")
def served(released: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released package of the endpoint, unpacked. Read only."""
    folder = tmp_path_factory.mktemp("package")
    with tarfile.open(released[0] / "endpoint" / "model.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def package(served: Path, tmp_path: Path) -> Path:
    """A copy of the package, to break."""
    return Path(shutil.copytree(served, tmp_path / "package"))


@pytest.fixture
def contract() -> Callable[..., Contract]:
    """A contract of two classes, any field of it replaced."""

    def make(**other: Any) -> Contract:
        given: dict[str, Any] = {
            "schema": 1,
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
