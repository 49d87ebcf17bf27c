"""Runs a package of AOTInductor: a net that torch compiled ahead of time, for the CPU or for a CUDA GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.engines.engine import Absent, Engine, EngineError


class Package:
    """A loaded package. Thread-safe: the loader lends its one runner to a caller at a time."""

    def __init__(self, loader: Any, device: str) -> None:
        self._loader, self._device = loader, device

    @property
    def takes(self) -> None:
        """Not told by the package."""
        return None

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Raw tensors [N, ...] -> answers [N, K]."""
        import torch

        # Copied: a read-only array makes no tensor, and a GPU wants one of its own anyway.
        (found,) = self._loader.boxed_run([torch.from_numpy(np.array(batch)).to(self._device)])
        answers: npt.NDArray[np.float32] = found.float().cpu().numpy()
        return answers


def load(file: Path, form: str, threads: int) -> Engine:
    """The package by torch's own loader in C++. Raises EngineError, and Absent without the GPU it was compiled for."""
    import torch

    device = "cuda" if form == "aoti-cuda" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise Absent("aoti-cuda runs on a CUDA GPU, and torch finds none")
    torch.set_num_threads(threads)
    try:
        # torch._inductor.aoti_load_package goes by way of the compiler's Python, which took 9 s where this takes 3 ms.
        return Package(torch._C._aoti.AOTIModelPackageLoader(str(file), "model", False, 1, -1), device)
    except Exception as error:
        raise EngineError(f"torch does not load {file.name}: {error}") from error
