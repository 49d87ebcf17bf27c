"""Trains the net on the curated data: the loop, on one screen.

B samples in a batch   C, H, W channels, height, width   K classes
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models import curated, net
from models.checkpoint import Checkpoint
from models.contract import Contract

OnEpoch = Callable[[dict[str, Any]], None]


# The nets are small: more threads wait for each other longer than they work.
THREADS = 4


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a training run can be told. Raises ValueError, with the remedy, for what makes no sense.

    rate   highest learning rate, which a cosine takes down to zero over all epochs
    decay  weight decay
    shift  how far a sample is moved at random, as a share of its size
    """

    size: str = "tiny"
    epochs: int = 25
    seed: int = 17
    batch: int = 32
    rate: float = 0.003
    decay: float = 0.01
    shift: float = 0.06

    def __post_init__(self) -> None:
        if self.size not in net.SIZES:
            raise ValueError(f"size is '{self.size}'; allowed: {', '.join(net.SIZES)}")
        if self.epochs < 1 or self.batch < 2:
            raise ValueError(f"epochs is {self.epochs} and batch {self.batch}; they start at 1 and 2")
        if not 0 < self.rate < 1 or self.decay < 0 or not 0 <= self.shift < 0.5:
            raise ValueError(
                f"rate is {self.rate}, decay {self.decay}, shift {self.shift}; "
                "they lie in (0, 1), from 0 upwards, and in [0, 0.5)"
            )


def train(config: Config, data: Path, out: Path, checkpoints: Path, on_epoch: OnEpoch) -> dict[str, Any]:
    """Trains on `data` (curated folder), writes the last epoch's model to `out`; returns that epoch's figures.

    The rate ends at zero, so the last epoch is taken, and the validation split chooses nothing: what is measured on
    it stays honest. Goes on from `checkpoints` when it holds one of the same configuration and data; the result is
    the same as without a break.
    """
    torch.set_num_threads(min(THREADS, torch.get_num_threads()))
    torch.manual_seed(config.seed)
    contract = Contract.load(data / "contract.json")
    pixels, labels = _tensors(data, "train")
    held = _tensors(data, "validation")
    model = net.ConvNet(contract, config.size)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types leave it out
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=config.decay)
    loss_of = nn.CrossEntropyLoss(weight=_class_weights(labels, len(contract.classes)))
    checkpoint = Checkpoint(checkpoints, {**asdict(config), "contract": contract.digest()})
    history = checkpoint.load(model, optimizer)

    for epoch in range(len(history) + 1, config.epochs + 1):
        rng = torch.manual_seed(config.seed * 100_003 + epoch)  # an epoch is the same after a restart
        model.train()
        total = 0.0
        batches = _batches(len(labels), config.batch, rng)
        for step, batch in enumerate(batches):
            _set_rate(optimizer, config, (epoch - 1 + step / len(batches)) / config.epochs)
            loss = loss_of(model(shifted(pixels[batch], config.shift, rng)), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        history.append({"epoch": epoch, "train_loss": total / len(labels), **_measured(model, *held)})
        checkpoint.save(model, optimizer, history)
        on_epoch(history[-1])

    net.save(model, contract, config.size, out)
    (out / "history.json").write_text(json.dumps(history) + "\n", "utf-8")
    return history[-1]


def shifted(pixels: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Each sample of [B, C, H, W] moved by up to `share` of its size, edges repeated: its place is no feature."""
    reach = round(share * max(pixels.shape[2:]))
    if reach == 0:
        return pixels
    height, width = pixels.shape[2:]
    padded = nn.functional.pad(pixels.float(), (reach,) * 4, mode="replicate")
    tops, lefts = torch.randint(0, 2 * reach + 1, (2, len(pixels)), generator=rng)
    rows = tops[:, None] + torch.arange(height)
    columns = lefts[:, None] + torch.arange(width)
    index = torch.arange(len(pixels))[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _tensors(data: Path, split: str) -> tuple[Tensor, Tensor]:
    pixels, labels, _ = curated.read(data, split)
    return torch.from_numpy(np.array(pixels)), torch.from_numpy(labels)


def _batches(count: int, size: int, rng: torch.Generator) -> list[Tensor]:
    """All samples in random order. A last batch of one goes to the one before: alone it has no variance to norm by."""
    order = torch.randperm(count, generator=rng)
    batches = list(torch.split(order, size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _class_weights(labels: Tensor, count: int) -> Tensor:
    """Rare classes count more, by the square root of how rare they are; the mean over samples stays one."""
    found = torch.bincount(labels, minlength=count).clamp(min=1).float()
    weights = found.rsqrt()
    return weights * len(labels) / (weights * found).sum()


def _set_rate(optimizer: torch.optim.Optimizer, config: Config, done: float) -> None:
    """One cosine, after a warm-up over the first twentieth (Loshchilov and Hutter, SGDR, 2017)."""
    rate = config.rate * min(1.0, 20 * done + 0.05) * 0.5 * (1 + math.cos(math.pi * done))
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.inference_mode()
def _measured(model: nn.Module, pixels: Tensor, labels: Tensor) -> dict[str, float]:
    model.eval()
    logits = torch.cat([model(part) for part in torch.split(pixels, 512)])
    loss = nn.functional.cross_entropy(logits, labels).item()
    return {"val_loss": loss, "val_accuracy": (logits.argmax(1) == labels).float().mean().item()}
