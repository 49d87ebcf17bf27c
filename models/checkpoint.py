"""What an interrupted training run goes on from; safetensors and JSON, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

STATE = "state.json"


class CheckpointError(Exception):
    """A checkpoint that cannot be read; the message names the file and what to try."""


@dataclass(frozen=True)
class Checkpoint:
    """One run's place in `folder`. `identity` says what was trained on what: another run's checkpoint is not taken."""

    folder: Path
    identity: Mapping[str, Any]

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        history: list[dict[str, Any]],
        best: Mapping[str, Tensor],
    ) -> None:
        """The state after the last epoch in `history`, and the weights of the best one.

        The JSON is replaced last and in one step, and names the weights, so that a half-written checkpoint is none.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        path = self.folder / f"epoch-{history[-1]['epoch']:04}.safetensors"
        # Copies: safetensors refuses tensors that share memory, and what lies on a GPU must come down.
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, path)
        scratch = self.folder / f".{STATE}"
        scratch.write_text(
            json.dumps({"identity": self.identity, "weights": path.name, "history": history}) + "\n", "utf-8"
        )
        scratch.replace(self.folder / STATE)
        for old in self.folder.glob("epoch-*.safetensors"):
            if old != path:
                old.unlink()

    def load(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
        """The history so far and the best weights, with model and optimizer as they were then.

        Both are empty when there is nothing of this run.
        Raises CheckpointError for a checkpoint of this run that is damaged.
        """
        path = self.folder / STATE
        if not path.is_file():
            return [], {}
        try:
            state = json.loads(path.read_text("utf-8"))
            if state["identity"] != self.identity:
                return [], {}
            tensors = load_file(self.folder / state["weights"])
            model.load_state_dict(_below("model.", tensors))
            own = optimizer.state_dict()
            own["state"] = {}
            for name, value in _below("optimizer.", tensors).items():
                number, key = name.split(".", 1)
                own["state"].setdefault(int(number), {})[key] = value
            optimizer.load_state_dict(own)
            best = _below("best.", tensors)
            if best.keys() != model.state_dict().keys():
                raise KeyError("the best epoch's weights are not whole")
            history: list[dict[str, Any]] = state["history"]
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"{path} cannot be gone on from: {error}; empty {self.folder} to start anew"
            ) from error
        return history, best


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
