"""What the training benchmark learns: a table with the lab's tiny net, pictures with its tiny and base nets, ResNet-18.

image-tiny   1 x 8 x 8 pixels, as digits     image-base, resnet18   3 x 64 x 64 pixels     table   12 numbers
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.artefacts.nets import ResNet18
from models import net, train
from models.contract import Column, Contract
from models.ranks import Ranks

BATCH = {"table": 32, "image-tiny": 32, "image-base": 64, "resnet18": 64}
CLASSES = tuple("abcdefghij")


def prepared(name: str, samples: int, ranks: Ranks, **settings: int) -> train.Run:
    """The net called so with random samples to learn, as `train.train` prepares one with these `settings`."""
    rng = torch.Generator().manual_seed(1)
    contract = _contract(name)
    if contract.modality == "image":
        inputs = torch.randint(0, 256, (samples, *contract.shape), dtype=torch.uint8, generator=rng)
    else:
        inputs = torch.randn((samples, *contract.shape), generator=rng)
    labels = torch.randint(0, len(CLASSES), (samples,), generator=rng)
    learned: tuple[Tensor, Tensor] = (inputs, labels)
    size = "base" if name == "image-base" else "tiny"
    config = train.Config(**{"size": size, "batch": BATCH[name], "epochs": 1000, **settings})
    build = net.NETS["image"]
    if name == "resnet18":
        net.NETS["image"] = ResNet18
    try:
        return train.prepared(config, contract, learned, learned, ranks)
    finally:
        net.NETS["image"] = build


def _contract(name: str) -> Contract:
    table = name == "table"
    shape = (12,) if table else (1, 8, 8) if name == "image-tiny" else (3, 64, 64)
    width = 12 if table else shape[0]
    about: dict[str, Any] = {"columns": tuple(Column(name=f"c{place}") for place in range(12))} if table else {}
    return Contract(
        schema=2, dataset=name, modality="tabular" if table else "image", task="classification", shape=shape,
        classes=CLASSES, mean=(0.0 if table else 128.0,) * width, std=(1.0 if table else 74.0,) * width,
        counts={"train": {}}, profile={}, **about,
    )  # fmt: skip
