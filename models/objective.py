"""What training makes small, by task, and what it says of the validation split.

N samples   K classes
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.anomaly_net import Detector
from models.contract import Contract

CHUNK = 512
# Deviations of the target from which on an error counts by its size, no longer by its square.
WIDE = 3.0


class Objective:
    """Cross-entropy with class weights; a Huber loss in deviations of the target; what a detector cannot rebuild."""

    def __init__(self, contract: Contract, labels: Tensor, device: torch.device) -> None:
        self._target, self._device = contract.target, device
        self._weights = class_weights(labels, len(contract.classes)).to(device) if contract.categorical else None

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        """The mean over a batch; raw tensors [N, ...], labels [N]."""
        inputs, labels = inputs.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)
        # bfloat16 has float32's range, so that no loss need be scaled.
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            if isinstance(model, Detector):
                return model.errors(inputs).float().mean()
            found = model(inputs).float()
        if self._weights is not None:
            return nn.functional.cross_entropy(found, labels, weight=self._weights)
        return nn.functional.huber_loss(found[:, 0], self._scaled(labels), delta=WIDE)

    @torch.inference_mode()
    def measured(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, float]:
        """`val_loss` by which the best epoch is chosen, and a figure that people read."""
        model.eval()
        if isinstance(model, Detector):
            normal = inputs[labels == 0] if bool((labels == 0).any()) else inputs
            parts = [model.errors(part.to(self._device)).flatten(1).mean(1) for part in torch.split(normal, CHUNK)]
            return {"val_loss": torch.cat(parts).mean().item()}
        found = torch.cat([model(part.to(self._device)).cpu() for part in torch.split(inputs, CHUNK)])
        if self._target is None:
            loss = nn.functional.cross_entropy(found, labels).item()
            return {"val_loss": loss, "val_accuracy": (found.argmax(1) == labels).float().mean().item()}
        loss = nn.functional.mse_loss(found[:, 0], self._scaled(labels)).item()
        return {"val_loss": loss, "val_rmse": loss**0.5 * self._target.std}

    def _scaled(self, labels: Tensor) -> Tensor:
        assert self._target is not None
        return ((labels - self._target.mean) / self._target.std).float()


def class_weights(labels: Tensor, count: int) -> Tensor:
    """Rare classes count more, by the square root of how rare they are; the mean over samples stays one."""
    found = torch.bincount(labels, minlength=count).float()
    weights = found.clamp(min=1).rsqrt()
    return weights * len(labels) / (weights * found).sum()
