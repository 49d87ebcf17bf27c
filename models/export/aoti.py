"""A trained net compiled ahead of time by torch's inductor: for this CPU in fp32, or for a CUDA GPU in bf16."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.export.exporter import Exported, Source, Unavailable, quiet

FILE = "model.pt2"


def export(source: Source, form: str, folder: Path) -> Exported:
    """Writes `model.pt2`. Raises Unavailable without a C++ compiler or, of aoti-cuda, without a CUDA GPU."""
    cuda = form == "aoti-cuda"
    if cuda and not torch.cuda.is_available():
        raise Unavailable("needs a CUDA GPU; run the export job on an instance that has one, such as ml.g5.xlarge")
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise Unavailable("needs a C++ compiler, and none is on PATH; install g++")
    module = Lowered(source.answer).eval().cuda() if cuda else source.answer
    example = torch.from_numpy(source.calibration.tensors[:2].copy()).to("cuda" if cuda else "cpu")
    batch = torch.export.Dim("batch", min=1)
    with quiet(), torch.no_grad():
        program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},), strict=False)
        _compile(program, folder / FILE, cuda)
    return Exported((FILE,), "compiled for the instruction set of the machine that exported it")


class Lowered(nn.Module):
    """Raw tensors as they are, all arithmetic that gains from it in bf16 by autocast, answers in fp32."""

    def __init__(self, answer: nn.Module) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, raw: Tensor) -> Tensor:
        """Raw tensors [N, ...] -> float32 [N, K]."""
        with torch.autocast("cuda", torch.bfloat16):
            found: Tensor = self.answer(raw)
        return found.float()


def _compile(program: Any, path: Path, cuda: bool) -> None:
    """On a GPU it is worth its minutes to try kernels for each operator; on a CPU it is freezing that pays.

    CUDA graphs are no matter of the package: the engine captures them when it loads.
    """
    from torch._inductor import aoti_compile_and_package

    options = {"max_autotune": True} if cuda else {"freezing": True}
    aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
