"""Measures the export: what the product chooses for four nets, against eager PyTorch and every runtime driven by hand.

The work is done by `benchmarks/artefacts`, in processes of one thread each. A net is trained once and kept in the lab's
home.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lab import launch, processes
from lab.errors import LabError
from lab.home import Home

Row = dict[str, Any]
NETS = ("conv", "tcn", "transformer", "tabular")
# A case that runs one module on the trained `conv`.
OF_CONV = {"batch32": "ceiling", "ways": "ways", "cuda": "cuda"}
ONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def export(home: Home, dataset: str | None) -> Iterator[Row]:
    """One row per net: vs_eager, vs_best, agreement and more; then of `conv` at batch 32, in other ways, and on CUDA.

    `dataset` names one of the cases. A case whose runtimes or GPU are not here is a row with the reason in `skipped`.
    """
    cases = (*NETS, *OF_CONV)
    if dataset is not None and dataset not in cases:
        raise LabError(f"bench export knows no case {dataset}", f"one of {', '.join(cases)}; without --dataset all")
    for case in [dataset] if dataset else list(cases):
        if case in NETS:
            yield {"case": case, **_child(home, "contest", str(_trained(home, case)))}
        else:
            folder = _trained(home, "conv")
            for row in _child(home, OF_CONV[case], str(folder))["rows"]:
                yield {"case": case, **row}


def _trained(home: Home, name: str) -> Path:
    """The folder of a net that is trained, by the sources that make it."""
    sources = b"".join((home.repo / "benchmarks/artefacts" / file).read_bytes() for file in _SOURCES)
    folder = home.root / "bench" / "export" / hashlib.sha256(sources).hexdigest()[:12] / name
    if not (folder / "model.safetensors").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        _run(home, {}, "train", name, "--out", str(folder))
    return folder


_SOURCES = ("nets.py", "tasks.py", "train.py")


def _child(home: Home, module: str, *argv: str) -> Row:
    """The JSON in the last line that a child said."""
    found: Row = json.loads(_run(home, ONE, module, *argv).strip().splitlines()[-1])
    return found


def _run(home: Home, threads: Mapping[str, str], module: str, *argv: str) -> str:
    command = [sys.executable, "-m", f"benchmarks.artefacts.{module}", *argv]
    done = processes.run(command, cwd=home.repo, env={**launch.environment(home), **threads})
    if done.rc:
        said = "\n".join(done.last_lines())
        raise LabError(
            f"{module} {' '.join(argv)} ended with {done.rc}:\n{said}", "make install-bench brings all of it"
        )
    return done.out
