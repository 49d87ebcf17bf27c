"""A trained net as an ONNX file in 8-bit integers: with fixed ranges from calibration, or ranges found at run time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.export import onnx
from models.export.exporter import Exported, Source

# Samples that are calibrated on at once.
CHUNK = 64


def export(source: Source, form: str, folder: Path) -> Exported:
    """Writes `model.onnx`: static QDQ for onnx-int8, dynamic for onnx-int8-dynamic; weights per channel."""
    with tempfile.TemporaryDirectory() as scratch:
        full, ready = Path(scratch) / "full.onnx", Path(scratch) / "ready.onnx"
        full.write_bytes(onnx.graph(source))
        _prepare(full, ready)
        if form == "onnx-int8-dynamic":
            _dynamic(ready, folder / onnx.FILE)
        else:
            _static(ready, folder / onnx.FILE, source)
    return Exported((onnx.FILE,))


def _prepare(full: Path, ready: Path) -> None:
    """Folds and infers shapes, as quantisation wants it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(full), str(ready), skip_symbolic_shape=True)


def _dynamic(ready: Path, to: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(ready), str(to), per_channel=True, weight_type=QuantType.QInt8)


def _static(ready: Path, to: Path, source: Source) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        str(ready),
        str(to),
        _Reader(source),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,  # signed activations ran 12 times slower on x86
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


class _Reader:
    """Feeds the calibration set to onnxruntime, which asks for one batch at a time."""

    def __init__(self, source: Source) -> None:
        self._batches: Iterator[dict[str, Any]] = (
            {onnx.INPUT: source.calibration.tensors[start : start + CHUNK]}
            for start in range(0, len(source.calibration), CHUNK)
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)
