"""What training makes small, by task, and what it says of the validation split.

N samples   K classes
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.anomaly_net import Detector
from models.contract import Contract
from models.pace import Pace
from models.ranks import Ranks

CHUNK = 512
# Deviations of the target from which on an error counts by its size, no longer by its square.
WIDE = 3.0


class Objective:
    """Cross-entropy with class weights; a Huber loss in deviations of the target; what a detector cannot rebuild."""

    def __init__(self, contract: Contract, labels: Tensor, pace: Pace) -> None:
        self._target, self._pace, self._device = contract.target, pace, pace.device
        self._counted = class_weights(labels, len(contract.classes)) if contract.categorical else None
        self._weights = None if self._counted is None else self._counted.to(self._device)

    def weight(self, labels: Tensor) -> Tensor | float:
        """What a batch with these labels [N] counts, all its parts on all ranks together."""
        return float(len(labels)) if self._counted is None else self._counted[labels].sum()

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor, weight: Tensor | float | None = None) -> Tensor:
        """The mean over a batch; raw tensors [N, ...], labels [N].

        Of a part of a batch that has `weight` in all, what the part adds to that mean.
        """
        with self._pace.autocast():
            if isinstance(model, Detector):
                errors = model.errors(inputs).float()
                return errors.mean() if weight is None else errors.sum() / (errors[:1].numel() or 1) / weight
            found = model(inputs).float()
        way = "mean" if weight is None else "sum"
        if self._weights is not None:
            loss = nn.functional.cross_entropy(found, labels, weight=self._weights, reduction=way)
        else:
            loss = nn.functional.huber_loss(found[:, 0], self._scaled(labels), delta=WIDE, reduction=way)
        return loss if weight is None else loss / weight

    @torch.inference_mode()
    def measured(self, model: nn.Module, inputs: Tensor, labels: Tensor, ranks: Ranks) -> dict[str, float]:
        """`val_loss` by which the best epoch is chosen, and a figure that people read; the same on all ranks."""
        model.eval()
        if isinstance(model, Detector):
            normal = inputs[labels == 0] if bool((labels == 0).any()) else inputs
            errors = self._asked(lambda part: model.errors(part).flatten(1).mean(1), normal, ranks)
            return {"val_loss": errors.mean().item()}
        found = self._asked(model, inputs, ranks)
        if self._target is None:
            loss = nn.functional.cross_entropy(found, labels).item()
            return {"val_loss": loss, "val_accuracy": (found.argmax(1) == labels).float().mean().item()}
        loss = nn.functional.mse_loss(found[:, 0], self._scaled(labels)).item()
        return {"val_loss": loss, "val_rmse": loss**0.5 * self._target.std}

    def _asked(self, model: Callable[[Tensor], Tensor], inputs: Tensor, ranks: Ranks) -> Tensor:
        """The answers [N, ...] to all samples, each given by one rank."""
        share = ranks.share(len(inputs))
        parts = [model(part.to(self._device)).cpu() for part in torch.split(share.of(inputs), CHUNK)]
        return ranks.joined(torch.cat(parts), share)

    def _scaled(self, labels: Tensor) -> Tensor:
        assert self._target is not None
        return ((labels - self._target.mean) / self._target.std).float()


def class_weights(labels: Tensor, count: int) -> Tensor:
    """Rare classes count more, by the square root of how rare they are; the mean over samples stays one."""
    found = torch.bincount(labels, minlength=count).float()
    weights = found.clamp(min=1).rsqrt()
    return weights * len(labels) / (weights * found).sum()
