"""Small but real model packages, good and bad, for the device's tests."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from component import Desk
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.contract import Contract

SHAPE = (1, 8, 8)
CLASSES = ("dark", "light", "odd")


def graph(seed: int) -> bytes:
    """uint8 [N, 1, 8, 8] -> softmax over three classes of a seeded linear map."""
    weights = np.random.default_rng(seed).normal(0, 0.01, (64, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", *SHAPE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(onnx.ModelProto.SerializeToString(model))


def answers(seed: int, batch: np.ndarray) -> np.ndarray:
    weights = np.random.default_rng(seed).normal(0, 0.01, (64, 3)).astype(np.float32)
    scores = batch.reshape(len(batch), -1).astype(np.float32) @ weights
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def seal(folder: Path, **about: Any) -> Path:
    """Writes `model.json` over what lies in the folder."""
    (folder / "model.json").unlink(missing_ok=True)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    described = {
        "schema": 1,
        "version": "1.0.1",
        "run": "test",
        "format": "onnx-fp32",
        "task": "classification",
        "sha256": digests,
        "input": {"name": "pixels", "shape": [1, *SHAPE], "dtype": "uint8"},
        "outputs": ["probabilities"],
        "opset": 18,
        "p95_ms": 500.0,
        "tolerance": 1e-4,
        **about,
    }
    (folder / "model.json").write_text(json.dumps(described))
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    """Makes a package: `package("1.0.2", seed=2)`; the same seed answers the same."""

    def make(version: str = "1.0.1", seed: int = 1, **about: Any) -> Path:
        folder = tmp_path / "packages" / f"{version}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(graph(seed))
        shares = [0.25, 0.25, 0.25, 0.25]
        edges = [0.0, 64.0, 128.0, 192.0, 256.0]
        profile = {name: {"edges": edges, "shares": shares} for name in ("mean", "contrast")}
        Contract(
            schema=2,
            dataset="digits",
            modality="image",
            task="classification",
            shape=SHAPE,
            classes=CLASSES,
            mean=(0.5,),
            std=(0.25,),
            counts={"train": dict.fromkeys(CLASSES, 1)},
            profile=profile,
        ).save(folder / "contract.json")
        batch = np.random.default_rng(0).integers(0, 256, (8, *SHAPE), np.uint8)
        np.savez(folder / "golden.npz", inputs=batch, outputs=answers(seed, batch))
        return seal(folder, version=version, **about)

    return make


@pytest.fixture
def reseal() -> Callable[..., Path]:
    """Writes a package's `model.json` again, over changed files or with changed fields."""
    return seal


@pytest.fixture
def expected() -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """A batch, and what the package of a seed answers to it."""

    def make(seed: int) -> tuple[np.ndarray, np.ndarray]:
        batch = np.random.default_rng(5).integers(0, 256, (4, *SHAPE), np.uint8)
        return batch, answers(seed, batch)

    return make


@pytest.fixture
def picture() -> Callable[[int], bytes]:
    """A PNG of one grey."""

    def make(value: int) -> bytes:
        data = io.BytesIO()
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(data, "PNG")
        return data.getvalue()

    return make


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Makes the component's service in this process; each is stopped at the end."""
    made: list[Desk] = []

    def make(**settings: Any) -> Desk:
        made.append(Desk(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()
