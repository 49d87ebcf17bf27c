"""A released model, whatever runs it: checked before it is trusted, on endpoint and device.

    N samples in a batch, each a raw tensor of the contract   K classes, or 1 where the answer is a number

A package is a folder: the artefact's files, `contract.json`, `golden.npz`, and `model.json`, which names the format,
the runtime and the sha256 of every other file. `Model.load` goes through the gate in this order, and stops at the first
finding: every file there and unchanged, a schema and an opset we know, the runtime is here, the artefact loads, its
input is the contract's, a warm-up runs, the golden samples give the golden answers, and the 95th percentile stays
within the budget, if there is one.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import drift, features
from models.contract import Contract, ContractError
from models.engines import engine

SCHEMA = 1
OPSETS = range(13, 25)
# The runtimes whose artefact is an ONNX file, and so has an opset.
ONNX = ("onnxruntime", "tensorrt")
# What a package says that was written when there was one format.
FIRST: dict[str, Any] = {"format": "onnx-fp32", "runtime": "onnxruntime", "files": ["model.onnx"]}
WARM_UP = 3
TIMED = 20
# A device under load jitters; the budget is meant for the model, not for one unlucky scheduling.
SLACK = 1.5

Batch = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32]


class PackageError(Exception):
    """A package that must not serve.

    `code` is one of missing, digest, schema, opset, runtime, load, shape, golden, slow.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    @property
    def reason_code(self) -> str:
        return self.code


@dataclass(frozen=True)
class Prediction:
    """Answers to one batch: `answers` [N, K] float32, and the names of the K classes.

    Answers are probabilities, whose rows sum to one, or values [N, 1] in the target's unit, without classes.
    """

    answers: Floats
    classes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The N most likely class names, looked up when asked for; none of a model that gives numbers."""
        return tuple([self.classes[i] for i in self.answers.argmax(axis=1)]) if self.classes else ()

    @property
    def probabilities(self) -> Floats:
        """[N, K], of a model that names classes."""
        return self.answers

    @property
    def values(self) -> Floats:
        """[N], of a model that gives numbers."""
        return np.asarray(self.answers[:, 0], np.float32)

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """The N most likely classes, as positions in the contract's `classes`."""
        return np.asarray(self.answers.argmax(axis=1), np.int64)

    @property
    def confidences(self) -> Floats:
        """The N largest probabilities."""
        return np.asarray(self.answers.max(axis=1), np.float32)


class Model:
    """One checked package, ready to answer. Thread-safe: its engine is, and nothing else changes."""

    def __init__(self, loaded: engine.Engine, contract: Contract, about: dict[str, Any], sha256: str) -> None:
        self._engine = loaded
        self.contract = contract
        self.about = about
        self.version = str(about["version"])
        self.sha256 = sha256
        # Asked for at every prediction: of the fastest nets, looking them up anew took two hundredths of the time.
        self._dtype, self._shape = np.dtype(contract.dtype), tuple(contract.shape)
        self._classes = contract.classes if contract.categorical else ()

    @classmethod
    def load(cls, package: Path, threads: int | None = None) -> Model:
        """The package in folder `package`, after all its checks; `threads` None takes what this process may use.

        Raises PackageError with the code of the first check that failed.
        """
        about = describe(package)
        contract = _contract(package)
        loaded = _engine(package, about, threads or _cores())
        _check_input(loaded, contract)
        model = cls(loaded, contract, about, about["sha256"][about["file"]])
        golden_in, golden_out = _golden(package, contract)
        model._warm_up(golden_in)
        model._check_golden(golden_in, golden_out, about["tolerance"])
        if about["p95_ms"] is not None:
            model._check_speed(golden_in[:1], about["p95_ms"])
        return model

    def predict(self, batch: Batch) -> Prediction:
        """`batch` [N, ...] of raw tensors, as the contract has them. Raises ValueError when it is anything else."""
        if batch.dtype != self._dtype or batch.shape[1:] != self._shape:
            wanted = "N, " + ", ".join(map(str, self._shape))
            raise ValueError(f"expected {self._dtype} [{wanted}], got {batch.dtype} {list(batch.shape)}")
        return Prediction(self._engine.run(batch), self._classes)

    def predict_bytes(self, files: Sequence[bytes]) -> Prediction:
        """Encoded pictures, or tables as text. Raises features.CorruptSample for one that cannot be read."""
        return self.predict(np.concatenate([features.read(data, self.contract) for data in files]))

    def watch(self) -> drift.Watch:
        """A new count of what this model sees, to compare with what it was trained on."""
        return drift.watch(self.contract)

    def _warm_up(self, samples: Batch) -> None:
        try:
            for _ in range(WARM_UP):
                self.predict(samples)
        except Exception as error:
            raise PackageError("load", f"the graph does not run: {error}") from error

    def _check_golden(self, samples: Batch, expected: Floats, tolerance: float) -> None:
        got = self.predict(samples).answers
        if got.shape != expected.shape:
            raise PackageError("golden", f"answers {list(got.shape)}, the golden ones are {list(expected.shape)}")
        unit = max(1.0, self.contract.target.std) if self.contract.target else 1.0
        worst = float(np.abs(got - expected).max()) / unit if np.isfinite(got).all() else float("inf")
        if not worst <= tolerance:
            raise PackageError("golden", f"an answer is off by {worst:.3g}, tolerated are {tolerance:.3g}")

    def _check_speed(self, sample: Batch, budget_ms: float) -> None:
        p95 = float(np.percentile(timed(self, sample, TIMED), 95))
        if p95 > budget_ms * SLACK:
            raise PackageError("slow", f"95 % of answers take up to {p95:.2f} ms, the budget is {budget_ms:g} ms")


