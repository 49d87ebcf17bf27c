"""A release: every candidate of each target, measured against the trained model, the fastest that fits chosen.

A candidate is a format that makes sense on the target's kind of machine. Each is measured in a process of its own, on
real test and validation samples that training never saw; `models.export.fidelity` says what the figures mean,
`models.gate` which candidates are dropped and why, `models.export.remedies` what is tried first for one that rounding
spoils. Of those that are left and that `[targets.X] formats` allows, the
fastest at batch 1 is chosen; what is as fast within the noise goes to the smaller one.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import logging
import platform
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models import curated, gate, net
from models.contract import Contract
from models.export import candidates, formats, onnx, package, remedies
from models.export.calibration import Calibration
from models.export.candidates import Candidates
from models.export.exporter import Source, Unavailable
from models.export.fidelity import Samples
from models.export.trials import Conditions

SCHEMA = 1
SAMPLES = 2000
BATCH = 8
# Medians this close are asked again in turn, and then count as equal within the second share. Measured alone, minutes
# apart, the fastest of three was once timed at 1.6 times what it takes.
CLOSE, EQUAL = 1.0, 0.03
# Of the contract, what follows from the training data as the weights do; sums end in other digits when Spark cuts the
# data another way.
LEARNED = ("mean", "std", "counts", "profile", "target")
ENDPOINT = "cloud-cpu"
CLOUD = "cloud-"
BLANK: dict[str, Any] = dict.fromkeys(
    (
        "format", "target", "file", "sha256", "bytes", "p50_ms", "p95_ms", "p99_ms", "throughput_per_s",
        "cold_start_s", "peak_mb", "install_mb", "cpu_per_wall", "metric", "metric_drop", "metric_drop_low",
        "metric_drop_high", "agreement", "max_abs_diff", "logit_slope", "logit_l2", "chosen", "skipped", "dropped",
        "proxy", "notes",
    )
)  # fmt: skip
log = logging.getLogger(__name__)

Row = dict[str, Any]
Table = Mapping[str, Any]


def release(
    model_dir: Path,
    data: Path,
    out: Path,
    targets: Mapping[str, Table],
    run: str,
    limits: Table | None = None,
) -> dict[str, Any]:
    """Exports the model in `model_dir` for all `targets` to `out/<version>/`, writes `manifest.json`, returns it.

    `data` is the curated folder. `targets` is the `[targets]` table: formats, threads, batch, memory_mb, disk_mb and
    p95_ms by target. `limits` is the `[gate]` table, of which max_metric_drop and min_agreement matter here.
    """
    return released(*net.load(model_dir), model_dir, data, out, targets, run, limits)


def released(
    trained: nn.Module,
    contract: Contract,
    model_dir: Path,
    data: Path,
    out: Path,
    targets: Mapping[str, Table],
    run: str,
    limits: Table | None = None,
) -> dict[str, Any]:
    """A release of a net that is loaded already, whatever its class; `model_dir` holds its weights."""
    version = version_of(model_dir, contract, targets, limits or {})
    samples = _samples(trained, contract, data)
    log.info("release %s: %d samples, metric %.4f", version, len(samples.labels), samples.metric_of(samples.expected))
    answer = net.Answer(trained, contract).eval()
    folder = out / version
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        source = Source(trained, answer, contract, Calibration(data))
        tried = Candidates(source, samples, version, run, Path(scratch))
        for name, target in sorted(targets.items()):
            found = _tried(tried, name, target)
            _judge(found, target, limits or {})
            remedies.apply(tried, found, _conditions(target), target, limits or {})
            _choose(tried, found, target)
            _ship(tried, found, name, target, folder)
            rows += found
    manifest = {
        "schema": SCHEMA,
        "version": version,
        "run": run,
        "model_sha256": package.sha256(model_dir / "model.safetensors"),
        "contract": contract.document(),
        "machine": platform.machine(),
        "artifacts": rows,
        "files": {str(path.relative_to(folder)): package.sha256(path) for path in _shipped(folder)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return manifest


def _shipped(folder: Path) -> list[Path]:
    """Every file of a release but its manifest."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")


def version_of(model_dir: Path, contract: Contract, targets: Mapping[str, Table], limits: Table) -> str:
    """A version that what goes into a release gives: the same always has the same, anything else another (2^-28).

    What comes out is not asked: which of two formats that are as fast is chosen may differ from one run to the next.
    """
    about = contract.document()
    for name in LEARNED:
        del about[name]
    known = {
        "schema": SCHEMA,
        "code": _code(),
        "weights": package.sha256(model_dir / "model.safetensors"),
        "contract": about,
        "target": contract.target.name if contract.target else "",
        "targets": {name: dict(target) for name, target in targets.items()},
        "limits": dict(limits),
        "tools": formats.tools(),
    }
    return f"1.0.{int(hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:7], 16)}"


def _code() -> str:
    """The digest of the code that makes and runs artefacts."""
    found = hashlib.sha256()
    for folder in ("models.export", "models.engines"):
        for path in sorted(importlib.resources.files(folder).iterdir(), key=lambda path: path.name):
            if path.name.endswith(".py"):
                found.update(f"{folder}/{path.name}\n".encode() + path.read_bytes())
    return found.hexdigest()


