"""The product's choice for one net against eager PyTorch and every runtime driven by hand, in interleaved rounds.

    python -m benchmarks.artefacts.contest FOLDER

FOLDER is what `benchmarks.artefacts.train` left, named after its net. The product exports as the export job does:
candidates, gate, choice. By hand the same runtimes are held to the same gate. One thread each; a round in which one
took more CPU time than wall time allows fails the whole contest. A ratio is the median of the rounds' own, so that what
slows the machine for a while meets both sides. The last line is the result as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.artefacts import hand, train
from models import curated, gate, net
from models.export import formats, release
from models.export.fidelity import Samples

ROUNDS = 41
BUSY = 1.05
MAKE_SECONDS = 120.0
LIMITS = {"min_agreement": 0.995, "max_metric_drop": 0.01}
TARGET = "edge-arm64" if platform.machine().lower() in ("aarch64", "arm64") else "edge-x86"
log = logging.getLogger(__name__)

# The trained model itself, which needs no gate.
TRAINED = ("eager", "channels-last")

Figures = dict[str, Any]


@dataclass(frozen=True)
class Contestant:
    """What the worker needs to load it."""

    kind: str
    file: Path


def main(argv: Sequence[str] | None = None) -> int:
    """One net's contest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.artefacts.contest")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as scratch:
        print(json.dumps(_contest(args.folder, Path(scratch))))  # noqa: T201 - the caller reads this line
    return 0


def _contest(folder: Path, scratch: Path) -> Figures:
    trained = train.load(folder.name, folder)
    tensors, labels, _ = curated.read(folder, "test")
    samples = Samples(tensors, labels, np.full(len(labels), True), net.answers(trained, tensors), trained.contract)
    np.save(scratch / "samples.npy", tensors)
    row = _released(folder, scratch)
    contestants = {"chosen": Contestant("package", scratch / "package"), "eager": Contestant("eager", folder)}
    if trained.contract.modality == "image":
        contestants["channels-last"] = Contestant("channels-last", folder)
    made, failed = _by_hand(folder, scratch)
    rounds, left, answers = _raced({**contestants, **made}, scratch, samples)
    times = {name: float(np.median(found)) for name, found in rounds.items()}
    ahead = {name: float(np.median(np.divide(found, rounds["chosen"]))) for name, found in rounds.items()}
    rivals = {name: ms for name, ms in times.items() if name in made}
    best = min(rivals, key=lambda name: ahead[name])
    figures: Figures = {
        "net": folder.name,
        "target": TARGET,
        "chosen": row["format"],
        "notes": row["notes"],
        "ms": round(times["chosen"], 4),
        "vs_eager": round(ahead["eager"], 2),
        "best_by_hand": best,
        "vs_best": round(ahead[best], 3),
        "vs_onnx_fp32": round(ahead["onnxruntime-fp32"], 2),
        "samples": len(labels),
        "metric_eager": round(samples.metric_of(samples.expected), 4),
    }
    if "channels-last" in times:
        figures["vs_channels_last"] = round(ahead["channels-last"], 2)
    measured = samples.figures_of(answers)
    figures |= {key: round(measured[key], 4) for key in ("agreement", "metric_drop", "logit_slope", "logit_l2")}
    by_hand = {name: round(ms, 4) for name, ms in sorted(rivals.items(), key=lambda item: item[1])}
    return {**figures, "by_hand_ms": by_hand, "by_hand_left_out": {**failed, **left}}


