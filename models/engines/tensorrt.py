"""Runs an ONNX file on TensorRT: the engine is built on this GPU once, and kept by model, version and GPU.

Written against TensorRT 10 and 11 (name-based tensors, strongly typed networks) and cuda-python's `cuda.bindings`:
https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-10x-to-11x-python-api-patterns.html. It
takes an NVIDIA GPU; its test is skipped without one and says what would run it.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.engines.engine import Absent, Engine, EngineError

# Batches that an engine is tuned for, and up to which it answers at once.
USUAL, LARGEST = 8, 256
WORKSPACE = 1 << 30


class Context:
    """An engine with one execution context, one stream and room for the largest batch; one caller at a time."""

    def __init__(self, engine: Any, cuda: Any) -> None:
        self._engine, self._cuda, self._lock = engine, cuda, threading.Lock()
        self._context = engine.create_execution_context()
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._in, self._out = names
        self._shapes = {name: tuple(engine.get_tensor_shape(name))[1:] for name in names}
        self._types = {name: np.dtype(_trt().nptype(engine.get_tensor_dtype(name))) for name in names}
        self._stream = _ok(cuda.cudaStreamCreate())
        self._rooms = {name: _ok(cuda.cudaMalloc(LARGEST * self._size(name))) for name in names}
        for name in names:
            self._context.set_tensor_address(name, int(self._rooms[name]))

    @property
    def takes(self) -> tuple[str, tuple[int, ...]]:
        """The type and shape of the input."""
        return str(self._types[self._in]), self._shapes[self._in]

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Raw tensors [N, ...] -> answers [N, K]."""
        return np.concatenate([self._part(batch[i : i + LARGEST]) for i in range(0, len(batch), LARGEST)])

    def _part(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        given = np.ascontiguousarray(batch)
        found = np.empty((len(batch), *self._shapes[self._out]), self._types[self._out])
        kinds = self._cuda.cudaMemcpyKind
        with self._lock:
            self._copy(self._rooms[self._in], given.ctypes.data, given.nbytes, kinds.cudaMemcpyHostToDevice)
            self._context.set_input_shape(self._in, given.shape)
            if not self._context.execute_async_v3(self._stream):
                raise RuntimeError("TensorRT did not run the batch")
            self._copy(found.ctypes.data, self._rooms[self._out], found.nbytes, kinds.cudaMemcpyDeviceToHost)
            _ok(self._cuda.cudaStreamSynchronize(self._stream))
        return found.astype(np.float32)

    def _copy(self, to: Any, source: Any, size: int, kind: Any) -> None:
        _ok(self._cuda.cudaMemcpyAsync(to, source, size, kind, self._stream))

    def _size(self, name: str) -> int:
        return int(math.prod(self._shapes[name])) * int(self._types[name].itemsize)


def load(file: Path, form: str, threads: int) -> Engine:
    """The engine of the file, built when this GPU has none of it yet. Raises Absent without a GPU, EngineError."""
    trt = _trt()
    from cuda.bindings import runtime as cuda

    status, count = cuda.cudaGetDeviceCount()
    if int(status) or not count:
        raise Absent(f"{form} runs on an NVIDIA GPU, and the CUDA runtime finds none")
    gpu = _ok(cuda.cudaGetDeviceProperties(0)).name.decode()
    kept = _kept(file, str(trt.__version__), gpu)
    logger = trt.Logger(trt.Logger.ERROR)
    try:
        if not kept.is_file():
            _write(kept, _built(trt, logger, file))
        engine = trt.Runtime(logger).deserialize_cuda_engine(kept.read_bytes())
        if engine is None:
            raise EngineError(f"TensorRT does not load the engine of {file.name}")
        return Context(engine, cuda)
    except (RuntimeError, OSError) as error:
        raise EngineError(f"TensorRT does not load {file.name}: {error}") from error


def _kept(file: Path, version: str, gpu: str) -> Path:
    """Where the engine of a model lies: beside other caches, by what it depends on."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    name = re.sub(r"[^\w.]+", "-", f"{digest}-{version}-{gpu}")
    folder = os.environ.get("TENSORRT_ENGINES") or Path(tempfile.gettempdir()) / "tensorrt-engines"
    return Path(folder) / f"{name}.engine"


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a device may lose power while it writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)


def _built(trt: Any, logger: Any, file: Path) -> bytes:
    """The serialized engine for batches of 1 to LARGEST. Raises EngineError with the parser's own words."""
    builder = trt.Builder(logger)
    # TensorRT 11 takes the flag and ignores it: every network is strongly typed there.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(file.read_bytes()):
        raise EngineError("; ".join(str(parser.get_error(index)) for index in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    given = network.get_input(0)
    shape, profile = tuple(given.shape)[1:], builder.create_optimization_profile()
    profile.set_shape(given.name, (1, *shape), (USUAL, *shape), (LARGEST, *shape))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT builds no engine of {file.name}")
    return bytes(plan)


def _trt() -> Any:
    import tensorrt

    return tensorrt


def _ok(answer: Any) -> Any:
    """What a call of the CUDA runtime gave beside its status. Raises RuntimeError when that is not success."""
    status, *rest = answer
    if int(status):
        raise RuntimeError(f"CUDA: {status}")
    return rest[0] if rest else None
