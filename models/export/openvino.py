"""A trained net for OpenVINO: in fp32, in fp32 that runs as bf16, or in 8-bit integers."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from models.engines import openvino as engine
from models.export import onnx, trials
from models.export.exporter import PLAIN, Exported, Recipe, Source

FILE = "model.xml"
WEIGHTS = "model.bin"
# Of a process that ran into code which no machine should run.
FAULTS = (signal.SIGSEGV, signal.SIGILL, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT)
ESTIMATORS = {"minmax": "MINMAX", "percentile": "MEAN_QUANTILE", "entropy": "HISTOGRAM"}


def export(source: Source, form: str, folder: Path, recipe: Recipe = PLAIN) -> Exported:
    """Writes `model.xml` and `model.bin`. A bf16 artefact is the fp32 one: the engine lowers it when it loads.

    OpenVINO 2026.4 fuses the layers of some nets into code that kills the process which compiles it (a fixed batch, one
    thread, AVX2). The artefact of such a net says that it is compiled unfused, on every machine. One that this machine
    can fuse and a device cannot is left to the device's canaries.
    """
    openvino = engine.module()
    model = _converted(source)
    if form == "openvino-int8":
        model = _quantised(model, source, recipe)
    openvino.save_model(model, folder / FILE, compress_to_fp16=False)
    if not _survives(folder / FILE, form):
        model.set_rt_info("yes", engine.UNFUSED)
        openvino.save_model(model, folder / FILE, compress_to_fp16=False)
        return Exported((FILE, WEIGHTS), "fused, it kills the process that compiles it here: compiled unfused")
    return Exported((FILE, WEIGHTS))


def _survives(model: Path, form: str) -> bool:
    """Whether a process that loads the model here is not killed by it; what else it may say against it counts later."""
    program = f"from pathlib import Path; from {engine.__name__} import load; load(Path({str(model)!r}), {form!r}, 1)"
    command, quiet = [sys.executable, "-c", program], subprocess.DEVNULL
    with subprocess.Popen(command, env=trials.environment(1), stdin=quiet, stdout=quiet, stderr=quiet) as child:
        try:
            return -child.wait(trials.SECONDS) not in FAULTS
        except subprocess.TimeoutExpired:
            child.kill()
            return True


def _converted(source: Source) -> Any:
    """The net by way of ONNX, which keeps the batch free."""
    openvino = engine.module()
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
