"""A trained net for TensorRT: the ONNX file in fp16, from which the target builds its own engine."""

from __future__ import annotations

from pathlib import Path

from models.export import onnx
from models.export.exporter import Exported, Source


def export(source: Source, form: str, folder: Path) -> Exported:
    """Writes `model.onnx` with types as they shall run: TensorRT's strongly typed networks take them as they stand.

    An engine is bound to a version of TensorRT and a GPU: models/engines/tensorrt.py builds it where it runs, once.
    """
    exported = onnx.export(source, "onnx-fp16", folder)
    return Exported(exported.files, "its engine is built on the target when it is first loaded")
