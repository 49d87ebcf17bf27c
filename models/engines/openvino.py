"""Runs an OpenVINO model on the CPU, in the precision that its format names."""

from __future__ import annotations

import queue
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.engines.engine import Engine, EngineError

TYPES = {"u8": "uint8", "f32": "float32"}
# A bf16 artefact is stored in fp32: the precision is what the engine is told. Left alone, it takes bf16 on its own
# wherever the CPU has it, so fp32 and int8 must say f32 to stay what they are called.
PRECISION = {"openvino-bf16": "bf16"}
# What the exporter writes into a model that cannot be compiled with its layers fused.
UNFUSED = ["lab", "unfused"]


class Compiled:
    """A model compiled for one sample and for any number, each with a few requests, lent to one caller at a time.

    With its shapes known, a transformer took 0.89 ms for one sample where it took 0.97 with the batch left free.
    """

    def __init__(self, one: Any, many: Any, tensor: Any, requests: int) -> None:
        self._compiled, self._tensor = many, tensor
        self._one, self._many = _requests(one, requests), _requests(many, requests)

    @property
    def takes(self) -> tuple[str, tuple[int, ...]]:
        """The type and shape of the input."""
        given = self._compiled.input(0)
        kind = given.element_type.get_type_name()
        return TYPES.get(kind, kind), tuple(part.get_length() for part in list(given.partial_shape)[1:])

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Raw tensors [N, ...] -> answers [N, K]."""
        free = self._one if len(batch) == 1 else self._many
        request = free.get()
        try:
            # Set by hand: `infer` finds the input's name and type anew each time, which took 40 of 120 microseconds.
            # Shared, not copied: `whole` outlives the call, which no tensor sees to; the answer is copied below.
            whole = _writable(batch)
            request.set_input_tensor(self._tensor(whole, shared_memory=True))
            request.infer()
            return np.array(request.get_output_tensor(0).data, np.float32)
        finally:
            free.put(request)


def _requests(compiled: Any, count: int) -> queue.SimpleQueue[Any]:
    """A request must not be used by two threads."""
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(count):
        free.put(compiled.create_infer_request())
    return free


def _writable(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The batch in one piece, as a tensor can share it; a read-only one is copied."""
    whole = np.ascontiguousarray(batch)
    return whole if whole.flags.writeable else whole.copy()


def module() -> Any:
    """The package `openvino`, which then reports its use to no one, nor does NNCF.

    Both send events to their maker unless a file in the home folder says no; no variable does. Where the package that
    sends them cannot be imported, they have stand-ins of their own that send nothing.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importlib's way to say that there is none
    import openvino

    return openvino


def load(file: Path, form: str, threads: int) -> Engine:
    """The model compiled for one stream of `threads` threads, tuned for latency. Raises EngineError."""
    openvino = module()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": PRECISION.get(form, "f32"),
        "ENABLE_CPU_PINNING": False,  # pinning fights with what else runs on an endpoint or a device
    }
    try:
        core = openvino.Core()
        model = core.read_model(str(file))
        if model.has_rt_info(UNFUSED):
            settings["SNIPPETS_MODE"] = "DISABLE"
        many = core.compile_model(model, "CPU", settings)
        model.reshape([1, *list(model.input(0).partial_shape)[1:]])
        one = core.compile_model(model, "CPU", settings)
        return Compiled(one, many, openvino.Tensor, max(1, threads))
    except Exception as error:
        raise EngineError(f"openvino does not load {file.name}: {error}") from error
