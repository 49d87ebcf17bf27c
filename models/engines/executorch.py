"""Runs an ExecuTorch program with XNNPACK on the CPU."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.engines.engine import Engine, EngineError

# Types of a tensor as ExecuTorch numbers them (torch's ScalarType).
TYPES = {0: "uint8", 6: "float32"}


class Method:
    """One method of a program, used by one caller at a time: it has one memory plan, of `largest` samples."""

    def __init__(self, method: Any) -> None:
        self._method = method
        self._lock = threading.Lock()
        self._input = method.metadata.input_tensor_meta(0)
        self.largest = int(self._input.sizes()[0])

    @property
    def takes(self) -> tuple[str, tuple[int, ...]]:
        """The type and shape of the input."""
        kind = self._input.dtype()
        return TYPES.get(kind, str(kind)), tuple(self._input.sizes()[1:])

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Raw tensors [N, ...] -> answers [N, K]; more samples than were planned for go in parts."""
        return np.concatenate([self._part(batch[i : i + self.largest]) for i in range(0, len(batch), self.largest)])

    def _part(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        import torch

        with self._lock:
            (found,) = self._method.execute([torch.from_numpy(np.array(batch))])
            answers: npt.NDArray[np.float32] = found.numpy().astype(np.float32, copy=True)
            return answers


def load(file: Path, form: str, threads: int) -> Engine:
    """The program's `forward`. Raises EngineError."""
    with warnings.catch_warnings():
        # At import and at load it warns that its Python interface may change; the pin holds it.
        warnings.simplefilter("ignore")
        return _load(file, threads)


def _load(file: Path, threads: int) -> Engine:
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime, Verification

    # Its own pool, which no OMP_NUM_THREADS reaches; it has to be set before a method is loaded.
    portable_lib._unsafe_reset_threadpool(threads)
    try:
        program = Runtime.get().load_program(file, verification=Verification.InternalConsistency)
        return Method(program.load_method("forward"))
    except Exception as error:
        raise EngineError(f"executorch does not load {file.name}: {error}") from error
