"""The ONNX exporter: a net that fixes its batch size is refused, where torch's own exporter is silent."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.contract import Contract
from models.export import onnx


class Fixed(nn.Module):
    """Asks for the length of its batch as a number, which makes it a constant of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Parameter(torch.zeros(1, 1))

    def forward(self, raw: Tensor) -> Tensor:
        return torch.cat([self.extra.expand(len(raw), 1), raw.flatten(1).float()], 1)


@pytest.mark.slow
def test_a_net_that_fixes_its_batch_size_is_refused(contract: Callable[..., Contract], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"fixes its batch size: take shape\[0\]"):
        onnx.write(Fixed(), contract(), tmp_path / "model.onnx")
