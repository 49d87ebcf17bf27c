"""A trained net as one ONNX file, in fp32 or fp16: raw tensors in, answers out, any batch size.

Normalisation and softmax are inside, so whoever runs it needs to know neither.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from models.contract import Contract
from models.export.exporter import Exported, Source, quiet

OPSET = 20
INPUT = "samples"
OUTPUT = "answers"
FILE = "model.onnx"


def export(source: Source, form: str, folder: Path) -> Exported:
    """Writes `model.onnx` in fp32 or, of format onnx-fp16, with weights and arithmetic in fp16."""
    path = folder / FILE
    path.write_bytes(graph(source))
    if form == "onnx-fp16":
        _halve(path)
    return Exported((FILE,))


@functools.lru_cache(maxsize=1)
def graph(source: Source) -> bytes:
    """The fp32 graph of a source, checked; made once for all formats that start from it."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / FILE
        write(source.answer, source.contract, path)
        return path.read_bytes()


def write(answer: nn.Module, contract: Contract, path: Path) -> None:
    """Writes a module to `path`, weights inside, and checks the file against the ONNX specification.

    `answer` takes raw tensors [N, ...] of the contract and gives answers [N, K] or [N, 1]. Raises RuntimeError for a
    net that takes one batch size only.
    """
    wrapped = answer.eval()
    # Two samples: a batch of one would be taken for a constant.
    example = torch.zeros((2, *contract.shape), dtype=getattr(torch, contract.dtype))
    batch = torch.export.Dim("batch", min=1)
    with quiet():
        program = torch.onnx.export(
            _traced(wrapped, example, batch),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            optimize=True,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export gave no program")
        model = program.model_proto
    _forget_origin(model)
    onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)


def _traced(answer: nn.Module, example: Tensor, batch: Any) -> torch.export.ExportedProgram:
    """The net as torch traces it, attention in plain products."""
    try:
        program = torch.export.export(answer, (example,), dynamic_shapes=({0: batch},), strict=False)
    except torch._dynamo.exc.UserError as error:
        raise RuntimeError(
            "the net fixes its batch size: take shape[0] of a tensor where its forward takes len()"
        ) from error
    found: torch.export.ExportedProgram = program.run_decompositions(
        {torch.ops.aten.scaled_dot_product_attention.default: _attention}
    )
    return found


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What torch documents of scaled_dot_product_attention, for a net that answers.

    The ONNX exporter's own turns the keys by way of shapes that it reads at run time, which no runtime can fold away
    while the batch is free: a transformer of three layers took 9 % longer on onnxruntime.
    """
    if enable_gqa:
        key, value = (part.repeat_interleave(query.size(-3) // part.size(-3), -3) for part in (key, value))
    scores = (query * (query.size(-1) ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        blocked = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, float("-inf")) if blocked else scores + attn_mask
    return torch.softmax(scores, -1) @ value


def _halve(path: Path) -> None:
    """Converts a graph in place; inputs and outputs keep their types."""
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    with quiet():
        model = float16.convert_float_to_float16(onnx.load(path), keep_io_types=True)
        # It puts its casts last, where a net reads its input in several places.
        OnnxModel.graph_topological_sort(model.graph, is_deterministic=True)
    _forget_origin(model)
    onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Takes out stack traces: they hold the paths of the machine that exported, so the file would differ by machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph, model):
        del part.metadata_props[:]
        part.doc_string = ""
