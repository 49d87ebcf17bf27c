"""Noise that a net learns with: drawn for the whole batch, whoever holds which of its rows.

Ranks that share a batch, and parts that are accumulated, then see the noise that one process sees for all of it.

N rows of this part
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.ranks import Share


class Noise(nn.Module):
    """Adds normal noise of a fixed deviation in training, nothing else."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, inputs: Tensor) -> Tensor:
        """float [N, ...] -> the same."""
        return inputs + self.deviation * torch.randn_like(inputs) if self.training else inputs


@dataclass
class Rows:
    """Which rows of the batch the net sees at the moment."""

    share: Share


class SharedNoise(nn.Module):
    """`Noise` for some rows of a batch."""

    def __init__(self, plain: Noise, rows: Rows) -> None:
        super().__init__()
        self.deviation, self._rows = plain.deviation, rows

    def forward(self, inputs: Tensor) -> Tensor:
        """float [N, ...] -> the same."""
        if not self.training:
            return inputs
        drawn: Tensor = _drawn(inputs, self._rows.share, torch.Tensor.normal_)
        return inputs + self.deviation * drawn


class SharedDropout(nn.Module):
    """`nn.Dropout` for some rows of a batch."""

    def __init__(self, plain: nn.Dropout, rows: Rows) -> None:
        super().__init__()
        self.kept, self._rows = 1 - plain.p, rows

    def forward(self, inputs: Tensor) -> Tensor:
        """float [N, ...] -> the same."""
        if not self.training:
            return inputs
        drawn: Tensor = _drawn(inputs, self._rows.share, lambda whole: whole.bernoulli_(self.kept).div_(self.kept))
        return inputs * drawn


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it would compile anew for each share
def _drawn(inputs: Tensor, share: Share, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """Their own rows [N, ...] of what is drawn for the whole batch."""
    return share.of(draw(inputs.new_empty((share.whole, *inputs.shape[1:]))))


def share_noise(model: nn.Module, rows: Rows) -> None:
    """Every dropout and noise of the net draws for the whole batch from now on, and takes what `rows` says."""
    for parent in list(model.modules()):
        for name, part in parent.named_children():
            if isinstance(part, nn.Dropout):
                setattr(parent, name, SharedDropout(part, rows))
            elif isinstance(part, Noise):
                setattr(parent, name, SharedNoise(part, rows))
