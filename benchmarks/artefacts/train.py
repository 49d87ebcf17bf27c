"""Makes one of the four tasks and trains its net: a curated folder as the ETL leaves it, and the net's weights.

    python -m benchmarks.artefacts.train NET --out DIR

Seeded, so that the same versions give the same net. DIR then holds contract.json, train/, validation/, test/ and
model.safetensors.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from benchmarks.artefacts import nets, tasks
from models.contract import SCHEMA, Column, Contract
from models.layers import Net

HELD = {"validation": 200, "test": 2000}
BATCH, RATE, DECAY = 64, 2e-3, 0.05
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Recipe:
    """What a net learns, from how many samples, how often."""

    task: Any
    modality: str
    samples: int
    epochs: int


RECIPES = {
    "conv": Recipe(tasks.textures, "image", 3000, 4),
    "tcn": Recipe(tasks.windows, "timeseries", 4000, 5),
    "transformer": Recipe(tasks.windows, "timeseries", 5000, 6),
    "tabular": Recipe(tasks.rows, "tabular", 6000, 8),
}


def main(argv: Sequence[str] | None = None) -> int:
    """One net with its data."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.artefacts.train")
    parser.add_argument("net", choices=sorted(RECIPES))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    recipe = RECIPES[args.net]
    inputs, labels = recipe.task(recipe.samples, np.random.default_rng(1))
    contract = _contract(args.net, recipe, inputs)
    args.out.mkdir(parents=True, exist_ok=True)
    contract.save(args.out / "contract.json")
    write(args.out / "train", inputs, labels)
    for place, (split, count) in enumerate(HELD.items()):
        write(args.out / split, *recipe.task(count, np.random.default_rng(2 + place)))
    net = _trained(args.net, contract, recipe, inputs, labels)
    weights = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_file(weights, args.out / WEIGHTS)
    return 0


def load(name: str, folder: Path) -> Net:
    """The net that `main` left in a folder, ready to answer."""
    net = nets.NETS[name](Contract.load(folder / "contract.json"), "base")
    net.load_state_dict(load_file(folder / WEIGHTS))
    return net.eval()


def _contract(name: str, recipe: Recipe, inputs: npt.NDArray[Any]) -> Contract:
    image = recipe.modality == "image"
    lines = np.moveaxis(inputs, 1 if image else -1, 0).reshape(inputs.shape[1 if image else -1], -1).astype(np.float64)
    columns = () if image else tuple(Column(name=f"c{place}") for place in range(len(lines)))
    return Contract(
        schema=SCHEMA, dataset=name, modality=recipe.modality, task="classification", shape=inputs.shape[1:],
        classes=tuple(map(str, range(tasks.CLASSES))), mean=tuple(map(float, lines.mean(1))),
        std=tuple(map(float, lines.std(1))), counts={}, profile={}, columns=columns,
    )  # fmt: skip


def write(folder: Path, inputs: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> None:
    """One split as the ETL leaves it; no two splits share a source."""
    folder.mkdir(exist_ok=True)
    names = [f"{folder.name}/{place:06d}" for place in range(len(labels))]
    table = pa.table({
        "id": names, "source": names, "label": pa.array(labels, pa.int32()),
        "tensor": [tensor.tobytes() for tensor in inputs],
    })  # fmt: skip
    pq.write_table(table, folder / "part-0.parquet")


def _trained(name: str, contract: Contract, recipe: Recipe, inputs: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Net:
    torch.manual_seed(5)
    net = nets.NETS[name](contract, "base")
    if contract.modality == "image":
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types leave it out
    given, wanted = torch.from_numpy(inputs), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    steps = len(given) // BATCH
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=recipe.epochs * steps, pct_start=0.2)
    for epoch in range(recipe.epochs):
        began, total = time.perf_counter(), 0.0
        for batch in torch.split(torch.randperm(len(given)), BATCH)[:steps]:
            loss = functional.cross_entropy(net(given[batch]), wanted[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            rates.step()
            total += loss.item()
        took = time.perf_counter() - began
        sys.stderr.write(f"{name}: epoch {epoch + 1} of {recipe.epochs}, loss {total / steps:.4f}, {took:.0f} s\n")
    return net.eval()


if __name__ == "__main__":
    sys.exit(main())
