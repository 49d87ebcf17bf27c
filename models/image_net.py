"""A small convolutional net for pictures: raw pixels in, logits out.

N samples   C, H, W channels, height, width   K classes
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from models.contract import Contract
from models.layers import Net, Normalize

# From this side on, the first stage halves height and width too.
LARGE = 32
# Channels of each stage; every stage but the first halves height and width.
WIDTHS = {"tiny": (16, 32, 64, 128), "base": (32, 64, 128, 256)}


class ConvNet(Net):
    """Stages of two 3x3 convolutions with batch normalisation, mean over the plane, one linear layer."""

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__(contract, size)
        widths = WIDTHS[size]
        self.normalize = Normalize(contract.mean, contract.std)
        # On a large picture the first stage looks at every second pixel: a quarter of the work.
        stages = [_stage(contract.shape[0], widths[0], stride=2 if min(contract.shape[1:]) >= LARGE else 1)]
        stages += [_stage(a, b, stride=2) for a, b in itertools.pairwise(widths)]
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(widths[-1], self.outputs)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 or float [N, C, H, W], 0..255 -> logits float32 [N, K]."""
        planes = self.stages(self.normalize(pixels))
        logits: Tensor = self.head(self.dropout(planes.mean(dim=(2, 3))))
        return logits


def _stage(inside: int, outside: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
        nn.Conv2d(outside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    )
