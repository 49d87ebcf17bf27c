"""ResNet-18 at batch 32 in fp32, run in other ways than the product's, beside torch's own product of square matrices.

    python -m benchmarks.artefacts.ways FOLDER

FOLDER is what `benchmarks.artefacts.train` left of `conv`. One thread, its CPU time, in turn; the last line is
`{"rows": [...]}`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.artefacts import ceiling, train
from benchmarks.artefacts.ceiling import BATCH, SIZE, Task
from models.engines import engine
from models.export import executorch, formats, onnx, openvino
from models.export.calibration import Calibration
from models.export.exporter import Export, Source, quiet

Run = Callable[[npt.NDArray[Any]], Any]
PRODUCT = "torch's product of matrices"


def main(argv: Sequence[str] | None = None) -> int:
    """A row for each way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.artefacts.ways")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    trained = train.load("conv", args.folder)
    tensors = Calibration.load(args.folder).tensors
    batch = np.resize(tensors, (BATCH, *tensors.shape[1:]))
    work = BATCH * ceiling.operations(trained, tensors)
    square = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as scratch:
        tasks: dict[str, Task] = {PRODUCT: (_product(), square, 2.0 * SIZE**3)}
        for says, run in _ways(ceiling.source(trained, args.folder), Path(scratch), batch):
            tasks[says] = (run, batch, work)
        found = ceiling.rates(tasks)
    rows = [
        {
            "net": "conv",
            "batch": BATCH,
            "way": says,
            "gops": round(float(np.median(rate)), 1),
            "of_product": round(float(np.median(rate / found[PRODUCT])), 3),
        }
        for says, rate in found.items()
    ]
    print(json.dumps({"rows": rows}))  # noqa: T201 - the caller reads this line
    return 0


def _ways(source: Source, scratch: Path, batch: npt.NDArray[Any]) -> Iterator[tuple[str, Run]]:
    """Each way by what it does otherwise than the product, which comes first."""
    file = _made(openvino.export, source, "openvino-fp32", scratch)
    yield "openvino, as the product", engine.load("openvino", file, "openvino-fp32", 1).run
    shape = list(batch.shape)
    yield "openvino, shapes fixed", _openvino(file, shape)
    yield "openvino, for throughput", _openvino(file, shape, "THROUGHPUT")
    for size in (8, 2):
        part = _openvino(file, [size, *shape[1:]])
        yield f"openvino, {BATCH // size} batches of {size}", _in_parts(part, size)
    file = _made(onnx.export, source, "onnx-fp32", scratch)
    yield "onnxruntime, as the product", engine.load("onnxruntime", file, "onnx-fp32", 1).run
    yield "onnxruntime, denormals as zero", _onnxruntime(file)
    file = _made(executorch.export, source, "executorch-fp32", scratch)
    yield "executorch", engine.load(formats.BY_NAME["executorch-fp32"].runtime, file, "executorch-fp32", 1).run
    yield "torch frozen, channels-last", _frozen(source, batch)


def _made(export: Callable[[Source, str, Path], Export], source: Source, name: str, scratch: Path) -> Path:
    place = scratch / name
    place.mkdir()
    with quiet():
        return place / export(source, name, place).files[0]


def _openvino(file: Path, shape: list[int], hint: str = "LATENCY") -> Run:
    """Compiled for this shape alone."""
    import openvino as vino

    core = vino.Core()
    model = core.read_model(str(file))
    model.reshape(shape)
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": hint, "ENABLE_CPU_PINNING": False}
    request = core.compile_model(model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()

    def run(batch: npt.NDArray[Any]) -> Any:
        request.set_input_tensor(vino.Tensor(batch, shared_memory=True))
        request.infer()
        return np.array(request.get_output_tensor(0).data)

    return run


def _in_parts(run: Run, size: int) -> Run:
    """Smaller batches one after the other, whose maps stay in the cache."""
    return lambda batch: [run(np.ascontiguousarray(batch[at : at + size])) for at in range(0, len(batch), size)]


def _onnxruntime(file: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def _frozen(source: Source, batch: npt.NDArray[Any]) -> Run:
    """TorchScript with oneDNN's fused convolutions."""

    def last(values: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values).contiguous(memory_format=torch.channels_last)

    traced = torch.jit.trace(source.answer.to(memory_format=torch.channels_last), last(batch))
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(traced))

    def run(values: npt.NDArray[Any]) -> Any:
        with torch.inference_mode():
            return frozen(last(values)).numpy()

    return run


def _product() -> Run:
    other = torch.randn(SIZE, SIZE)
    return lambda square: torch.from_numpy(square) @ other


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.exit(main())
