"""Four nets as customers bring them: ResNet-18, a temporal convolution, two transformers; raw tensors in, logits out.

N samples   C, H, W channels, height, width   T steps   F columns   D width   K classes
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.contract import Contract
from models.layers import Net, Normalize


class ResNet18(Net):
    """He et al., Deep Residual Learning for Image Recognition, 2015, table 1: 11 million weights."""

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__(contract, size)
        self.normalize = Normalize(contract.mean, contract.std)
        self.stem = nn.Sequential(
            nn.Conv2d(contract.shape[0], 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )  # fmt: skip
        widths = ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2))
        self.blocks = nn.Sequential(*(Residual(*shape) for shape in (*widths, (512, 512, 1))))
        self.head = nn.Linear(512, self.outputs)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [N, C, H, W] -> logits [N, K]."""
        planes = self.blocks(self.stem(self.normalize(pixels)))
        logits: Tensor = self.head(planes.mean(dim=(2, 3)))
        return logits


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride=stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, planes: Tensor) -> Tensor:
        return functional.relu(self.body(planes) + self.shortcut(planes))


class Scale(nn.Module):
    """Raw columns to zero mean and unit deviation, by the training split's statistics."""

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(contract.mean))
        self.register_buffer("std", torch.tensor(contract.std))

    def forward(self, raw: Tensor) -> Tensor:
        return (raw - self.get_buffer("mean")) / self.get_buffer("std")


class TemporalNet(Net):
    """Dilated residual blocks over a window of sensors (Bai et al., TCN, 2018), mean over the steps."""

    WIDTH, LEVELS = 64, 6

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__(contract, size)
        self.scale = Scale(contract)
        self.enter = nn.Conv1d(contract.shape[1], self.WIDTH, 1)
        self.blocks = nn.Sequential(*(Dilated(self.WIDTH, 2**level) for level in range(self.LEVELS)))
        self.head = nn.Linear(self.WIDTH, self.outputs)

    def forward(self, windows: Tensor) -> Tensor:
        """float32 [N, T, F] -> logits [N, K]."""
        hidden = self.blocks(self.enter(self.scale(windows).transpose(1, 2)))
        logits: Tensor = self.head(hidden.mean(2))
        return logits


class Dilated(nn.Module):
    """Two convolutions of three taps, `dilation` steps apart, beside a shortcut."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1),
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False), nn.BatchNorm1d(width),
        )  # fmt: skip

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.relu(hidden + self.body(hidden))


class Attention(nn.Module):
    """A pre-norm transformer layer (Vaswani et al., 2017; Xiong et al., 2020)."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Dropout(0.1), nn.Linear(inner, width))

    def forward(self, hidden: Tensor) -> Tensor:
        """float32 [N, T, D] -> the same shape."""
        length, width = hidden.shape[1:]
        parts = self.mix(self.before(hidden)).view(-1, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(-1, length, width)
        hidden = hidden + self.out(seen)
        mixed: Tensor = hidden + self.feed(self.between(hidden))
        return mixed


class SeriesTransformer(Net):
    """Steps of a sensor window as tokens with learned places, mean over the tokens."""

    WIDTH, LAYERS, HEADS, INNER = 128, 4, 4, 256

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__(contract, size)
        self.scale = Scale(contract)
        self.enter = nn.Linear(contract.shape[1], self.WIDTH)
        self.places = nn.Parameter(torch.randn(1, contract.shape[0], self.WIDTH) * 0.02)
        layers = (Attention(self.WIDTH, self.HEADS, self.INNER) for _ in range(self.LAYERS))
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(self.WIDTH), nn.Linear(self.WIDTH, self.outputs)

    def forward(self, windows: Tensor) -> Tensor:
        """float32 [N, T, F] -> logits [N, K]."""
        hidden = self.norm(self.layers(self.enter(self.scale(windows)) + self.places)).mean(1)
        logits: Tensor = self.head(hidden)
        return logits


class TableTransformer(Net):
    """Each column a token beside one that answers (Gorishniy et al., FT-Transformer, 2021)."""

    WIDTH, LAYERS, HEADS, INNER = 64, 3, 8, 128

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__(contract, size)
        columns = contract.shape[0]
        self.scale = Scale(contract)
        self.weight = nn.Parameter(torch.randn(columns, self.WIDTH) * columns**-0.5)
        self.bias = nn.Parameter(torch.randn(columns, self.WIDTH) * columns**-0.5)
        self.answer = nn.Parameter(torch.zeros(1, 1, self.WIDTH))
        layers = (Attention(self.WIDTH, self.HEADS, self.INNER) for _ in range(self.LAYERS))
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(self.WIDTH), nn.Linear(self.WIDTH, self.outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """float32 [N, F] -> logits [N, K]."""
        tokens = self.scale(rows).unsqueeze(2) * self.weight + self.bias
        hidden = self.layers(torch.cat([self.answer.expand(tokens.shape[0], 1, self.WIDTH), tokens], dim=1))
        logits: Tensor = self.head(self.norm(hidden[:, 0]))
        return logits


NETS: dict[str, Callable[[Contract, str], Net]] = {
    "conv": ResNet18,
    "tcn": TemporalNet,
    "transformer": SeriesTransformer,
    "tabular": TableTransformer,
}
