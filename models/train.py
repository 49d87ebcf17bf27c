"""Trains the net on the curated data: the loop, on one screen.

B samples in a batch
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models import augment, curated, net
from models.anomaly_net import Detector
from models.checkpoint import Checkpoint
from models.contract import Contract
from models.objective import Objective

OnEpoch = Callable[[dict[str, Any]], None]


# The nets are small: more threads wait for each other longer than they work.
THREADS = 4
# An epoch takes no more steps than this: from there on the batches grow instead.
STEPS = 250


class TrainingError(Exception):
    """A training that cannot go on; the message says what to change."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a training run can be told. Raises ValueError, with the remedy, for what makes no sense.

    rate      highest learning rate, which a cosine takes down to zero over all epochs
    decay     weight decay
    patience  epochs without a better validation loss after which training ends; 0 for never
    shift     how far a picture is moved at random, as a share of its size
    jitter    how much its contrast and brightness change, as a share
    flip      how it may be mirrored: none, horizontal, vertical, both
    """

    size: str = "tiny"
    epochs: int = 25
    seed: int = 17
    batch: int = 32
    rate: float = 0.003
    decay: float = 0.01
    patience: int = 10
    shift: float = 0.06
    jitter: float = 0.1
    flip: str = "none"

    def __post_init__(self) -> None:
        if self.size not in net.SIZES:
            raise ValueError(f"size is '{self.size}'; allowed: {', '.join(net.SIZES)}")
        if self.flip not in augment.FLIPS:
            raise ValueError(f"flip is '{self.flip}'; allowed: {', '.join(augment.FLIPS)}")
        if self.epochs < 1 or self.batch < 2 or self.patience < 0:
            raise ValueError(
                f"epochs is {self.epochs}, batch {self.batch}, patience {self.patience}; they start at 1, 2 and 0"
            )
        if not 0 < self.rate < 1 or self.decay < 0 or not 0 <= self.shift < 0.5 or not 0 <= self.jitter < 1:
            raise ValueError(
                f"rate is {self.rate}, decay {self.decay}, shift {self.shift}, jitter {self.jitter}; "
                "they lie in (0, 1), from 0 upwards, in [0, 0.5) and in [0, 1)"
            )


def train(config: Config, data: Path, out: Path, checkpoints: Path, on_epoch: OnEpoch) -> dict[str, Any]:
    """Trains on `data` (curated folder), writes the best epoch's model to `out`; returns that epoch's figures.

    The best epoch is the one with the smallest loss on the validation split. Goes on from `checkpoints` when it holds
    one of the same configuration and data; the result is the same as without a break. Raises TrainingError.
    """
    torch.set_num_threads(min(THREADS, torch.get_num_threads()))
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    contract = Contract.load(data / "contract.json")
    inputs, labels = _learned(contract, *_tensors(data, "train"))
    held = _tensors(data, "validation")
    model = _built(contract, config, inputs).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=config.decay)
    objective = Objective(contract, labels, device)
    checkpoint = Checkpoint(checkpoints, {**asdict(config), "contract": contract.digest()})
    history, best = checkpoint.load(model, optimizer)

    while not _ended(history, config):
        epoch = len(history) + 1
        rng = torch.manual_seed(config.seed * 100_003 + epoch)  # an epoch is the same after a restart
        model.train()
        total = 0.0
        batches = _batches(len(labels), max(config.batch, len(labels) // STEPS), rng)
        for step, batch in enumerate(batches):
            _set_rate(optimizer, config, (epoch - 1 + step / len(batches)) / config.epochs)
            loss = objective.loss(model, _augmented(inputs[batch], contract, config, rng), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            total += loss.item() * len(batch)
        history.append({"epoch": epoch, "train_loss": total / len(labels), **objective.measured(model, *held)})
        best = best if best_epoch(history) < epoch else _snapshot(model)
        checkpoint.save(model, optimizer, history, best)
        on_epoch(history[-1])

    model.load_state_dict(best)
    model.cpu().eval()
    if isinstance(model, Detector):
        model.settle(inputs, *held)
    net.save(model, contract, config.size, out)
    (out / "history.json").write_text(json.dumps(history) + "\n", "utf-8")
    return history[best_epoch(history) - 1]


def best_epoch(history: Sequence[dict[str, Any]]) -> int:
    """The first epoch with the smallest validation loss, counted from 1. Raises TrainingError when none is finite."""
    finite = [row for row in history if math.isfinite(row["val_loss"]) and math.isfinite(row["train_loss"])]
    if not finite:
        raise TrainingError("the loss is no finite number from the first epoch on: lower `rate`, or look at the data")
    return int(min(finite, key=lambda row: row["val_loss"])["epoch"])


def _ended(history: Sequence[dict[str, Any]], config: Config) -> bool:
    if not history:
        return False
    waited = len(history) - best_epoch(history)
    return len(history) >= config.epochs or 0 < config.patience <= waited


def _built(contract: Contract, config: Config, inputs: Tensor) -> net.Net:
    model = net.build(contract, config.size)
    net.observe(model, inputs)
    if contract.modality == "image":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types leave it out
    return model


def _learned(contract: Contract, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What is learned from: all of the training split, for a detector its normal samples."""
    if contract.task != "anomaly":
        return inputs, labels
    normal = labels == 0
    if not bool(normal.any()):
        raise TrainingError("the training split has no normal sample, and normal is what a detector learns")
    return inputs[normal], labels[normal]


def _augmented(batch: Tensor, contract: Contract, config: Config, rng: torch.Generator) -> Tensor:
    if contract.modality != "image":
        return batch
    return augment.pictures(batch, rng, shift=config.shift, jitter=config.jitter, flip=config.flip)


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _tensors(data: Path, split: str) -> tuple[Tensor, Tensor]:
    tensors, labels, _ = curated.read(data, split)
    return torch.from_numpy(np.array(tensors)), torch.from_numpy(np.array(labels))


def _batches(count: int, size: int, rng: torch.Generator) -> list[Tensor]:
    """All samples in random order. A last batch of one goes to the one before: alone it has no variance to norm by."""
    order = torch.randperm(count, generator=rng)
    batches = list(torch.split(order, size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _set_rate(optimizer: torch.optim.Optimizer, config: Config, done: float) -> None:
    """One cosine, after a warm-up over the first twentieth (Loshchilov and Hutter, SGDR, 2017)."""
    rate = config.rate * min(1.0, 20 * done + 0.05) * 0.5 * (1 + math.cos(math.pi * done))
    for group in optimizer.param_groups:
        group["lr"] = rate
