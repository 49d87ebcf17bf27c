"""Dilated convolutions over a window of a series, and an autoencoder for its anomalies.

N samples   T steps   F columns   D inputs after the first layer   W channels   K classes
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.anomaly_net import Detector
from models.contract import Contract
from models.layers import Columns, Net
from models.noise import Noise

WIDTHS = {"tiny": 32, "base": 96}
# Windows overlap and units are few: without much of both a net learns the units by heart.
DROPOUT, NOISE = 0.3, 0.3
# Values through which a window must pass.
BOTTLENECK = {"tiny": 6, "base": 12}


class SeriesNet(Net):
    """Residual blocks that each look twice as far, until the window is covered (Bai et al., TCN, 2018).

    The answer is read from the last step, the mean and the largest; a straight line goes beside, as for tables.
    """

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__(contract, size)
        width, steps = WIDTHS[size], contract.shape[0]
        self.columns, self.noise = Columns(contract), Noise(NOISE)
        self.enter = nn.Conv1d(self.columns.width, width, 1)
        reach = max(1, math.ceil(math.log2(max(2, steps / 2))))
        self.blocks = nn.ModuleList(_block(width, 2**level) for level in range(reach))
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(3 * width, self.outputs))
        self.line = nn.Linear(2 * self.columns.width, self.outputs)

    def forward(self, windows: Tensor) -> Tensor:
        """float32 [N, T, F], NaN for missing -> float32 [N, K] or [N, 1]."""
        inputs = self.noise(self.columns(windows))
        hidden = self.enter(inputs.transpose(1, 2))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        hidden = torch.relu(hidden)
        found = torch.cat([hidden[:, :, -1], hidden.mean(2), hidden.amax(2)], dim=1)
        answer: Tensor = self.head(found) + self.line(torch.cat([inputs[:, -1], inputs.mean(1)], dim=1))
        return answer


def _block(width: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm1d(width), nn.ReLU(), nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation),
        nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(DROPOUT), nn.Conv1d(width, width, 1),
    )  # fmt: skip


class SeriesAutoencoder(Detector):
    """Squeezes a window's numbers through a few bounded values and back; what comes back wrong is unusual."""

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__(contract, size)
        self.columns = Columns(contract)
        if not self.columns.count:
            raise ValueError("anomalies of a series are found in its numbers, and every column is a category")
        width, self.steps = WIDTHS[size], contract.shape[0]
        self.channels, self.short = width, math.ceil(math.ceil(self.steps / 2) / 2)
        self.encode = nn.Sequential(
            nn.Conv1d(self.columns.width, width, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(width * self.short, BOTTLENECK[size]), nn.Tanh(),
        )  # fmt: skip
        self.widen = nn.Linear(BOTTLENECK[size], width * self.short)
        self.decode = nn.Sequential(
            nn.ReLU(), nn.Upsample(size=self.steps, mode="nearest"),
            nn.Conv1d(width, width, 5, padding=2), nn.ReLU(), nn.Conv1d(width, self.columns.count, 5, padding=2),
        )  # fmt: skip
        self.expect((self.columns.count,))

    def errors(self, raw: Tensor) -> Tensor:
        """float32 [N, T, F] -> squared deviations [N, T, numbers], 0 where missing."""
        inputs = self.disturbed(self.columns(raw))
        scaled, missing = self.columns.numbers(raw)
        hidden = self.widen(self.encode(inputs.transpose(1, 2))).unflatten(1, (self.channels, self.short))
        rebuilt: Tensor = self.decode(hidden)
        return (rebuilt.transpose(1, 2) - scaled).square() * (1 - missing)

    def gather(self, errors: Tensor) -> Tensor:
        """The worst quarter of the steps, each the mean of its columns: [N, T, numbers] -> [N]."""
        return errors.mean(2).topk(max(1, self.steps // 4), dim=1).values.mean(1)
