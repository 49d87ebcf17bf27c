"""What every engine gives the runtime: an artefact that is loaded on a fixed number of threads and answers batches.

A module of this folder runs one runtime and has one function, `load(file, form, threads) -> Engine`. `models.runtime`
imports it by the name in a package's model.json, so that a bundle carries the engines that its targets allow and no
other. Standard library and numpy only.

    N samples in a batch, each a raw tensor of the contract   K classes, or 1 where the answer is a number
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

# Runtime, as a module of this folder -> the distribution whose absence says that it cannot run here.
NEEDS = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "executorch": "executorch",
    "aoti": "torch",
    "tensorrt": "tensorrt",
}


class EngineError(Exception):
    """An artefact that the engine does not load; the message is the engine's own."""


class Absent(Exception):
    """A runtime that is not here, by name, and what would bring it."""


class Engine(Protocol):
    """An artefact that is ready to answer."""

    @property
    def takes(self) -> tuple[str, tuple[int, ...]] | None:
        """numpy's name of the input's type and its shape without the batch; None where the artefact cannot tell."""

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Raw tensors [N, ...] -> answers [N, K]."""


def load(runtime: str, file: Path, form: str, threads: int) -> Engine:
    """The artefact in `file`, with the files that lie beside it, on `threads` threads of `runtime`.

    Raises Absent when the runtime is not here, EngineError when the artefact does not load.
    """
    if runtime not in NEEDS:
        raise Absent(f"no engine runs '{runtime}'; there are {', '.join(NEEDS)}")
    try:
        module = importlib.import_module(f"models.engines.{runtime}")
    except ModuleNotFoundError as error:
        raise Absent(f"this bundle has no engine for {runtime}: allow {form} in its [targets.…] formats") from error
    try:
        return cast("Callable[[Path, str, int], Engine]", module.load)(file, form, threads)
    except ImportError as error:
        raise Absent(f"{form} runs on {NEEDS[runtime]}, which is not installed: {error}") from error
