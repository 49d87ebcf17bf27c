"""A small convolutional net: raw pixels in, logits out; normalisation is its first layer.

N samples   C, H, W channels, height, width   K classes
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.contract import Contract

# From this side on, the first stage halves height and width too.
LARGE = 32
# Channels of each stage; every stage but the first halves height and width.
SIZES = {"tiny": (16, 32, 64, 128), "base": (32, 64, 128, 256)}


class Normalize(nn.Module):
    """Raw pixels to zero mean and unit deviation, by the training split's statistics."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 or float [N, C, H, W], 0..255 -> float32 [N, C, H, W]."""
        return (pixels.to(torch.float32) - self.get_buffer("mean")) / self.get_buffer("std")


class ConvNet(nn.Module):
    """Stages of two 3x3 convolutions with batch normalisation, mean over the plane, one linear layer."""

    def __init__(self, contract: Contract, size: str) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"size is '{size}'; allowed: {', '.join(SIZES)}")
        widths = SIZES[size]
        self.normalize = Normalize(contract.mean, contract.std)
        # On a large picture the first stage looks at every second pixel: a quarter of the work.
        stages = [_stage(contract.shape[0], widths[0], stride=2 if min(contract.shape[1:]) >= LARGE else 1)]
        stages += [_stage(a, b, stride=2) for a, b in itertools.pairwise(widths)]
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(widths[-1], len(contract.classes))

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


def answers(net: nn.Module, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Probabilities [N, K] of a net that is ready to answer, for uint8 [N, C, H, W]."""
    with torch.inference_mode():
        parts = [torch.softmax(net(part), dim=1) for part in torch.split(torch.from_numpy(np.array(pixels)), 256)]
    found: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def save(net: nn.Module, contract: Contract, size: str, folder: Path) -> None:
    """Writes `model.safetensors`, `model.json` and `contract.json`; no pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, folder / "model.safetensors")
    about: dict[str, Any] = {"schema": 1, "net": "ConvNet", "size": size}
    (folder / "model.json").write_text(json.dumps(about) + "\n", "utf-8")
    contract.save(folder / "contract.json")


def load(folder: Path) -> tuple[ConvNet, Contract]:
    """The trained net of a model folder, ready to answer, and its contract."""
    contract = Contract.load(folder / "contract.json")
    about = json.loads((folder / "model.json").read_text("utf-8"))
    net = ConvNet(contract, about["size"])
    net.load_state_dict(load_file(folder / "model.safetensors"))
    return net.eval(), contract
