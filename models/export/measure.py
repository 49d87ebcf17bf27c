"""Measures one package in a process of its own: time, memory, start and answers; nothing of what exported it is here.

    python -m models.export.measure --package DIR --samples FILE --threads N --batch N --started TIME --out DIR
    python -m models.export.measure --package DIR --samples FILE --threads N --rounds
    python -m models.export.measure --package DIR --threads N --out DIR

The first writes `figures.json`, `answers.npy` and `golden.npy`. The second loads and then, for each line on stdin,
times one round and answers with its median, so that candidates can be asked in turn. The third is for a device: a
package travels with its golden samples. What runs here is the endpoint's and the device's own code, and it lies in the
device's bundle: it needs no torch unless the format does.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.runtime import Model

# Predictions that are timed at batch 1, and seconds after which fewer have to do.
TIMED, SECONDS = 400, 1.0
FEWEST = 20
WARM_UP = 20
# Predictions of one round.
ROUND, ROUND_SECONDS = 60, 0.25
# Samples that travel with a package.
GOLDEN = 8


def main(argv: Sequence[str] | None = None) -> int:
    """One measurement, or rounds of it as long as stdin asks."""
    args = _arguments(argv)
    samples = _samples(args.samples, args.package)
    model = Model.load(args.package, threads=args.threads)
    one = np.array(samples[:1])
    if args.rounds:
        model.predict(one)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            sys.stdout.write(f"{np.median(taken(model, one, ROUND, ROUND_SECONDS)):.6f}\n")
            sys.stdout.flush()
        return 0
    model.predict(one)
    figures = {"cold_start_s": time.time() - args.started, **figures_of(model, samples, args.batch)}
    np.save(args.out / "golden.npy", model.predict(np.array(samples[:GOLDEN])).answers)
    # In the target's batches: what takes its ranges from a batch answers otherwise in a larger one.
    starts = range(0, len(samples), args.batch)
    parts = [model.predict(np.array(samples[start : start + args.batch])).answers for start in starts]
    np.save(args.out / "answers.npy", np.concatenate(parts))
    (args.out / "figures.json").write_text(json.dumps(figures), "utf-8")
    return 0


def _samples(file: Path | None, package: Path) -> npt.NDArray[Any]:
    """Raw tensors [N, ...]: those in `file`, else the golden ones of the package."""
    if file is not None:
        found: npt.NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
        return found
    with np.load(package / "golden.npz", allow_pickle=False) as golden:
        return np.asarray(golden["inputs"])


def figures_of(model: Model, samples: npt.NDArray[Any], batch: int) -> dict[str, float]:
    """Milliseconds at batch 1, samples per second at `batch`, CPU time by wall time, megabytes at the peak."""
    one, many = np.array(samples[:1]), np.array(samples[np.arange(batch) % len(samples)])
    taken(model, one, WARM_UP, SECONDS / 4)
    cpu, wall = time.process_time(), time.perf_counter()
    times = taken(model, one, TIMED, SECONDS)
    share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    taken(model, many, 2, SECONDS / 4)
    return {
        "p50_ms": float(np.percentile(times, 50)),
        "p95_ms": float(np.percentile(times, 95)),
        "p99_ms": float(np.percentile(times, 99)),
        "throughput_per_s": float(batch / np.median(taken(model, many, TIMED, SECONDS / 2)) * 1000.0),
        "cpu_per_wall": share,
        "peak_mb": peak_mb(),
    }


def taken(model: Model, batch: npt.NDArray[Any], rounds: int, seconds: float) -> list[float]:
    """Milliseconds of up to `rounds` predictions, fewer when `seconds` are over, but a few at least."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < rounds and (time.perf_counter() < until or len(times) < FEWEST):
        start = time.perf_counter()
        model.predict(batch)
        times.append((time.perf_counter() - start) * 1000.0)
    return times


def peak_mb() -> float:
    """The most memory that this process had resident, in megabytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not ru_maxrss: on Linux that includes what the parent had before the exec.
        found = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(found.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.export.measure")
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--samples", type=Path, help="raw tensors [N, ...] as .npy; the package's golden ones without")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--started",
        type=float,
        default=time.time(),
        help="time.time() at the start of the process; without it, loading counts alone",
    )
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--rounds", action="store_true")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
