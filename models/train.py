"""Trains the net on the curated data: the loop, on one screen.

    torchrun --nproc_per_node 2 pipelines/jobs/train.py      several ranks share each batch (models/ranks.py)

B samples in a batch
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models import augment, curated, net, pace
from models.anomaly_net import Detector
from models.checkpoint import Checkpoint, Progress
from models.contract import Contract
from models.feed import Change, Feed
from models.noise import Rows, share_noise
from models.objective import Objective
from models.pace import Pace
from models.ranks import Gradients, Ranks, Share
from models.shared_norm import share_norms

OnEpoch = Callable[[dict[str, Any]], None]


# The nets are small: more threads wait for each other longer than they work.
THREADS = 4
# Of several ranks: steps between two looks at whether one of them is asked to leave.
LOOK = 10


class TrainingError(Exception):
    """A training that cannot go on; the message says what to change."""


class Left(Exception):
    """The run was asked to leave and did, its checkpoint written; it goes on from there when started again."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a training run can be told. Raises ValueError, with the remedy, for what makes no sense.

    rate      highest learning rate, which a cosine takes down to zero over all epochs
    decay     weight decay
    patience  epochs without a better validation loss after which training ends; 0 for never
    shift     how far a picture is moved at random, as a share of its size
    jitter    how much its contrast and brightness change, as a share
    flip      how it may be mirrored: none, horizontal, vertical, both
    accumulate  parts that a step's batch of `batch` times so many samples goes through the net in
    precision   fp32, bf16 (autocast), or auto: bf16 on a GPU
    compile     on, off, or auto: on a GPU
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
    accumulate: int = 1
    precision: str = "auto"
    compile: str = "auto"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("size", net.SIZES),
            ("flip", augment.FLIPS),
            ("precision", pace.PRECISIONS),
            ("compile", pace.COMPILES),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is '{getattr(self, name)}'; allowed: {', '.join(allowed)}")
        if self.epochs < 1 or self.batch < 2 or self.patience < 0 or self.accumulate < 1:
            raise ValueError(
                f"epochs is {self.epochs}, batch {self.batch}, patience {self.patience}, accumulate {self.accumulate}; "
                "they start at 1, 2, 0 and 1"
            )
        if not 0 < self.rate < 1 or self.decay < 0 or not 0 <= self.shift < 0.5 or not 0 <= self.jitter < 1:
            raise ValueError(
                f"rate is {self.rate}, decay {self.decay}, shift {self.shift}, jitter {self.jitter}; "
                "they lie in (0, 1), from 0 upwards, in [0, 0.5) and in [0, 1)"
            )


