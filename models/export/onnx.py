"""A trained net as one ONNX file, in fp32 or fp16: raw tensors in, answers out, any batch size.

Normalisation and softmax are inside, so whoever runs it needs to know neither.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import onnx
import torch
from torch import nn

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
            wrapped,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            optimize=True,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export gave no program")
        model = program.model_proto
    # The exporter falls back on a fixed batch without a word, where a net asks for the length of its batch as a number.
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise RuntimeError("the net fixes its batch size: take shape[0] of a tensor where its forward takes len()")
    _forget_origin(model)
    onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)


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
