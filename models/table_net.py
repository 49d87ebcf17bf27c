"""A residual perceptron for the rows of a table, beside a straight line.

The line is what small tables need most (Cheng et al., Wide & Deep Learning, 2016); the residual blocks learn the rest
(Gorishniy et al., Revisiting Deep Learning Models for Tabular Data, 2021).

N samples   F columns   K classes
"""

from __future__ import annotations

from torch import Tensor, nn

from models.contract import Contract
from models.layers import Columns, Net

# Width and number of blocks.
BLOCKS = {"tiny": (64, 2), "base": (192, 4)}


class TableNet(Net):
    """Scaled columns, residual blocks, one linear layer."""

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__(contract, size)
        width, count = BLOCKS[size]
        self.columns = Columns(contract)
        self.enter = nn.Linear(self.columns.width, width)
        self.blocks = nn.ModuleList(_block(width) for _ in range(count))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, self.outputs))
        self.line = nn.Linear(self.columns.width, self.outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """float32 [N, F], NaN for missing -> float32 [N, K] or [N, 1]."""
        inputs = self.columns(rows)
        hidden = self.enter(inputs)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        answer: Tensor = self.head(hidden) + self.line(inputs)
        return answer


def _block(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * width, width)
    )
