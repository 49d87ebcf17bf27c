"""Which net a contract gets, what it answers, and how it is kept.

N samples   K classes
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.anomaly_net import ImageAutoencoder
from models.contract import Contract
from models.image_net import ConvNet
from models.layers import SIZES, Columns, Net
from models.series_net import SeriesAutoencoder, SeriesNet
from models.shipped import Baseline
from models.table_net import TableNet

__all__ = ["SIZES", "Answer", "Net", "answers", "build", "load", "observe", "save"]

# By modality; anomaly detection has nets of its own.
NETS: dict[str, type[Net]] = {"image": ConvNet, "tabular": TableNet, "timeseries": SeriesNet}
DETECTORS: dict[str, type[Net]] = {"image": ImageAutoencoder, "timeseries": SeriesAutoencoder}
# Samples that are answered at once.
CHUNK = 256


def build(contract: Contract, size: str) -> Net:
    """A new net for the contract's modality and task. Raises ValueError for an unknown size."""
    return (DETECTORS if contract.task == "anomaly" else NETS)[contract.modality](contract, size)


def observe(net: nn.Module, raw: Tensor) -> None:
    """Tells the first layer what the training split holds, before training."""
    for part in net.modules():
        if isinstance(part, Columns):
            part.observe(raw)


class Answer(nn.Module):
    """A net with what turns its output into an answer: probabilities [N, K], or [N, 1] in the target's unit."""

    def __init__(self, net: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.net, self.target = net, contract.target
        if self.target is not None:
            self.register_buffer("mean", torch.tensor(self.target.mean, dtype=torch.float32))
            self.register_buffer("std", torch.tensor(self.target.std, dtype=torch.float32))

    def forward(self, raw: Tensor) -> Tensor:
        """Raw tensors [N, ...] -> float32 [N, K] or [N, 1]."""
        found: Tensor = self.net(raw)
        if self.target is None:
            return torch.softmax(found, dim=1)
        value = found * self.get_buffer("std") + self.get_buffer("mean")
        return value if self.target.cap is None else value.clamp(0.0, self.target.cap)


def answers(net: nn.Module, tensors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """What `Answer` gives for raw tensors [N, ...], of a net that is ready to answer."""
    answer = Answer(net, cast(Net, net).contract)
    with torch.inference_mode():
        parts = [answer(part) for part in torch.split(torch.from_numpy(np.array(tensors)), CHUNK)]
    found: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def save(net: nn.Module, contract: Contract, size: str, folder: Path) -> None:
    """Writes `model.safetensors`, `model.json` and `contract.json`; no pickle. A baseline has no size."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, folder / "model.safetensors")
    kind = {"kind": net.kind, **net.about} if isinstance(net, Baseline) else {"size": size}
    about: dict[str, Any] = {"schema": 1, "net": type(net).__name__, **kind}
    (folder / "model.json").write_text(json.dumps(about) + "\n", "utf-8")
    contract.save(folder / "contract.json")


def load(folder: Path) -> tuple[Net, Contract]:
    """The trained net or the baseline of a model folder, ready to answer, and its contract."""
    contract = Contract.load(folder / "contract.json")
    about = json.loads((folder / "model.json").read_text("utf-8"))
    tensors = load_file(folder / "model.safetensors")
    if about.get("net") == Baseline.__name__:
        structure = {key: value for key, value in about.items() if key not in ("schema", "net", "kind")}
        return Baseline(contract, about["kind"], structure, tensors).eval(), contract
    net = build(contract, about["size"])
    net.load_state_dict(tensors)
    return net.eval(), contract
