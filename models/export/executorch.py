"""A trained net as an ExecuTorch program whose work XNNPACK does: in fp32, or in 8-bit integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from models.export.exporter import Exported, Source, quiet

FILE = "model.pte"
# What the memory is planned for. ExecuTorch rounds it down to what it likes, and the engine reads what came of it.
LARGEST = 64
CHUNK = 64
DELEGATED = ("executorch_call_delegate", "getitem")


def export(source: Source, form: str, folder: Path) -> Exported:
    """Writes `model.pte`. What XNNPACK does not take runs on ExecuTorch's portable kernels, which `notes` counts."""
    with quiet():
        program = _exported(source.answer, source)
        if form == "executorch-int8":
            program = _exported(_quantised(program.module(), source), source)
        lowered, left = _lowered(program)
        (folder / FILE).write_bytes(lowered.buffer)
    return Exported((FILE,), f"{left} operators run on portable kernels" if left else "")


def _exported(module: torch.nn.Module, source: Source) -> Any:
    example = torch.from_numpy(source.calibration.tensors[:2].copy())
    batch = torch.export.Dim("batch", min=1, max=LARGEST)
    return torch.export.export(module, (example,), dynamic_shapes=({0: batch},), strict=False)


def _quantised(module: torch.nn.Module, source: Source) -> torch.nn.Module:
    """Per-channel weights and ranges from the calibration set, by the pt2e path of torchao."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(module, quantizer)
    with torch.no_grad():
        for part in torch.split(torch.from_numpy(source.calibration.tensors.copy()), CHUNK):
            prepared(part)
    converted: torch.nn.Module = convert_pt2e(prepared)
    return converted


def _lowered(program: Any) -> tuple[Any, int]:
    """The program in ExecuTorch's form, and how many operators no backend took."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    edge = to_edge_transform_and_lower(
        program, partitioner=[XnnpackPartitioner()], compile_config=EdgeCompileConfig(_check_ir_validity=False)
    )
    nodes = edge.exported_program().graph.nodes
    left = [
        node
        for node in nodes
        if node.op == "call_function"
        and "executorch_call_delegate" not in str(node.target)
        and "getitem" not in str(node.target)
    ]
    return edge.to_executorch(), len(left)
