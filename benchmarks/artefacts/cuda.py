"""ResNet-18 on a CUDA GPU: AOTInductor's package and compiled eager against eager, bf16, at batch 1 and 256.

    python -m benchmarks.artefacts.cuda FOLDER

FOLDER is what `benchmarks.artefacts.train` left of `conv`. The last line is `{"rows": [...]}`; without a GPU the one
row has the reason in `skipped`.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.artefacts import train
from models import net
from models.contract import Contract
from models.engines import engine
from models.export import aoti
from models.export.calibration import Calibration
from models.export.exporter import Source

BATCHES = (1, 256)
ROUNDS, EACH = 15, 20
Run = Callable[[], Any]


def main(argv: Sequence[str] | None = None) -> int:
    """A row for each batch size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.artefacts.cuda")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        reason = "torch finds no CUDA GPU; lab bench export --dataset cuda on a machine with one runs it"
        rows: list[dict[str, Any]] = [{"net": "conv", "skipped": reason}]
    else:
        with tempfile.TemporaryDirectory(prefix="lab-bench-") as scratch:
            rows = _rows(args.folder, Path(scratch))
    print(json.dumps({"rows": rows}))  # noqa: T201 - the caller reads this line
    return 0


def _rows(folder: Path, scratch: Path) -> list[dict[str, Any]]:
    trained = train.load("conv", folder)
    contract, calibration = Contract.load(folder / "contract.json"), Calibration(folder)
    answer = net.Answer(trained, contract).eval()
    made = aoti.export(Source(trained, answer, contract, calibration), "aoti-cuda", scratch)
    package = engine.load("aoti", scratch / made.files[0], "aoti-cuda", 1)
    eager = aoti.Lowered(answer).eval().cuda()
    compiled = torch.compile(eager, mode="max-autotune")
    rows = []
    for batch in BATCHES:
        tensors = np.resize(calibration.tensors, (batch, *contract.shape))
        runs: dict[str, Run] = {
            "eager": _asked(eager, tensors),
            "compiled": _asked(compiled, tensors),
            "aoti-cuda": functools.partial(package.run, tensors),
        }
        expected = runs["eager"]().argmax(1)
        agreement = {name: round(float((run().argmax(1) == expected).mean()), 4) for name, run in runs.items()}
        times = _timed(runs)
        rows.append({
            "net": "conv", "target": "cloud-gpu", "batch": batch, "gpu": torch.cuda.get_device_name(),
            "chosen": "aoti-cuda", "vs_eager": round(times["eager"] / times["aoti-cuda"], 2),
            "vs_compiled": round(times["compiled"] / times["aoti-cuda"], 2),
            "ms": {name: round(time, 4) for name, time in times.items()}, "agreement": agreement,
        })  # fmt: skip
    return rows


def _asked(module: Callable[[Tensor], Tensor], tensors: Any) -> Run:
    """From an array on the host to answers on the host, as an endpoint does it."""

    def run() -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(tensors).cuda()).float().cpu().numpy()

    return run


def _timed(runs: Mapping[str, Run]) -> dict[str, float]:
    """Median milliseconds of interleaved rounds, by the GPU's own clock."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            run()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch leaves it untyped
            start.record()
            for _ in range(EACH):
                run()
            end.record()
            end.synchronize()
            times[name].append(start.elapsed_time(end) / EACH)
    return {name: float(np.median(found)) for name, found in times.items()}


if __name__ == "__main__":
    sys.exit(main())