def timed(model: Model, batch: Batch, rounds: int) -> list[float]:
    """Milliseconds of each of `rounds` predictions of `batch`."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        model.predict(batch)
        taken.append((time.perf_counter() - start) * 1000.0)
    return taken


def describe(package: Path) -> dict[str, Any]:
    """`model.json` of a package whose files are all there and unchanged, with `file`, what its runtime loads, added.

    Raises PackageError: missing, digest, schema or opset.
    """
    path = package / "model.json"
    if not path.is_file():
        raise PackageError("missing", f"{path.name} is not in the package")
    try:
        about: dict[str, Any] = json.loads(path.read_text("utf-8"))
        digests = dict(about["sha256"])
        schema, opset = int(about["schema"]), about["opset"]
        opset = int(opset) if about.get("runtime", "onnxruntime") in ONNX else None
        budget, tolerance = about["p95_ms"], float(about["tolerance"])
        numbers = {"p95_ms": None if budget is None else float(budget), "tolerance": tolerance}
        if any(value is not None and not 0 <= value < math.inf for value in numbers.values()):
            raise ValueError(f"p95_ms is {budget} and tolerance {tolerance}")
        about = {**FIRST, **about, "version": str(about["version"]), **numbers}
        files = [str(name) for name in about["files"]]
        about |= {"runtime": str(about["runtime"]), "files": files, "file": files[0]}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise PackageError("schema", f"model.json is not what this runtime reads: {error!r}") from error
    if schema != SCHEMA:
        raise PackageError("schema", f"model.json has schema {schema}, this runtime reads {SCHEMA}")
    for name, expected in sorted(digests.items()):
        _check_file(package, name, str(expected))
    for name in (*about["files"], "contract.json", "golden.npz"):
        if name not in digests:
            raise PackageError("missing", f"model.json names no digest of {name}")
    if opset is not None and opset not in OPSETS:
        raise PackageError("opset", f"opset {opset}; this runtime runs {OPSETS.start} to {OPSETS.stop - 1}")
    return about


def _check_file(package: Path, name: str, expected: str) -> None:
    path = package / name
    if Path(name).name != name or not path.is_file():
        raise PackageError("missing", f"{name} is not in the package")
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise PackageError("digest", f"{name} has sha256 {actual[:12]}…, model.json says {expected[:12]}…")


def _contract(package: Path) -> Contract:
    try:
        return Contract.load(package / "contract.json")
    except (ContractError, OSError) as error:
        raise PackageError("schema", str(error)) from error


def _engine(package: Path, about: dict[str, Any], threads: int) -> engine.Engine:
    try:
        return engine.load(about["runtime"], package / about["file"], str(about["format"]), threads)
    except engine.Absent as error:
        raise PackageError("runtime", str(error)) from error
    except engine.EngineError as error:
        raise PackageError("load", str(error)) from error


def _cores() -> int:
    """The cores that this process may run on; Linux alone can tell them from those that the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _check_input(loaded: engine.Engine, contract: Contract) -> None:
    """An engine that cannot tell what it takes is checked by its warm-up."""
    takes = loaded.takes
    if takes is not None and takes != (contract.dtype, tuple(contract.shape)):
        kind, shape = takes
        got, wanted = ", ".join(map(str, shape)), ", ".join(map(str, contract.shape))
        raise PackageError(
            "shape", f"the artefact takes {kind} [N, {got}], the contract says {contract.dtype} [N, {wanted}]"
        )


def _golden(package: Path, contract: Contract) -> tuple[Batch, Floats]:
    try:
        # From memory: numpy leaves a file that is no archive open.
        with np.load(io.BytesIO((package / "golden.npz").read_bytes()), allow_pickle=False) as data:
            inputs, outputs = np.asarray(data["inputs"]), np.asarray(data["outputs"], np.float32)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise PackageError("golden", f"golden.npz cannot be read: {error!r}") from error
    if not len(inputs) or inputs.dtype != contract.dtype or inputs.shape[1:] != tuple(contract.shape):
        found = f"{inputs.dtype} {list(inputs.shape)}"
        raise PackageError("golden", f"golden inputs are {found}; samples of the contract are needed")
    return inputs, outputs
