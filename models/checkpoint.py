"""What an interrupted training run goes on from; safetensors and JSON, never a pickle.

Files are written beside their place, brought to the disk and then renamed: a process that is killed at any moment
leaves the checkpoint before, or the new one, whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from models.ranks import Ranks

STATE = "state.json"
HALF = ".half"


class CheckpointError(Exception):
    """A checkpoint that cannot be read; the message names the file and what to try."""


@dataclass
class Progress:
    """How far a run is: the figures of its whole epochs, the weights of the best one, and its place in the next.

    step    steps that the epoch after `history` has taken
    total   the sum of the losses of their samples
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    total: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """One run's place in `folder`. `identity` says what was trained on what: another run's checkpoint is not taken.

    The first rank writes and reads; the others are told.
    """

    folder: Path
    identity: Mapping[str, Any]
    ranks: Ranks

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """The state at this moment. The JSON is replaced last, and names the weights."""
        if not self.ranks.first:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in progress.best.items()}
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        step = f"-{progress.step:05}" if progress.step else ""
        name = f"epoch-{len(progress.history):04}{step}.safetensors"
        # Copies: safetensors refuses tensors that share memory, and what lies on a GPU must come down.
        data = save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})
        _replace(self.folder / name, data)
        state = {"identity": self.identity, "weights": name, "history": progress.history}
        state |= {"step": progress.step, "total": progress.total}
        _replace(self.folder / STATE, (json.dumps(state) + "\n").encode())
        for old in (*self.folder.glob("epoch-*.safetensors"), *self.folder.glob(f".*{HALF}")):
            if old.name != name:
                old.unlink()

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """How far the run was, with model and optimizer as they were then; the start when there is nothing of it.

        Raises CheckpointError for a checkpoint of this run that is damaged.
        """
        path = self.folder / STATE
        state, data = self._read(path) if self.ranks.first else ({}, b"")
        state = json.loads(self.ranks.given(json.dumps(state).encode()))
        if not state:
            return Progress()
        try:
            tensors = load(self.ranks.given(data))
            model.load_state_dict(_below("model.", tensors))
            own = optimizer.state_dict()
            own["state"] = {}
            for name, value in _below("optimizer.", tensors).items():
                number, key = name.split(".", 1)
                own["state"].setdefault(int(number), {})[key] = value
            optimizer.load_state_dict(own)
            _lay_out(optimizer)
            best = _below("best.", tensors)
            if state["history"] and best.keys() != model.state_dict().keys():
                raise KeyError("the best epoch's weights are not whole")
            return Progress(state["history"], best, int(state["step"]), float(state["total"]))
        except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise self._damaged(path, error) from error

    def _read(self, path: Path) -> tuple[dict[str, Any], bytes]:
        """The state and the file of weights that it names; empty when there is none of this run."""
        if not path.is_file():
            return {}, b""
        try:
            state: dict[str, Any] = json.loads(path.read_text("utf-8"))
            # As JSON, for that is how it was kept.
            if state["identity"] != json.loads(json.dumps(self.identity)):
                return {}, b""
            return state, (self.folder / state["weights"]).read_bytes()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(path, error) from error

    def _damaged(self, path: Path, error: Exception) -> CheckpointError:
        return CheckpointError(f"{path} cannot be gone on from: {error}; empty {self.folder} to start anew")


def _replace(path: Path, data: bytes) -> None:
    """Writes a file so that a reader, and a machine that loses its power, see all of it or none."""
    half = path.with_name(f".{path.name}{HALF}")
    with half.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    half.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Gives what was read the layout of its weight: fused kernels go through both as they lie in memory."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == weight.shape:
                state[name] = torch.empty_like(weight, requires_grad=False).copy_(value)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