def _released(folder: Path, scratch: Path) -> Figures:
    """The product's own way: the row of what it chose, whose package it unpacks.

    Formats that import torch are left out: they are tried where a target's table names them.
    """
    names = [form.name for form in formats.ALL if formats.kind_of(TARGET) in form.kinds and "torch" not in form.runs]
    targets = {TARGET: {"formats": names, "measure": "allowed", "threads": 1, "batch": 1}}
    trained = train.load(folder.name, folder)
    manifest = release.released(trained, trained.contract, folder, folder, scratch / "out", targets, "bench", LIMITS)
    for row in manifest["artifacts"]:
        told = row["skipped"] or row["dropped"] or ("chosen" if row["chosen"] else "fits")
        time = f"{row['p50_ms']:.3f} ms, agreement {row['agreement']:.4f}" if row["p50_ms"] else ""
        log.info("  %-18s %s %s %s", row["format"], time, told, row["notes"] or "")
    (chosen,) = (row for row in manifest["artifacts"] if row["chosen"])
    with zipfile.ZipFile(scratch / "out" / chosen["file"].removeprefix("releases/")) as archive:
        archive.extractall(scratch / "package")
    return dict(chosen)


def _by_hand(folder: Path, scratch: Path) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Every runtime's artefact, and the last words of those that were not made."""
    made, failed = {}, {}
    for name, (kind, _) in hand.MADE.items():
        if kind == "aoti" and folder.name != "conv":
            failed[name] = "not made: it compiles for a minute, and on these nets it was never the fastest"
            continue
        file = scratch / f"{name}{hand.SUFFIX[kind]}"
        command = [sys.executable, "-m", hand.__name__, name, str(folder), "--out", str(file)]
        try:
            done = subprocess.run(
                command, env=_environment(), capture_output=True, text=True, timeout=MAKE_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            failed[name] = f"took more than {MAKE_SECONDS:.0f} s"
            continue
        if done.returncode or not file.exists():
            failed[name] = (done.stderr.strip().splitlines() or ["nothing said"])[-1][:200]
        else:
            made[name] = Contestant(kind, file)
        log.info("  by hand: %s %s", name, failed.get(name, "made"))
    return made, failed


def _raced(
    contestants: Mapping[str, Contestant], scratch: Path, samples: Samples
) -> tuple[dict[str, list[float]], dict[str, str], Any]:
    """Milliseconds by round of each that keeps the gate, why others were left out, and the chosen one's answers."""
    left: dict[str, str] = {}
    chosen = None
    with contextlib.ExitStack() as stack:
        racing = {}
        for name, contestant in contestants.items():
            answers = scratch / f"{name}.npy"
            child = stack.enter_context(_started(contestant, scratch / "samples.npy", answers))
            if _said(child) != "ready":
                left[name] = "it does not run"
                continue
            if contestant.kind in TRAINED:
                racing[name] = child
                continue
            found = np.load(answers)
            chosen = found if name == "chosen" else chosen
            row = {**samples.figures_of(found), "format": name, "target": TARGET}
            if drops := gate.drops(row, LIMITS, {}):
                left[name] = "; ".join(drops)
            else:
                racing[name] = child
        rounds: dict[str, list[float]] = {name: [] for name in racing}
        for number in range(ROUNDS):
            # In an order of its own each time: who always comes after the same one is up to 6 % slower or faster.
            for name in random.Random(number).sample(list(racing), len(racing)):
                rounds[name].append(_timed(name, racing[name]))
    return rounds, left, chosen


@contextlib.contextmanager
def _started(contestant: Contestant, samples: Path, answers: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.artefacts.worker", contestant.kind, str(contestant.file)]
    command += ["--samples", str(samples)]
    command += [] if contestant.kind in TRAINED else ["--answers", str(answers)]
    with subprocess.Popen(
        command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def _timed(name: str, child: subprocess.Popen[str]) -> float:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    found = json.loads(_said(child))
    if found["cpu"] > BUSY:
        raise SystemExit(f"{name} took {found['cpu']:.2f} cores where it was given one: the round does not count")
    return float(found["ms"])


def _said(child: subprocess.Popen[str]) -> str:
    """The next line of its own; some runtimes print on stdout as well."""
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "ready" or line.startswith('{"ms"'):
            return line.strip()
    return ""


def _environment() -> dict[str, str]:
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **one, "ORT_DISABLE_TELEMETRY": "1"}


if __name__ == "__main__":
    os.environ.update(_environment())
    sys.exit(main())
