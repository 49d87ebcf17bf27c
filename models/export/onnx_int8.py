"""A trained net as an ONNX file in 8-bit integers: with fixed ranges from calibration, or ranges found at run time."""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx as format_

from models.export import onnx
from models.export.exporter import PLAIN, Exported, Recipe, Source

# Samples that are calibrated on at once; where histograms are made, every activation of so many is held in memory.
CHUNK = 32
# What loses most by eight bits and gains nothing. A softmax in steps of 1/255 knows no probability below: the slope of
# the logits of an otherwise faithful net was 2.3.
FLOAT = {"Softmax", "LogSoftmax", "LayerNormalization", "Sigmoid", "Tanh", "Erf", "Gelu", "Sqrt", "Pow", "Exp", "Log"}
HEAVY = ("Conv", "MatMul", "Gemm")
METHODS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}


def export(source: Source, form: str, folder: Path, recipe: Recipe = PLAIN) -> Exported:
    """Writes `model.onnx`: static QDQ for onnx-int8, dynamic for onnx-int8-dynamic; weights per channel."""
    with tempfile.TemporaryDirectory() as scratch:
        ready = Path(scratch) / "ready.onnx"
        ready.write_bytes(prepared(source))
        if form == "onnx-int8-dynamic":
            _dynamic(ready, folder / onnx.FILE, recipe)
        else:
            static(ready, folder / onnx.FILE, source, recipe)
    return Exported((onnx.FILE,))


@functools.lru_cache(maxsize=1)
def prepared(source: Source) -> bytes:
    """The graph of a source, folded and with shapes inferred, as quantisation wants it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as scratch:
        full, ready = Path(scratch) / "full.onnx", Path(scratch) / "ready.onnx"
        full.write_bytes(onnx.graph(source))
        quant_pre_process(str(full), str(ready), skip_symbolic_shape=True)
        return ready.read_bytes()


def layers(source: Source) -> list[str]:
    """The nodes that hold a net's work, in the order of the graph."""
    graph = format_.load_from_string(prepared(source)).graph
    weights = {initializer.name for initializer in graph.initializer}
    return [node.name for node in graph.node if node.op_type in HEAVY and weights & set(node.input)]


def _dynamic(ready: Path, to: Path, recipe: Recipe) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(ready), str(to), per_channel=True, weight_type=QuantType.QInt8, reduce_range=recipe.bits == 7,
        nodes_to_exclude=list(recipe.floats),
    )  # fmt: skip


def static(ready: Path, to: Path, source: Source, recipe: Recipe, *, cache: Path | None = None) -> None:
    """Quantises `ready` to `to` by the recipe; ranges are read from `cache`, or left there."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    nodes = format_.load(ready, load_external_data=False).graph.node
    floats = [*recipe.floats, *(node.name for node in nodes if node.op_type in FLOAT)]
    reader = _Reader(source.calibration.tensors)
    strides = {} if recipe.ranges == "minmax" else {"CalibStridedMinMax": reader.chunk, "CalibPercentile": 99.99}
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it warns of every vector that it does not quantise per channel
    try:
        quantize_static(
            str(ready),
            str(to),
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,  # signed activations ran 12 times slower on x86
            weight_type=QuantType.QInt8,
            reduce_range=recipe.bits == 7,
            calibrate_method=getattr(CalibrationMethod, METHODS[recipe.ranges]),
            nodes_to_exclude=floats,
            extra_options=strides,
            calibration_cache_path=None if cache is None else str(cache),
        )
    finally:
        root.setLevel(level)


class _Reader:
    """Feeds the calibration set to onnxruntime, which asks for one batch at a time, and for histograms in strides.

    Batches are of one size, as its histograms want them; a rest of less than that is left out.
    """

    def __init__(self, tensors: npt.NDArray[Any]) -> None:
        self.chunk = min(CHUNK, len(tensors))
        self._tensors = tensors[: len(tensors) // self.chunk * self.chunk]
        self._batches: Iterator[dict[str, Any]] = iter(())
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return len(self._tensors)

    def set_range(self, start_index: int, end_index: int) -> None:
        """The samples that come next."""
        starts = range(start_index, end_index, self.chunk)
        self._batches = iter({onnx.INPUT: self._tensors[start : start + self.chunk]} for start in starts)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)
