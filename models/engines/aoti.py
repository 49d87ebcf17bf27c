"""Runs a package of AOTInductor: a net that torch compiled ahead of time, for the CPU or for a CUDA GPU."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.engines.engine import Absent, Engine, EngineError

# Captured batch sizes that are kept; a further one takes the place of the oldest.
GRAPHS = 8
WARM_UP = 3


class Package:
    """A package for the CPU. Thread-safe: the loader lends its one runner to a caller at a time."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    @property
    def takes(self) -> None:
        """Not told by the package."""
        return None

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Raw tensors [N, ...] -> answers [N, K]."""
        import torch

        # Copied: a read-only array makes no tensor.
        (found,) = self._loader.boxed_run([torch.from_numpy(np.array(batch))])
        answers: npt.NDArray[np.float32] = found.numpy()
        return answers


class Captured:
    """A package for a GPU, whose work is captured as one CUDA graph for each batch size; one caller at a time.

    At batch 1 a net is a few dozen small kernels, and starting them one by one takes longer than they do:
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._lock = threading.Lock()
        self._graphs: OrderedDict[int, tuple[Any, Any, Any]] = OrderedDict()

    @property
    def takes(self) -> None:
        """Not told by the package."""
        return None

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Raw tensors [N, ...] -> answers [N, K]."""
        import torch

        given = torch.from_numpy(np.array(batch))
        with self._lock:
            if len(batch) not in self._graphs:
                self._graphs[len(batch)] = self._capture(given)
                if len(self._graphs) > GRAPHS:
                    self._graphs.popitem(last=False)
            graph, entry, answers = self._graphs[len(batch)]
            entry.copy_(given)
            graph.replay()
            found: npt.NDArray[np.float32] = answers.float().cpu().numpy()
            return found

    def _capture(self, given: Any) -> tuple[Any, Any, Any]:
        """The graph for this batch size, and the tensors that it reads and writes each time."""
        import torch

        entry = given.cuda()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._loader.run([entry], aside.cuda_stream)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            (answers,) = self._loader.run([entry], torch.cuda.current_stream().cuda_stream)
        return graph, entry, answers


def load(file: Path, form: str, threads: int) -> Engine:
    """The package by torch's own loader in C++. Raises EngineError, and Absent without the GPU it was compiled for."""
    import torch

    device = "cuda" if form == "aoti-cuda" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise Absent("aoti-cuda runs on a CUDA GPU, and torch finds none")
    torch.set_num_threads(threads)
    try:
        # torch._inductor.aoti_load_package goes by way of the compiler's Python, which took 9 s where this takes 3 ms.
        # A runner that locks nothing can be captured as a CUDA graph.
        loader = torch._C._aoti.AOTIModelPackageLoader(str(file), "model", device == "cuda", 1, -1)
        return Captured(loader) if device == "cuda" else Package(loader)
    except Exception as error:
        raise EngineError(f"torch does not load {file.name}: {error}") from error
