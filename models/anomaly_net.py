"""Detectors that learn from normal samples alone: what they cannot rebuild is unusual.

A convolutional autoencoder for pictures, and what it shares with that of series: how an error becomes a probability.

N samples   C, H, W channels, height, width
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models import threshold
from models.contract import Contract
from models.layers import Net, Normalize
from models.noise import Noise

# Channels of each stage, which halves height and width, and of the bottleneck.
WIDTHS = {"tiny": (16, 32, 64), "base": (32, 64, 128)}
BOTTLENECK = {"tiny": 3, "base": 6}
# The plane is not halved below this side.
SMALLEST = 4
# In training the inputs are disturbed by so many deviations (Vincent et al., 2008): copying is no answer then.
DISTURBANCE = 0.1
CHUNK = 512


class Detector(Net):
    """p(anomaly) = sigmoid((score - threshold) / scale); the score is the logarithm of the gathered errors.

    An error counts in units of what is usual at its place, which `settle` learns from the training split; threshold and
    scale come from the validation split.
    """

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__(contract, size)
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.disturbed = Noise(DISTURBANCE)

    def expect(self, shape: tuple[int, ...]) -> None:
        """Makes room for the usual error at each place."""
        self.register_buffer("usual", torch.ones(shape))

    def errors(self, raw: Tensor) -> Tensor:
        """Squared deviations of what was rebuilt, [N, ..., *shape of usual]."""
        raise NotImplementedError

    def gather(self, errors: Tensor) -> Tensor:
        """One positive number a sample: [N, ...] -> [N]."""
        raise NotImplementedError

    def score(self, raw: Tensor) -> Tensor:
        """How unusual: [N, ...] -> [N]."""
        return (self.gather(self.errors(raw) / self.get_buffer("usual")) + 1e-6).log()

    def forward(self, raw: Tensor) -> Tensor:
        """Logits [N, 2] of normal and anomaly."""
        distance = (self.score(raw) - self.get_buffer("threshold")) / self.get_buffer("scale")
        return torch.stack([torch.zeros_like(distance), distance], dim=1)

    @torch.no_grad()
    def settle(self, normal: Tensor, held: Tensor, labels: Tensor) -> None:
        """Sets the usual error from normal training samples, threshold and scale from the validation split."""
        self.eval()
        usual = self.get_buffer("usual")
        found, count = torch.zeros_like(usual, dtype=torch.float64), 0
        for part in torch.split(normal, CHUNK):
            errors = self.errors(part.to(usual.device))
            spread = tuple(range(errors.ndim - usual.ndim))
            found += errors.double().sum(dim=spread)
            count += errors.numel() // usual.numel()
        mean = (found / count).float()
        usual.copy_(mean.clamp(min=max(0.1 * mean.mean().item(), 1e-6)))
        cut, scale = threshold.fit(labels.numpy(), self._scores(held), self._scores(normal))
        self.get_buffer("threshold").fill_(cut)
        self.get_buffer("scale").fill_(scale)

    def _scores(self, raw: Tensor) -> npt.NDArray[np.float64]:
        device = self.get_buffer("usual").device
        parts = [self.score(part.to(device)).double().cpu() for part in torch.split(raw, CHUNK)]
        return torch.cat(parts).numpy()


class ImageAutoencoder(Detector):
    """Halves a picture a few times, squeezes it through few bounded channels, and builds it up again."""

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__(contract, size)
        channels, height, width = contract.shape
        depth = min(len(WIDTHS[size]), max(1, round(math.log2(max(2, min(height, width) / SMALLEST)))))
        widths = WIDTHS[size][:depth]
        self.sides = [(height, width)]
        for _ in widths:
            self.sides.append((-(-self.sides[-1][0] // 2), -(-self.sides[-1][1] // 2)))
        self.normalize = Normalize(contract.mean, contract.std)
        self.encode = nn.Sequential(*(_convolved(a, b, 2) for a, b in itertools.pairwise((channels, *widths))))
        self.squeeze = nn.Sequential(nn.Conv2d(widths[-1], BOTTLENECK[size], 1), nn.Tanh())
        back = (BOTTLENECK[size], *reversed(widths))
        self.decode = nn.ModuleList(_convolved(a, b, 1) for a, b in itertools.pairwise(back))
        self.head = nn.Conv2d(widths[0], channels, 3, padding=1)
        self.worst = max(1, height * width // 20)
        self.expect(tuple(contract.shape))

    def errors(self, raw: Tensor) -> Tensor:
        """uint8 or float [N, C, H, W] -> squared deviations [N, C, H, W]."""
        scaled: Tensor = self.normalize(raw)
        planes = self.squeeze(self.encode(self.disturbed(scaled)))
        for stage, side in zip(self.decode, reversed(self.sides[:-1]), strict=True):
            planes = stage(functional.interpolate(planes, size=side, mode="nearest"))
        rebuilt: Tensor = self.head(planes)
        return (rebuilt - scaled).square()

    def gather(self, errors: Tensor) -> Tensor:
        """The worst twentieth of the plane, smoothed over 3x3: a scratch is small. [N, C, H, W] -> [N]."""
        plane: Tensor = functional.avg_pool2d(errors.mean(1, keepdim=True), 3, stride=1, padding=1)
        worst: Tensor = plane.flatten(1).topk(self.worst, dim=1).values.mean(1)
        return worst


def _convolved(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )
