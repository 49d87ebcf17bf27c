"""The same net in every runtime as its documentation says, made by hand: what the product's choice is measured against.

    python -m benchmarks.artefacts.hand NAME NET_FOLDER --out FILE

Each is made for batch 1, which is what it is timed at, and calibrated on as many training samples as the product takes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.artefacts import train
from models import net
from models.engines import openvino as engine
from models.export.calibration import Calibration


@dataclass(frozen=True)
class Given:
    """The net with its softmax, an input of one sample, training samples [N, ...] to calibrate on, where to write."""

    answer: torch.nn.Module
    example: torch.Tensor
    calibration: Any
    out: Path

    def singles(self) -> list[torch.Tensor]:
        """The calibration samples, one by one."""
        return list(torch.split(torch.from_numpy(self.calibration.copy()), 1))


def main(argv: Sequence[str] | None = None) -> int:
    """One artefact."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.artefacts.hand")
    parser.add_argument("name", choices=sorted(MADE))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    trained = train.load(args.folder.name, args.folder)
    tensors = Calibration.load(args.folder).tensors
    answer = net.Answer(trained, trained.contract).eval()
    with torch.no_grad():
        MADE[args.name][1](Given(answer, torch.from_numpy(tensors[:1].copy()), tensors, args.out))
    return 0


def _onnx(given: Given, to: Path | None = None) -> None:
    torch.onnx.export(
        given.answer, (given.example,), str(to or given.out), input_names=["samples"], dynamo=True, external_data=False
    )


def _onnx_int8(given: Given) -> None:
    from onnxruntime import quantization as quant
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quant.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._left = iter(given.singles())

        def get_next(self) -> dict[str, Any] | None:
            found = next(self._left, None)
            return None if found is None else {"samples": found.numpy()}

    with tempfile.TemporaryDirectory() as scratch:
        full, ready = Path(scratch) / "full.onnx", Path(scratch) / "ready.onnx"
        _onnx(given, full)
        quant_pre_process(str(full), str(ready))
        quant.quantize_static(
            str(ready), str(given.out), Reader(), quant_format=quant.QuantFormat.QDQ, per_channel=True,
            activation_type=quant.QuantType.QUInt8, weight_type=quant.QuantType.QInt8,
        )  # fmt: skip


def _openvino(given: Given) -> None:
    openvino = engine.module()
    model = openvino.convert_model(given.answer, example_input=given.example, input=[list(given.example.shape)])
    openvino.save_model(model, given.out, compress_to_fp16=False)


def _openvino_int8(given: Given) -> None:
    openvino = engine.module()
    import nncf

    model = openvino.convert_model(given.answer, example_input=given.example, input=[list(given.example.shape)])
    samples = nncf.Dataset([sample.numpy() for sample in given.singles()])
    openvino.save_model(nncf.quantize(model, samples, subset_size=len(given.calibration)), given.out)


def _executorch(given: Given, module: torch.nn.Module | None = None) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(module or given.answer, (given.example,))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    given.out.write_bytes(lowered.buffer)


def _executorch_int8(given: Given) -> None:
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack

    config = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    _executorch(given, _prepared(given, xnnpack.XNNPACKQuantizer().set_global(config)))


def _aoti(given: Given, module: torch.nn.Module | None = None) -> None:
    from torch._inductor import aoti_compile_and_package

    program = torch.export.export(module or given.answer, (given.example,))
    aoti_compile_and_package(program, package_path=str(given.out), inductor_configs={"freezing": True})


def _aoti_int8(given: Given) -> None:
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    config = x86.get_default_x86_inductor_quantization_config()
    _aoti(given, _prepared(given, x86.X86InductorQuantizer().set_global(config)))


def _prepared(given: Given, quantizer: Any) -> torch.nn.Module:
    """Calibrated and converted by the pt2e path."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared = prepare_pt2e(torch.export.export(given.answer, (given.example,)).module(), quantizer)
    for sample in given.singles():
        prepared(sample)
    converted: torch.nn.Module = convert_pt2e(prepared)
    return converted


# By name: what the worker calls it, and what makes it.
MADE: dict[str, tuple[str, Callable[[Given], None]]] = {
    "onnxruntime-fp32": ("onnxruntime", _onnx),
    "onnxruntime-int8": ("onnxruntime", _onnx_int8),
    "openvino-fp32": ("openvino", _openvino),
    "openvino-bf16": ("openvino-bf16", _openvino),
    "openvino-int8": ("openvino", _openvino_int8),
    "executorch-fp32": ("executorch", _executorch),
    "executorch-int8": ("executorch", _executorch_int8),
    "aoti-fp32": ("aoti", _aoti),
    "aoti-int8": ("aoti", _aoti_int8),
}
SUFFIX = {"onnxruntime": ".onnx", "openvino": ".xml", "openvino-bf16": ".xml", "executorch": ".pte", "aoti": ".pt2"}


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    torch.set_num_threads(1)
    sys.exit(main())
