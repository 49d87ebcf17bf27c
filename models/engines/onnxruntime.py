"""Runs an ONNX file on onnxruntime, on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.engines.engine import Engine, EngineError

TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class Session:
    """A session of onnxruntime. Thread-safe: it is, and nothing else changes."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = session.get_inputs()
        self._name = str(self._inputs[0].name)

    @property
    def takes(self) -> tuple[str, tuple[int, ...]]:
        """The type and shape of the one input; of more, all of them as text, which no contract has."""
        if len(self._inputs) != 1:
            return f"{len(self._inputs)} inputs", ()
        given = self._inputs[0]
        return TYPES.get(given.type, given.type), tuple(given.shape[1:])

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Raw tensors [N, ...] -> answers [N, K]."""
        return np.asarray(self._session.run(None, {self._name: batch})[0], np.float32)


def load(file: Path, form: str, threads: int) -> Engine:
    """A session on `threads` threads. Raises EngineError."""
    # Releases from 1.29 on resolve a vendor's host at import unless this is set before it.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return Session(onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]))
    except Exception as error:
        raise EngineError(f"onnxruntime does not load {file.name}: {error}") from error
