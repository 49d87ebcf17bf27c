"""The nets' first layers, which take raw tensors, and what every net has.

N samples   C, H, W channels, height, width   T steps   F columns   D inputs after the first layer
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from models.contract import Contract

SIZES = ("tiny", "base")
# A category is a learned point of at most so many dimensions.
EMBEDDED = 12
# A value further out counts as so many deviations: one broken sensor must not drown the rest.
FAR = 10.0


class Net(nn.Module):
    """Raw tensors in; out come logits [N, K], or [N, 1] in deviations of the target from its mean."""

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"size is '{size}'; allowed: {', '.join(SIZES)}")
        self.contract = contract
        self.outputs = len(contract.classes) if contract.categorical else 1


class Normalize(nn.Module):
    """Raw pixels to zero mean and unit deviation, by the training split's statistics."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 or float [N, C, H, W], 0..255 -> float32 [N, C, H, W]."""
        return (pixels.to(torch.float32) - self.get_buffer("mean")) / self.get_buffer("std")


class Columns(nn.Module):
    """Cells to what a net can learn from: scaled numbers, flags of missing ones, a point for each category.

    A missing number is 0, the mean, with its flag up, where the training split had missing ones in that column; where
    it had none the flag stays down, for nothing would have taught the net what it means. A missing or unknown category
    has a point of its own, which starts at 0.
    """

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        numbers = [place for place, column in enumerate(contract.columns) if column.values is None]
        self.register_buffer("places", torch.tensor(numbers, dtype=torch.long), persistent=False)
        self.register_buffer("mean", torch.tensor([contract.mean[place] for place in numbers]))
        self.register_buffer("std", torch.tensor([contract.std[place] for place in numbers]))
        self.register_buffer("flagged", torch.zeros(len(numbers)))
        values = [(place, len(column.values)) for place, column in enumerate(contract.columns) if column.values]
        self.categories = values
        self.embeddings = nn.ModuleList(nn.Embedding(count + 1, min(count, EMBEDDED)) for _, count in values)
        for (_, count), embedding in zip(values, self.embeddings, strict=True):
            nn.init.zeros_(cast(nn.Embedding, embedding).weight.data[count])
        self.count = len(numbers)
        self.width = 2 * self.count + sum(min(count, EMBEDDED) for _, count in values)

    def observe(self, raw: Tensor) -> None:
        """Notes which columns of the training split have missing values; raw float32 [N, ..., F]."""
        cells = raw.index_select(-1, self.get_buffer("places")).flatten(0, -2)
        self.get_buffer("flagged").copy_(cells.isnan().any(0))

    def numbers(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [N, ..., F] -> scaled numbers, 0 for a missing one, and 1 where missing; both [N, ..., count]."""
        cells = raw.index_select(-1, self.get_buffer("places"))
        missing = torch.isnan(cells)
        scaled = ((cells - self.get_buffer("mean")) / self.get_buffer("std")).clamp(-FAR, FAR)
        return torch.where(missing, torch.zeros_like(scaled), scaled), missing.to(torch.float32)

    def forward(self, raw: Tensor) -> Tensor:
        """float32 [N, ..., F], NaN for missing -> float32 [N, ..., D]."""
        parts = []
        if self.count:
            scaled, missing = self.numbers(raw)
            parts += [scaled, missing * self.get_buffer("flagged")]
        for (place, count), embedding in zip(self.categories, self.embeddings, strict=True):
            index = raw[..., place]
            index = torch.where(torch.isnan(index), torch.full_like(index, count), index).clamp(0, count)
            parts.append(embedding(index.to(torch.long)))
        return torch.cat(parts, dim=-1)
