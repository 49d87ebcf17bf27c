"""Measures the lab on this machine: one row per case, a table for people, one JSON line last."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab import bench_device, bench_etl, bench_export, bench_serve, bench_train, launch, processes
from lab.errors import LabError
from lab.home import Home

Row = dict[str, Any]
MEASURED = ("torch", "onnxruntime", "pyspark", "moto", "aws-cdk-lib", "sagemaker-training")
# What decides which precision is fast on an x86 core: products of 8-bit integers and of bf16.
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
EXPORTERS = ("onnx", "openvino", "nncf", "executorch", "torchao")


def flow(home: Home, dataset: str | None) -> Iterator[Row]:
    """`lab run --approve` in an empty lab (cold), and again with the same sources (warm: synth is cached).

    Seconds are the run's wall time; `overhead_seconds` and `phases` the engine's share, as the record has them;
    `wait_seconds` lie in the flows' Wait states, which are a part of polling where no child runs meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        for case in ("cold", "warm"):
            yield {"case": case, **_run(home, Path(folder) / "home", dataset)}


def _run(home: Home, root: Path, dataset: str | None) -> Row:
    argv = [sys.executable, "-m", "lab", "--config", str(home.config), "run", "--approve", "--json"]
    argv += ["--dataset", dataset] if dataset else []
    env = {**launch.environment(home), "LAB_HOME": str(root)}
    done = processes.run(argv, cwd=home.repo, env=env)
    if done.rc:
        said = "\n".join(done.last_lines())
        raise LabError(
            f"the measured run ended with {done.rc}:\n{said}", "it must succeed by itself: lab run --approve"
        )
    record = json.loads(done.out)
    waits = sum(state["seconds"] for state in record["states"] if state["resource"] == "wait")
    return {"seconds": round(record["seconds"], 1), "wait_seconds": round(waits, 1), **record["engine"]}


BENCHES: dict[str, Callable[[Home, str | None], Iterator[Row]]] = {
    "device": bench_device.device,
    "flow": flow,
    "etl": bench_etl.etl,
    "export": bench_export.export,
    "serve": bench_serve.serve,
    "train": bench_train.train,
}


def line(row: Row) -> str:
    """A row for people: its case, and each figure by its name."""
    phases = row.get("phases") or {}
    figures = {**{key: value for key, value in row.items() if key not in ("case", "phases")}, **phases}
    return f"{row['case']:18} " + "  ".join(f"{key} {_shown(value)}" for key, value in figures.items())


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def document(name: str, rows: list[Row]) -> dict[str, Any]:
    """What a record in benchmarks/ holds: the rows, and what they were measured on."""
    return {
        "bench": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
            "instructions": [name for name in INSTRUCTIONS if name in _cpuinfo("flags").split()],
            "system": platform.system(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in (*MEASURED, *EXPORTERS) if _installed(name)},
        },
        "rows": rows,
    }


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _cpuinfo(key: str) -> str:
    """What Linux says of the first core under a key; empty where it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
