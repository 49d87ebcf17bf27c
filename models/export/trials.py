"""Starts a process for each candidate and reads what it measured; close ones are asked again, in turn.

A candidate that crashes, hangs or refuses costs its own row and nothing else: its last words are the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.export import measure
from models.export.exporter import Unavailable

SECONDS = 240.0
# Rounds of a contest between close candidates; a round takes a quarter of a second at most.
ROUNDS = 5
PATIENCE = 60.0

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Conditions:
    """What a target gives a model: threads, and samples in a batch for throughput."""

    threads: int
    batch: int


@dataclass(frozen=True)
class Measured:
    """One candidate's figures, its answers to all samples [N, K], and to the golden ones alone [8, K]."""

    figures: Mapping[str, float]
    answers: Floats
    golden: Floats


def run(package: Path, samples: Path, conditions: Conditions, out: Path) -> Measured:
    """Measures the package in a new process; `samples` is an .npy file. Raises Unavailable with its last words."""
    out.mkdir(parents=True, exist_ok=True)
    command = [*_command(package, samples, conditions), "--batch", str(conditions.batch), "--out", str(out)]
    try:
        done = subprocess.run(
            [*command, "--started", repr(time.time())],
            env=environment(conditions.threads),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"its measurement took more than {SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise Unavailable(f"its measurement ended with {_ending(done.returncode)}: {_last_words(done.stderr)}")
    figures: dict[str, Any] = json.loads((out / "figures.json").read_text("utf-8"))
    answers, golden = (np.load(out / name, allow_pickle=False) for name in ("answers.npy", "golden.npy"))
    return Measured(figures, answers, golden)


def contest(packages: Mapping[str, Path], samples: Path, conditions: Conditions) -> dict[str, float]:
    """Median milliseconds at batch 1 by name, from rounds in which each candidate is asked once.

    One after the other on a busy machine, whoever comes first would win by luck. A candidate that fails is left out.
    """
    with contextlib.ExitStack() as stack:
        started = {
            name: stack.enter_context(_started(package, samples, conditions)) for name, package in packages.items()
        }
        found: dict[str, list[float]] = {name: [] for name in started if _line(started[name]) == "ready"}
        for _ in range(ROUNDS):
            for name in list(found):
                try:
                    found[name].append(float(_asked(started[name])))
                except (OSError, ValueError):
                    del found[name]
    return {name: float(np.median(times)) for name, times in found.items()}


@contextlib.contextmanager
def _started(package: Path, samples: Path, conditions: Conditions) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*_command(package, samples, conditions), "--rounds"],
        env=environment(conditions.threads),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _asked(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return _line(process)


def _line(process: subprocess.Popen[str]) -> str:
    """The next line that a child says, empty when it has ended or does not answer."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
    return process.stdout.readline().strip() if ready else ""


def _command(package: Path, samples: Path, conditions: Conditions) -> list[str]:
    return [
        sys.executable, "-m", measure.__name__, "--package", str(package), "--samples", str(samples),
        "--threads", str(conditions.threads),
    ]  # fmt: skip


def environment(threads: int) -> dict[str, str]:
    """Of a child: this process's own, with our code importable from where it is, and as many threads."""
    ours = str(Path(measure.__file__).parents[2])
    path = [os.environ["PYTHONPATH"], ours] if os.environ.get("PYTHONPATH") else [ours]
    pools = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {**os.environ, **pools, "PYTHONPATH": os.pathsep.join(path), "ORT_DISABLE_TELEMETRY": "1"}


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("models.runtime.")[:300] if lines else "it said nothing"