def train(
    config: Config,
    data: Path,
    out: Path,
    checkpoints: Path,
    on_epoch: OnEpoch,
    ranks: Ranks | None = None,
    leaves: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains on `data` (curated folder), writes the best epoch's model to `out`; returns that epoch's figures.

    The best epoch is the one with the smallest loss on the validation split. Goes on from `checkpoints` when it holds
    one of the same configuration and data; the result is the same as without a break. Of several ranks each takes its
    share of every batch, and the first alone writes and tells epochs. Raises TrainingError; Left, with a checkpoint
    written, soon after `leaves` has become true on any rank; RankError when another rank fails.
    """
    torch.set_num_threads(min(THREADS, torch.get_num_threads()))
    contract = Contract.load(data / "contract.json")
    learned, held = _learned(contract, *_tensors(data, "train")), _tensors(data, "validation")
    run = prepared(config, contract, learned, held, ranks or Ranks.alone())
    checkpoint = Checkpoint(checkpoints, {**asdict(config), "contract": contract.digest()}, run.ranks)
    done = checkpoint.load(run.model, run.optimizer)

    while not _ended(done.history, config):
        for _ in learn(run, done):
            _leave_if_asked(run, checkpoint, done, leaves)
        figures = {"epoch": len(done.history) + 1, "train_loss": run.lost() / run.feed.count}
        done.history.append({**figures, **run.objective.measured(run.model, *run.held, run.ranks)})
        done.best = done.best if best_epoch(done.history) < len(done.history) else _snapshot(run.model)
        done.step, done.total = 0, 0.0
        checkpoint.save(run.model, run.optimizer, done)
        if run.ranks.first:
            on_epoch(done.history[-1])

    if run.ranks.first:
        _write(run, done, out)
    return done.history[best_epoch(done.history) - 1]


def learn(run: Run, done: Progress) -> Iterator[None]:
    """What is left of the epoch after `done`, a step of the optimiser at a time."""
    epoch = len(done.history) + 1
    run.model.train()
    run.total.fill_(done.total if run.ranks.first else 0.0)
    for step, parts in run.feed.steps(epoch, done.step):
        _set_rate(run.optimizer, run.config, (epoch - 1 + step.number / step.count) / run.config.epochs)
        weight = None if step.whole else run.objective.weight(run.labels[step.samples])
        for part in parts:
            run.rows.share = part.share
            run.pace.seed(step.seed)
            loss = run.objective.loss(run.model, part.inputs, part.labels, weight)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            run.total.add_(loss.detach(), alpha=len(step.samples))  # on the device: reading it would wait for the GPU
        run.gradients.add_up()
        run.optimizer.step()
        run.gradients.clear()
        done.step = step.number + 1
        yield


@dataclass(frozen=True)
class Run:
    """A net in training and what it learns from. `total` sums the losses of this rank's samples in an epoch."""

    config: Config
    contract: Contract
    ranks: Ranks
    pace: Pace
    model: net.Net
    optimizer: torch.optim.Optimizer
    gradients: Gradients
    objective: Objective
    feed: Feed
    rows: Rows
    inputs: Tensor
    labels: Tensor
    held: tuple[Tensor, Tensor]
    total: Tensor

    def lost(self) -> float:
        """The sum of the losses of all samples in the epoch so far, on all ranks."""
        return float(self.ranks.add_up(self.total.clone()).item())


def prepared(
    config: Config, contract: Contract, learned: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], ranks: Ranks
) -> Run:
    """A new net with everything that training it takes; raw tensors and labels to learn from, and held out."""
    torch.manual_seed(config.seed)  # the same weights on each rank
    inputs, labels = learned
    speed, rows = Pace.of(config.precision, config.compile, ranks.device), Rows(Share(0, 0, 0))
    model = _built(contract, config, inputs).to(ranks.device)
    if ranks.world > 1:
        share_norms(model, ranks)
    if ranks.world > 1 or config.accumulate > 1:
        share_noise(model, rows)
    speed.prepare(model)
    feed = Feed(
        inputs, labels, batch=config.batch, accumulate=config.accumulate, seed=config.seed, ranks=ranks, pace=speed,
        change=_augmented(config) if contract.modality == "image" else None,
    )  # fmt: skip
    return Run(
        config=config,
        contract=contract,
        ranks=ranks,
        pace=speed,
        model=model,
        optimizer=speed.optimizer(model, rate=config.rate, decay=config.decay),
        gradients=Gradients(model, ranks),
        objective=Objective(contract, labels, speed),
        feed=feed,
        rows=rows,
        inputs=inputs,
        labels=labels,
        held=held,
        total=torch.zeros((), dtype=torch.float64, device=ranks.device),
    )


def _leave_if_asked(run: Run, checkpoint: Checkpoint, done: Progress, leaves: Callable[[], bool]) -> None:
    """Raises Left after a checkpoint when this rank, or of several any, is asked to leave; all ranks look together."""
    asked = leaves() if run.ranks.world == 1 else done.step % LOOK == 1 and run.ranks.any(leaves())
    if asked:
        done.total = run.lost()
        checkpoint.save(run.model, run.optimizer, done)
        raise Left(f"left in epoch {len(done.history) + 1} after step {done.step}; the checkpoint is written")


def _write(run: Run, done: Progress, out: Path) -> None:
    """The best epoch's model, its contract and the history."""
    run.model.load_state_dict(done.best)
    run.model.cpu().eval()
    if isinstance(run.model, Detector):
        run.model.settle(run.inputs, *run.held)
    net.save(run.model, run.contract, run.config.size, out)
    (out / "history.json").write_text(json.dumps(done.history) + "\n", "utf-8")


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


def _augmented(config: Config) -> Change:
    def change(batch: Tensor, rng: torch.Generator, share: Share) -> Tensor:
        changed = augment.pictures(batch, rng, shift=config.shift, jitter=config.jitter, flip=config.flip, share=share)
        return changed.contiguous(memory_format=torch.channels_last)

    return change


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _tensors(data: Path, split: str) -> tuple[Tensor, Tensor]:
    tensors, labels, _ = curated.read(data, split)
    return torch.from_numpy(np.array(tensors)), torch.from_numpy(np.array(labels))


def _set_rate(optimizer: torch.optim.Optimizer, config: Config, done: float) -> None:
    """One cosine, after a warm-up over the first twentieth (Loshchilov and Hutter, SGDR, 2017)."""
    rate = config.rate * min(1.0, 20 * done + 0.05) * 0.5 * (1 + math.cos(math.pi * done))
    for group in optimizer.param_groups:
        group["lr"] = rate
