"""A trained net for OpenVINO: in fp32, in fp32 that runs as bf16, or in 8-bit integers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from models.export import onnx
from models.export.exporter import PLAIN, Exported, Recipe, Source

FILE = "model.xml"
WEIGHTS = "model.bin"
ESTIMATORS = {"minmax": "MINMAX", "percentile": "MEAN_QUANTILE", "entropy": "HISTOGRAM"}


def export(source: Source, form: str, folder: Path, recipe: Recipe = PLAIN) -> Exported:
    """Writes `model.xml` and `model.bin`. A bf16 artefact is the fp32 one: the engine lowers it when it loads."""
    import openvino

    model = _converted(source)
    if form == "openvino-int8":
        model = _quantised(model, source, recipe)
    openvino.save_model(model, folder / FILE, compress_to_fp16=False)
    return Exported((FILE, WEIGHTS))


def _converted(source: Source) -> Any:
    """The net by way of ONNX, which keeps the batch free."""
    import openvino

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / onnx.FILE
        path.write_bytes(onnx.graph(source))
        return openvino.convert_model(path)


def _quantised(model: Any, source: Source, recipe: Recipe) -> Any:
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # NNCF's own ranges are means of minima and maxima, which shrink logits by a fifth to two fifths.
    ranges = AdvancedQuantizationParameters(
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, ESTIMATORS[recipe.ranges]),
        weights_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        overflow_fix=OverflowFix.ENABLE if recipe.bits == 7 else OverflowFix.FIRST_LAYER,
    )
    tensors = source.calibration.tensors
    samples = nncf.Dataset([tensors[i : i + 1] for i in range(len(tensors))])
    # A node that a pass has folded away cannot be left out, and need not.
    floats = nncf.IgnoredScope(names=list(recipe.floats), validate=False) if recipe.floats else None
    return nncf.quantize(model, samples, subset_size=len(tensors), ignored_scope=floats, advanced_parameters=ranges)
