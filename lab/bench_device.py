"""Measures the component that runs on devices: what it adds to the bare runtime, at rest, after a kill, through swaps.

The work is done by `benchmarks/device`, each case in a process of its own with one thread.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import launch, processes
from lab.errors import LabError
from lab.home import Home

Row = dict[str, Any]
CASES = ("inference", "rest", "kill", "swaps", "spool")
ONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def device(home: Home, dataset: str | None) -> Iterator[Row]:
    """One row per case; `dataset` names one of them."""
    if dataset is not None and dataset not in CASES:
        raise LabError(f"bench device knows no case {dataset}", f"one of {', '.join(CASES)}; without --dataset all")
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as scratch:
        package = Path(scratch) / "package"
        _run(home, [str(home.repo / "benchmarks" / "peers" / "package.py"), str(package)])
        for case in [dataset] if dataset else CASES:
            folder = Path(scratch) / case
            folder.mkdir()
            said = _run(home, ["-m", "benchmarks.device.cases", case, str(package), str(folder)])
            yield {"case": case, **json.loads(said.strip().splitlines()[-1])}


def _run(home: Home, argv: list[str]) -> str:
    if not (home.repo / "benchmarks" / "device").is_dir():
        raise LabError("benchmarks/device is not here", "run lab bench device in the lab's own repository")
    done = processes.run([sys.executable, *argv], cwd=home.repo, env={**launch.environment(home), **ONE})
    if done.rc:
        said = "\n".join(done.last_lines())
        raise LabError(f"{' '.join(argv[:3])} ended with {done.rc}:\n{said}", "it must succeed by itself")
    return done.out
