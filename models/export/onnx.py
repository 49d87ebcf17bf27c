"""A trained net as one ONNX file: raw tensors in, answers out, any batch size.

Normalisation and softmax are inside, so whoever runs it needs to know neither.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import nn

from models import net as nets
from models.contract import Contract

OPSET = 20
INPUT = "samples"
OUTPUT = "answers"


def export(net: nn.Module, contract: Contract, path: Path) -> None:
    """Writes `net` to `path`, weights inside, and checks the file against the ONNX specification."""
    wrapped = nets.Answer(net, contract).eval()
    # Two samples: a batch of one would be taken for a constant.
    example = torch.zeros((2, *contract.shape), dtype=getattr(torch, contract.dtype))
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
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
    _forget_origin(model)
    onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Takes out stack traces: they hold the paths of the machine that exported, so the file would differ by machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph, model):
        del part.metadata_props[:]
        part.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its steps and warns about its own internals; its errors still rise."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
