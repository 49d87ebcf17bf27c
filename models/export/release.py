"""A release: each target's formats, measured against the trained model, one chosen.

What is measured, on real validation and test samples that training never saw: `agreement` is the share of equal
answers (of numbers: within 0.05 deviations of the target), `max_abs_diff` the largest difference of an answer, `metric`
the accuracy on the test split, `metric_drop` the trained model's accuracy less it (of numbers: the error, and the share
by which it grew), `p50_ms` and `p95_ms` the time of one sample on the target's number of threads. The chosen artefact
of a target is the fastest that loads and agrees best.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from models import curated, net
from models.contract import Contract
from models.export import onnx, package
from models.runtime import Model, PackageError, timed

SCHEMA = 1
TIMED = 200
SAMPLES = 2000
CLOUD = "cloud-"
log = logging.getLogger(__name__)

# Numbers agree when they differ by less than this share of the target's deviation.
NEAR = 0.05

Batch = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """Held-out samples with what the trained model answers: tensors [N, ...], labels [N], expected [N, K]."""

    tensors: Batch
    labels: npt.NDArray[Any]
    test: npt.NDArray[np.bool_]
    expected: Floats
    contract: Contract

    def metric_of(self, answers: Floats) -> float:
        """On the test split: the share of right answers, or the root of the mean squared error."""
        if self.contract.categorical:
            return float((answers.argmax(1) == self.labels)[self.test].mean())
        return float(np.sqrt(np.mean((answers[:, 0] - self.labels)[self.test] ** 2)))

    def drop_of(self, answers: Floats) -> float:
        """How much worse than the trained model: accuracy lost, or the share by which the error grew."""
        ours, trained = self.metric_of(answers), self.metric_of(self.expected)
        return trained - ours if self.contract.categorical else (ours - trained) / max(trained, 1e-12)

    def agreement_of(self, answers: Floats) -> float:
        """The share of answers that are the trained model's."""
        if self.contract.target is None:
            return float((answers.argmax(1) == self.expected.argmax(1)).mean())
        return float((np.abs(answers - self.expected) <= NEAR * self.contract.target.std).mean())

    def golden(self) -> tuple[Batch, Floats]:
        """The samples that travel with a package so that a device can check its own arithmetic."""
        return self.tensors[: package.GOLDEN], self.expected[: package.GOLDEN]


@dataclass(frozen=True)
class Source:
    """The trained net, and what each of its artefacts is measured on and named after."""

    trained: nn.Module
    contract: Contract
    samples: Samples
    version: str
    run: str


def release(
    model_dir: Path, data: Path, out: Path, targets: Mapping[str, Mapping[str, Any]], run: str
) -> dict[str, Any]:
    """Exports the model in `model_dir` for all `targets` to `out/<version>/`, writes `manifest.json`, returns it.

    `data` is the curated folder. `targets` is the `[targets]` table: formats, threads, p95_ms by target.
    """
    version = version_of(model_dir)
    trained, contract = net.load(model_dir)
    samples = _samples(trained, contract, data)
    log.info("release %s: %d samples, metric %.4f", version, len(samples.labels), samples.metric_of(samples.expected))
    source = Source(trained, contract, samples, version, run)
    folder = out / version
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, target in sorted(targets.items()):
            made = _choose([_artifact(source, name, target, form, Path(scratch)) for form in target["formats"]])
            _ship(Path(scratch), folder, name, made)
            rows += made
    manifest = {
        "schema": SCHEMA,
        "version": version,
        "run": run,
        "model_sha256": package.sha256(model_dir / "model.safetensors"),
        "contract": contract.document(),
        "artifacts": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return manifest


def version_of(model_dir: Path) -> str:
    """A version that its content gives: the same weights always have the same, other weights never (2^-28)."""
    return f"1.0.{int(package.sha256(model_dir / 'model.safetensors')[:7], 16)}"


def _samples(trained: nn.Module, contract: Contract, data: Path) -> Samples:
    parts = [curated.read(data, split)[:2] for split in ("test", "validation")]
    tests = np.concatenate([np.full(len(parts[0][1]), True), np.full(len(parts[1][1]), False)])[:SAMPLES]
    tensors = np.concatenate([part[0] for part in parts])[:SAMPLES]
    labels = np.concatenate([part[1] for part in parts])[:SAMPLES]
    return Samples(tensors, labels, tests, net.answers(trained, tensors), contract)


def _artifact(source: Source, name: str, target: Mapping[str, Any], form: str, scratch: Path) -> dict[str, Any]:
    """One row of the manifest; a format that cannot be made says why in `skipped`."""
    row: dict[str, Any] = {
        "format": form, "target": name, "file": None, "sha256": None, "bytes": 0, "p50_ms": None, "p95_ms": None,
        "metric": None, "metric_drop": None, "agreement": None, "max_abs_diff": None, "chosen": False, "skipped": None,
    }  # fmt: skip
    if form != "onnx-fp32":
        return {**row, "skipped": f"no exporter for {form}; this release makes onnx-fp32"}
    folder = scratch / name / form
    folder.mkdir(parents=True)
    graph = scratch / f"{form}.onnx"
    if not graph.is_file():  # the same for every target
        onnx.write(net.Answer(source.trained, source.contract), source.contract, graph)
    shutil.copyfile(graph, folder / "model.onnx")
    package.write(
        folder, version=source.version, run=source.run, form=form, contract=source.contract, opset=onnx.OPSET,
        p95_ms=target.get("p95_ms"), golden=source.samples.golden(),
    )  # fmt: skip
    try:
        model = Model.load(folder, int(target.get("threads", 1)))
    except PackageError as error:
        return {**row, "skipped": str(error)}
    return {**row, **_measure(model, source.samples), **_describe(folder, name, source.version)}


def _measure(model: Model, samples: Samples) -> dict[str, Any]:
    got = np.concatenate(
        [model.predict(samples.tensors[start : start + 256]).answers for start in range(0, len(samples.labels), 256)]
    )
    taken = timed(model, samples.tensors[:1], TIMED)
    return {
        "p50_ms": float(np.percentile(taken, 50)),
        "p95_ms": float(np.percentile(taken, 95)),
        "metric": samples.metric_of(got),
        "metric_drop": samples.drop_of(got),
        "agreement": samples.agreement_of(got),
        "max_abs_diff": float(np.abs(got - samples.expected).max()),
    }


def _describe(folder: Path, target: str, version: str) -> dict[str, Any]:
    path = folder / "model.onnx"
    return {
        "file": f"releases/{version}/{_place(target)}",
        "sha256": package.sha256(path),
        "bytes": path.stat().st_size,
    }


def _place(target: str) -> str:
    """Where a target's package lies below the release: SageMaker takes a tar, Greengrass a ZIP."""
    return "endpoint/model.tar.gz" if target.startswith(CLOUD) else f"{target}/model.zip"


def _choose(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Marks the best of one target: full agreement first, then speed."""
    usable = [row for row in rows if row["skipped"] is None]
    if usable:
        min(usable, key=lambda row: (-row["agreement"], row["p95_ms"]))["chosen"] = True
    return rows


def _ship(scratch: Path, folder: Path, target: str, rows: list[dict[str, Any]]) -> None:
    """Copies the chosen package of a target into the release, packed and, for a look inside, the graph alone."""
    for row in rows:
        if row["chosen"]:
            source = scratch / target / row["format"]
            pack = package.tarred if target.startswith(CLOUD) else package.zipped
            pack(source, folder / _place(target))
            shutil.copyfile(source / "model.onnx", (folder / _place(target)).parent / "model.onnx")
