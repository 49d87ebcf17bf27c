"""One contestant in a process of its own: loads it, answers every sample, then times a round for each line on stdin.

    python -m benchmarks.artefacts.worker KIND FILE --samples FILE.npy --answers FILE.npy

A package goes through the product's runtime, everything else through its own interface in the fewest calls. It says
`ready`, then for each line {"ms": the round's median, "wall_ms": likewise, "cpu": CPU time by wall time}. One thread
each, so that on a quiet machine both medians are one; `ms` is of CPU time, which other processes do not lengthen.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Answer = Callable[[npt.NDArray[Any]], Any]
# Predictions of a round, fewer when its seconds are over, but a few at least.
ROUND, SECONDS, FEWEST = 100, 0.3, 5
WARM_UP = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Rounds as long as stdin asks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.artefacts.worker")
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("file", type=Path)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--answers", type=Path, help="where its answers to all samples go")
    args = parser.parse_args(argv)
    samples = np.load(args.samples, allow_pickle=False)
    answer = KINDS[args.kind](args.file)
    if args.answers is not None:
        # One by one, as they are timed: what takes its ranges from a batch answers otherwise in a larger one.
        np.save(args.answers, np.concatenate([np.array(answer(samples[i : i + 1])) for i in range(len(samples))]))
    one = np.ascontiguousarray(samples[:1])
    for _ in range(WARM_UP):
        answer(one)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(_round(answer, one)) + "\n")
        sys.stdout.flush()
    return 0


def _round(answer: Answer, one: npt.NDArray[Any]) -> dict[str, float]:
    answer(one)  # the others were at work in between: caches are theirs
    walls: list[float] = []
    cpus: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()
    while len(walls) < ROUND and (time.perf_counter() - began < SECONDS or len(walls) < FEWEST):
        wall, start = time.perf_counter(), time.process_time()
        answer(one)
        cpus.append(time.process_time() - start)
        walls.append(time.perf_counter() - wall)
    share = (time.process_time() - cpu) / (time.perf_counter() - began)
    return {"ms": float(np.median(cpus)) * 1000.0, "wall_ms": float(np.median(walls)) * 1000.0, "cpu": share}


def _package(folder: Path) -> Answer:
    from models.runtime import Model

    model = Model.load(folder, threads=1)
    return lambda batch: model.predict(batch).answers


def _eager(folder: Path, *, last: bool = False) -> Answer:
    import torch

    from benchmarks.artefacts import train
    from models import net

    torch.set_num_threads(1)
    trained = train.load(folder.name, folder)
    answer = net.Answer(trained, trained.contract).eval()
    layout = torch.channels_last if last else torch.contiguous_format
    if last:
        answer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types leave it out

    def run(batch: npt.NDArray[Any]) -> Any:
        with torch.inference_mode():
            return answer(torch.from_numpy(batch).contiguous(memory_format=layout)).numpy()

    return run


def _channels_last(folder: Path) -> Answer:
    return _eager(folder, last=True)


def _onnxruntime(file: Path) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def _openvino(file: Path, precision: str = "f32") -> Answer:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(file), "CPU", {**settings, "INFERENCE_PRECISION_HINT": precision})
    request = compiled.create_infer_request()

    def run(batch: npt.NDArray[Any]) -> Any:
        request.set_input_tensor(openvino.Tensor(batch, shared_memory=True))
        request.infer()
        return request.get_output_tensor(0).data

    return run


def _openvino_bf16(file: Path) -> Answer:
    return _openvino(file, "bf16")


def _executorch(file: Path) -> Answer:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(1)  # no environment variable reaches its pool
    method = Runtime.get().load_program(file).load_method("forward")
    return lambda batch: method.execute([torch.from_numpy(batch)])[0].numpy()


def _aoti(file: Path) -> Answer:
    import torch

    torch.set_num_threads(1)
    loader = torch._C._aoti.AOTIModelPackageLoader(str(file), "model", True, 1, -1)
    return lambda batch: loader.boxed_run([torch.from_numpy(batch)])[0].numpy()


KINDS: dict[str, Callable[[Path], Answer]] = {
    "package": _package,
    "eager": _eager,
    "channels-last": _channels_last,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino-bf16": _openvino_bf16,
    "executorch": _executorch,
    "aoti": _aoti,
}


if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.exit(main())
