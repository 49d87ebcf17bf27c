"""The ONNX exporter: a net that fixes its batch size is refused, and attention becomes plain products."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import load
from torch import Tensor, nn
from torch.nn import functional

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


class Attending(nn.Module):
    """Pixels as tokens that attend to each other, in every way that torch offers."""

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.how = how
        self.mix = nn.Linear(8, 24)

    def forward(self, raw: Tensor) -> Tensor:
        query, key, value = self.mix(raw[:, 0].float() / 255).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        return functional.scaled_dot_product_attention(query, key, value, **self.how).flatten(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [{}, {"is_causal": True}, {"attn_mask": torch.eye(8).bool()}, {"attn_mask": torch.eye(8) * 3, "scale": 0.3}],
    ids=["plain", "causal", "masked", "biased"],
)
def test_attention_reads_no_shape_at_run_time_and_answers_as_before(
    how: dict[str, Any], contract: Callable[..., Contract], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net, pixels = Attending(**how).eval(), np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), np.uint8)
    onnx.write(net, contract(), tmp_path / "model.onnx")
    assert "Shape" not in {node.op_type for node in load(tmp_path / "model.onnx").graph.node}
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = net(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(session.run(None, {onnx.INPUT: pixels})[0], expected, atol=1e-5)
