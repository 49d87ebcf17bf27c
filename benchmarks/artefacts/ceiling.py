"""ResNet-18 at batch 32 in each precision, against the fastest matrix product of that precision on this core.

    python -m benchmarks.artefacts.ceiling FOLDER

FOLDER is what `benchmarks.artefacts.train` left of `conv`. The ceiling is a chain of square matrix products in the same
runtimes, made by the same exporters. One thread, its CPU time; the last line is `{"rows": [...]}`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.artefacts import train
from models import net
from models.contract import SCHEMA, Column, Contract
from models.engines import engine
from models.export import formats, onnx, onnx_int8, openvino
from models.export.calibration import Calibration
from models.export.exporter import Source, quiet

BATCH, ROUNDS, EACH = 32, 15, 3
# What runs a batch, the batch, and the operations that it takes.
Task = tuple[Callable[[npt.NDArray[Any]], Any], npt.NDArray[Any], float]
# A chain of so many products of square matrices of this size.
SIZE, LINKS = 1024, 4
EXPORTERS = {
    "onnx-fp32": onnx.export,
    "openvino-fp32": openvino.export,
    "openvino-bf16": openvino.export,
    "onnx-int8": onnx_int8.export,
    "openvino-int8": openvino.export,
}


class Chain(nn.Module):
    """Matrix products one after the other."""

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        self.contract = contract
        self.links = nn.Sequential(*(nn.Linear(SIZE, SIZE, bias=False) for _ in range(LINKS)))

    def forward(self, rows: Tensor) -> Tensor:
        """float32 [N, SIZE] -> the same shape."""
        found: Tensor = self.links(rows)
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """A row for each precision."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.artefacts.ceiling")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    trained = train.load("conv", args.folder)
    tensors = Calibration.load(args.folder).tensors
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as scratch:
        chain = _chain(Path(scratch) / "chain")
        net_engines = dict(_engines(source(trained, args.folder), Path(scratch) / "net"))
        product = dict(_engines(chain, Path(scratch) / "product"))
        batch = np.resize(tensors, (BATCH, *tensors.shape[1:]))
        square = np.resize(chain.calibration.tensors, (SIZE, SIZE))
        work = BATCH * operations(trained, tensors)
        tasks: dict[str, Task] = {f"net/{name}": (loaded.run, batch, work) for name, loaded in net_engines.items()}
        tasks |= {f"product/{name}": (loaded.run, square, LINKS * 2.0 * SIZE**3) for name, loaded in product.items()}
        print(json.dumps({"rows": list(_rows(rates(tasks)))}))  # noqa: T201 - the caller reads this line
    return 0


def _rows(found: Mapping[str, npt.NDArray[np.float64]]) -> Iterator[dict[str, Any]]:
    for precision in ("fp32", "bf16", "int8"):
        names = [name for name in EXPORTERS if name.endswith(precision)]
        best, ceiling = (
            max((f"{kind}/{name}" for name in names), key=lambda key: float(np.median(found[key])))
            for kind in ("net", "product")
        )
        yield {
            "net": "conv", "batch": BATCH, "precision": precision, "format": best.removeprefix("net/"),
            "gops": round(float(np.median(found[best])), 1), "ceiling_gops": round(float(np.median(found[ceiling])), 1),
            "of_ceiling": round(float(np.median(found[best] / found[ceiling])), 3),
            "by_format": {name: round(float(np.median(found[f"net/{name}"])), 1) for name in names},
        }  # fmt: skip


def source(trained: nn.Module, folder: Path) -> Source:
    """What exporters want of a net that `benchmarks.artefacts.train` left in a folder."""
    contract = Contract.load(folder / "contract.json")
    return Source(trained, net.Answer(trained, contract).eval(), contract, Calibration(folder))


def _chain(folder: Path) -> Source:
    """The chain with its own curated folder, as exporters want it."""
    names = tuple(str(place) for place in range(SIZE))
    columns = tuple(Column(name=name) for name in names)
    contract = Contract(
        schema=SCHEMA, dataset="chain", modality="tabular", task="classification", shape=(SIZE,), classes=names,
        mean=(0.0,) * SIZE, std=(1.0,) * SIZE, counts={}, profile={}, columns=columns,
    )  # fmt: skip
    folder.mkdir()
    contract.save(folder / "contract.json")
    rng = np.random.default_rng(0)
    train.write(folder / "train", rng.normal(size=(64, SIZE)).astype(np.float32), np.arange(64))
    torch.manual_seed(0)
    return Source(Chain(contract).eval(), Chain(contract).eval(), contract, Calibration(folder))


def _engines(given: Source, folder: Path) -> Iterator[tuple[str, engine.Engine]]:
    for name, export in EXPORTERS.items():
        place = folder / name
        place.mkdir(parents=True)
        with quiet():
            made = export(given, name, place)
        yield name, engine.load(formats.BY_NAME[name].runtime, place / made.files[0], name, 1)


def operations(trained: nn.Module, tensors: npt.NDArray[Any]) -> float:
    """Multiplications and additions of one sample, of convolutions and matrix products alone."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        trained(torch.from_numpy(tensors[:1].copy()))
    return float(counter.get_total_flops())


def rates(tasks: Mapping[str, Task]) -> dict[str, npt.NDArray[np.float64]]:
    """Operations a nanosecond of CPU time by round; a round asks each in an order of its own, a few runs in a row."""
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(ROUNDS):
        for name in random.Random(number).sample(list(tasks), len(tasks)):
            run, batch, work = tasks[name]
            run(batch)
            cpu, began = time.process_time(), time.perf_counter()
            for _ in range(EACH):
                run(batch)
            spent, wall = time.process_time() - cpu, time.perf_counter() - began
            if spent / wall > 1.05:
                raise SystemExit(f"{name} took more than the one core that it was given")
            found[name].append(work * EACH / spent / 1e9)
    return {name: np.array(each) for name, each in found.items()}


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.exit(main())
