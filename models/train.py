"""Trains the net on the curated data: the loop, on one screen, and the checkpoint it can go on from.

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
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models import curated, net
from models.contract import Contract

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a training run can be told. Raises ValueError, with the remedy, for what makes no sense."""

    size: str = "tiny"
    epochs: int = 25
    seed: int = 17
    batch: int = 64
    rate: float = 0.003
    decay: float = 0.01
    shift: float = 0.06

    def __post_init__(self) -> None:
        if self.size not in net.SIZES:
            raise ValueError(f"size is '{self.size}'; allowed: {', '.join(net.SIZES)}")
        if self.epochs < 1 or self.batch < 2:
            raise ValueError(f"epochs is {self.epochs} and batch {self.batch}; they start at 1 and 2")
        if not 0 < self.rate < 1 or not 0 <= self.shift < 0.5:
            raise ValueError(f"rate is {self.rate} and shift {self.shift}; they lie in (0, 1) and [0, 0.5)")


def train(config: Config, data: Path, out: Path, checkpoints: Path, on_epoch: OnEpoch) -> dict[str, Any]:
    """Trains on `data` (curated folder), writes the best epoch's model to `out`; returns that epoch's figures.

    Goes on from `checkpoints` when it holds one of the same configuration; the result is the same as without a break.
    """
    torch.manual_seed(config.seed)
    contract = Contract.load(data / "contract.json")
    pixels, labels = _tensors(data, "train")
    held = _tensors(data, "validation")
    model = net.ConvNet(contract, config.size)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types leave it out
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=config.decay)
    loss_of = nn.CrossEntropyLoss(weight=_class_weights(labels, len(contract.classes)), label_smoothing=0.05)
    history, best = _resume(config, contract, checkpoints, model, optimizer, out)

    for epoch in range(len(history) + 1, config.epochs + 1):
        rng = torch.Generator().manual_seed(config.seed * 100_003 + epoch)  # an epoch is the same after a restart
        torch.manual_seed(config.seed * 100_003 + epoch)
        model.train()
        total = 0.0
        batches = torch.split(torch.randperm(len(labels), generator=rng), config.batch)
        for step, batch in enumerate(batches):
            _set_rate(optimizer, config, (epoch - 1 + step / len(batches)) / config.epochs)
            loss = loss_of(model(shifted(pixels[batch], config.shift, rng)), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        figures = {"epoch": epoch, "train_loss": total / len(labels), **_measured(model, *held)}
        history.append(figures)
        if best is None or figures["val_loss"] < best["val_loss"]:
            best = figures
            net.save(model, contract, config.size, out)
        _checkpoint(config, checkpoints, model, optimizer, history, best, out)
        on_epoch(figures)

    (out / "history.json").write_text(json.dumps(history) + "\n", "utf-8")
    if best is None:
        raise ValueError("no epoch was trained")
    return best


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


def _checkpoint(
    config: Config, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, history: list[dict[str, Any]],
    best: dict[str, Any], out: Path,
) -> None:  # fmt: skip
    """All that an interrupted run needs; the JSON is written last and atomically, so a half checkpoint is none."""
    folder.mkdir(parents=True, exist_ok=True)
    epoch = history[-1]["epoch"]
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value.contiguous().clone() for name, value in state.items()}
    tensors |= {f"best.{name}": value for name, value in load_file(out / "model.safetensors").items()}
    save_file({name: value.clone() for name, value in tensors.items()}, folder / f"epoch-{epoch:04}.safetensors")
    scratch = folder / ".state.json"
    scratch.write_text(json.dumps({"config": asdict(config), "history": history, "best": best}), "utf-8")
    scratch.replace(folder / "state.json")
    for old in sorted(folder.glob("epoch-*.safetensors"))[:-1]:
        old.unlink()


def _resume(
    config: Config, contract: Contract, folder: Path, model: net.ConvNet, optimizer: torch.optim.Optimizer, out: Path
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """History and best epoch of the checkpoint in `folder`, after loading it; nothing when there is none that fits.

    The best epoch's weights go to `out`, which a restarted job finds empty.
    """
    path = folder / "state.json"
    if not path.is_file():
        return [], None
    state = json.loads(path.read_text("utf-8"))
    tensors_path = folder / f"epoch-{state['history'][-1]['epoch']:04}.safetensors"
    if state["config"] != asdict(config) or not tensors_path.is_file():
        return [], None
    tensors = load_file(tensors_path)
    out.mkdir(parents=True, exist_ok=True)
    model.load_state_dict(_below("best.", tensors))
    net.save(model, contract, config.size, out)
    model.load_state_dict(_below("model.", tensors))
    own = optimizer.state_dict()
    own["state"] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            own["state"].setdefault(int(number), {})[key] = value
    optimizer.load_state_dict(own)
    return state["history"], state["best"]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
