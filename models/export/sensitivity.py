"""Which layers lose most by eight bits: each is quantised alone, and the logits are compared with those of the net.

N samples   K classes, or 1 where the answer is a number
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.export import onnx, onnx_int8
from models.export.exporter import Recipe, Source

SAMPLES = 64
TINY = 1e-7

Floats = npt.NDArray[np.float64]


def order(source: Source, recipe: Recipe, seconds: float) -> list[tuple[str, float]]:
    """Nodes of the ONNX graph with the damage that each does, most of it first, as far as `seconds` reach.

    Damage is the relative L2 distance of the logits on 64 training samples. One at a time is the scan of Wu et al.,
    Integer quantization for deep learning inference, 2020, section 5.3.
    """
    until = time.monotonic() + seconds
    tensors = source.calibration.tensors[:SAMPLES]
    damages: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        ready, part, cache = (Path(scratch) / name for name in ("ready.onnx", "part.onnx", "ranges.json"))
        ready.write_bytes(onnx_int8.prepared(source))
        expected = _logits(ready, tensors)
        names = onnx_int8.layers(source)
        for name in names:
            if time.monotonic() > until:
                break
            alone = replace(recipe, floats=tuple(other for other in names if other != name))
            onnx_int8.static(ready, part, source, alone, cache=cache)
            damages.append((name, _distance(_logits(part, tensors), expected)))
    return sorted(damages, key=lambda item: -item[1])


def _logits(file: Path, tensors: npt.NDArray[Any]) -> Floats:
    """Centred logarithms of the probabilities, or the numbers as they are."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    found = np.asarray(session.run([onnx.OUTPUT], {onnx.INPUT: tensors})[0], np.float64)
    if found.shape[1] == 1:
        return found
    logs = np.log(np.clip(found, TINY, 1.0))
    return np.asarray(logs - logs.mean(1, keepdims=True))


def _distance(found: Floats, expected: Floats) -> float:
    return float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(expected)), 1e-12))