def _samples(trained: nn.Module, contract: Contract, data: Path) -> Samples:
    parts = [curated.read(data, split)[:2] for split in ("test", "validation")]
    tests = np.concatenate([np.full(len(parts[0][1]), True), np.full(len(parts[1][1]), False)])[:SAMPLES]
    tensors = np.concatenate([part[0] for part in parts])[:SAMPLES]
    labels = np.concatenate([part[1] for part in parts])[:SAMPLES]
    return Samples(tensors, labels, tests, net.answers(trained, tensors), contract)


def _tried(tried: Candidates, name: str, target: Table) -> list[Row]:
    """A row for every candidate of a target: with figures, or with the reason why it has none in `skipped`."""
    allowed = list(target["formats"])
    names = allowed if target.get("measure") == "allowed" else formats.candidates(name, allowed)
    rows = []
    for number, form in enumerate(names, 1):
        log.info("target %s: candidate %d of %d, %s", name, number, len(names), form)
        row = {**BLANK, "format": form, "target": name, "bytes": 0, "chosen": False, "proxy": _elsewhere(name)}
        try:
            made = tried.made(form, allowed)
            row |= candidates.describe(made, tried.measured(made, _conditions(target)), tried.samples)
        except Unavailable as error:
            row["skipped"] = str(error)
        rows.append(row)
    return rows


def _conditions(target: Table) -> Conditions:
    return Conditions(int(target.get("threads", 1)), int(target.get("batch", BATCH)))


def _elsewhere(target: str) -> bool:
    """Whether a target's kind of machine is another than this one, so that every figure stands for another."""
    here = {"x86_64": "x86", "amd64": "x86", "aarch64": "arm", "arm64": "arm"}.get(platform.machine().lower())
    kind = formats.kind_of(target)
    if kind == "gpu":
        return not torch.cuda.is_available()
    return kind != here


def _judge(rows: list[Row], target: Table, limits: Table) -> None:
    """Gives each row that must not ship its reason in `dropped`."""
    for row in rows:
        if row["skipped"] is None:
            row["dropped"] = "; ".join(gate.drops(row, limits, target)) or None


def _choose(tried: Candidates, rows: list[Row], target: Table) -> None:
    """Marks the fastest of the rows that may ship."""
    fit = [row for row in rows if row["skipped"] is None and row["dropped"] is None]
    if not fit:
        return
    first = min(row["p50_ms"] for row in fit)
    close = {row["format"]: row for row in fit if row["p50_ms"] <= first * (1 + CLOSE)}
    if len(close) > 1:
        again = tried.contest(close, _conditions(target))
        fit = [_timed_again(close[name], median) for name, median in again.items()] or fit
        log.info("asked in turn: %s", ", ".join(f"{name} {median:.3f} ms" for name, median in again.items()))
    best = min(row["p50_ms"] for row in fit)
    equal = [row for row in fit if row["p50_ms"] <= best * (1 + EQUAL)]
    min(equal, key=lambda row: (row["install_mb"], row["bytes"], row["p50_ms"]))["chosen"] = True


def _timed_again(row: Row, median: float) -> Row:
    """A row with the median of the rounds in which the close ones were asked in turn: what the choice was made by."""
    ends = {name: max(row[name], median) for name in ("p95_ms", "p99_ms")}
    notes = "; ".join(filter(None, (row["notes"], "p50 by asking the close ones in turn")))
    row.update(ends, p50_ms=median, notes=notes)
    return row


def _ship(tried: Candidates, rows: list[Row], name: str, target: Table, folder: Path) -> None:
    """Writes the chosen package of a target into the release, packed and, for a look inside, the artefact alone."""
    for row in rows:
        if not row["chosen"]:
            continue
        made = tried.made(row["format"], target["formats"])
        place = folder / _place(name)
        with tempfile.TemporaryDirectory() as scratch:
            for file in made.files:
                shutil.copyfile(made.package / file, Path(scratch) / file)
            package.write(
                Path(scratch), version=tried.version, run=tried.run, form=made.form, files=made.files,
                contract=tried.source.contract, opset=onnx.OPSET, p95_ms=target.get("p95_ms"),
                tolerance=made.form.tolerance,
                golden=(tried.samples.tensors[: package.GOLDEN], tried.measured(made, _conditions(target)).golden),
            )  # fmt: skip
            (package.tarred if name.startswith(CLOUD) else package.zipped)(Path(scratch), place)
            for file in made.files:
                shutil.copyfile(Path(scratch) / file, place.parent / file)
        row["file"] = f"releases/{tried.version}/{_place(name)}"


def _place(target: str) -> str:
    """Where a target's package lies below the release: SageMaker takes a tar, Greengrass a ZIP."""
    if target == ENDPOINT:
        return "endpoint/model.tar.gz"
    return f"{target}/model.tar.gz" if target.startswith(CLOUD) else f"{target}/model.zip"
