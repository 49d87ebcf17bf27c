"""What the component costs on a device, one case per call: the last line is the figures as JSON.

    python -m benchmarks.device.cases CASE PACKAGE FOLDER    from the repository's root

CASE is inference, rest, kill, swaps or spool; PACKAGE a model package for 64 px colour pictures; FOLDER is empty.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort
import psutil
from PIL import Image

from edge import stager
from edge.frames import Frame
from edge.inference import Service
from edge.settings import Settings
from edge.spool import ALERT, RESULT, Spool
from models.runtime import Model

Figures = dict[str, Any]
ROUNDS, CALLS = 40, 100
SWAPS, PER_S = 20, 200


def inference(package: Path, _folder: Path) -> Figures:
    """The runtime's own call, and the component's from tensor to answer, in rounds that alternate."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    bare = ort.InferenceSession(str(package / "model.onnx"), options, providers=["CPUExecutionProvider"])
    name = bare.get_inputs()[0].name
    model = Model.load(package, threads=1)
    batch = np.random.default_rng(3).integers(0, 256, (1, *model.contract.shape), np.uint8)

    def ours() -> None:
        if not np.isfinite(model.predict(batch).answers).all():
            raise SystemExit("an answer is no finite number")

    took: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(ROUNDS):
        for case, call in (("bare", lambda: bare.run(None, {name: batch})), ("ours", ours)):
            for _ in range(CALLS):
                start = time.perf_counter()
                call()
                took[case].append((time.perf_counter() - start) * 1000)
    figures = {f"{case}_p{share}_ms": _percentile(took[case], share) for case in took for share in (50, 95)}
    above = {f"p{share}_above_percent": _above(took, share) for share in (50, 95)}
    return {**figures, **above}


def _percentile(values: list[float], share: int) -> float:
    return round(float(np.percentile(values, share)), 4)


def _above(took: dict[str, list[float]], share: int) -> float:
    """By how many percent ours is slower, the median over the rounds: one disturbed round does not count."""
    rounds = [
        [np.percentile(took[case][at : at + CALLS], share) for case in ("ours", "bare")]
        for at in range(0, ROUNDS * CALLS, CALLS)
    ]
    return round(float(np.median([100 * (ours / bare - 1) for ours, bare in rounds])), 1)


def rest(package: Path, folder: Path) -> Figures:
    """The process with a model in service and nothing to do."""
    with _component(package, folder) as process:
        time.sleep(5)
        found = psutil.Process(process.pid)
        before, start = found.cpu_times(), time.monotonic()
        time.sleep(10)
        after, seconds = found.cpu_times(), time.monotonic() - start
        used = (after.user + after.system - before.user - before.system) / seconds
        return {
            "resident_mb": round(found.memory_info().rss / 2**20, 1),
            "cpu_percent": round(100 * used, 2),
            "threads": found.num_threads(),
        }


def kill(package: Path, folder: Path) -> Figures:
    """From kill -9 and a new start to the first answer, a picture lying there."""
    times = []
    with _component(package, folder):
        pass
    (folder / "work" / "inbox").mkdir(exist_ok=True)
    for number in range(5):
        with _component(package, folder) as process:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        results = folder / "work" / "results.jsonl"
        results.unlink(missing_ok=True)
        (folder / "work" / "inbox" / f"{number}.png").write_bytes(_png(number))
        start = time.monotonic()
        with _component(package, folder, wait=False):
            _until(results.exists)
            times.append(time.monotonic() - start)
    return {"first_answer_s": round(float(np.median(times)), 2), "worst_s": round(max(times), 2)}


def swaps(package: Path, folder: Path) -> Figures:
    """Two versions change places twenty times while 200 requests a second are answered."""
    work, store = folder / "lab.Inference", folder / "lab.Model" / "store"
    work.mkdir(parents=True)
    versions = {version: _as(package, version, folder / version) for version in ("1.0.1", "1.0.2")}
    service = Service(work, "bench", None)
    service.settings = Settings(model_component="lab.Model", poll_s=0.02, probation_n=0)
    service.prepare()
    threading.Thread(target=service.serve, daemon=True).start()
    stager.stage(versions["1.0.1"], "1.0.1", store)
    _until(lambda: service.switch.current is not None)
    picture, stop, sent = _png(7), threading.Event(), Counter[str]()

    def ask() -> None:
        due = time.monotonic()
        while not stop.is_set():
            while not service.pipeline.frames.offer(Frame("x.png", picture)):
                pass
            sent["x"] += 1
            due += 1 / PER_S
            time.sleep(max(0.0, due - time.monotonic()))

    asking = threading.Thread(target=ask)
    asking.start()
    took = []
    for number in range(SWAPS):
        version = ("1.0.2", "1.0.1")[number % 2]
        start = time.monotonic()
        stager.stage(versions[version], version, store)
        _until(functools.partial(_serves, service, version))
        took.append(time.monotonic() - start)
    stop.set()
    asking.join()
    _until(lambda: len(service.pipeline.frames) == 0)
    time.sleep(0.5)
    service.results.flush()
    lines = [line for path in work.glob("results.jsonl*") for line in path.read_text("utf-8").splitlines()]
    rows = [json.loads(line) for line in lines]
    service.stopping.set()
    shas = {row["model_version"]: row["model_sha"] for row in rows}
    return {
        "swaps": SWAPS,
        "swap_s": round(float(np.median(took)), 3),
        "requests": sent["x"],
        "lost": sent["x"] - len(rows),
        "mixed": sum(shas[row["model_version"]] != row["model_sha"] for row in rows),
        "answer_p99_ms": _percentile([row["ms"] for row in rows], 99),
    }


def _serves(service: Service, version: str) -> bool:
    return service.switch.current is not None and service.switch.current.version == version


def spool(_package: Path, folder: Path) -> Figures:
    """Alerts, each on the disk when `put` returns, and results written together."""
    kept = Spool(folder / "spool.db", 64 * 2**20, 1e9)
    start = time.monotonic()
    for number in range(500):
        kept.put(ALERT, "x", b"%06d" % number + b"a" * 500)
    alerts = 500 / (time.monotonic() - start)
    start = time.monotonic()
    for _ in range(100):
        kept.put_all(RESULT, "x", [b"r" * 1_000] * 100)
    results = 10_000 / (time.monotonic() - start)
    start, count = time.monotonic(), 0
    while count < 500 and (message := kept.first()) is not None:
        kept.done(message)
        count += 1
    return {
        "alerts_per_s": round(alerts),
        "results_per_s": round(results),
        "forwarded_per_s": round(count / (time.monotonic() - start)),
    }


def _as(package: Path, version: str, to: Path) -> Path:
    """The package under another version, which makes it another package."""
    shutil.copytree(package, to)
    about = json.loads((to / "model.json").read_text("utf-8"))
    (to / "model.json").write_text(json.dumps({**about, "version": version}), "utf-8")
    return to


def _png(seed: int) -> bytes:
    data = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


@contextmanager
def _component(package: Path, folder: Path, wait: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """The component as a process of its own, with the package in service."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    if not (work / "serving.json").exists():
        from edge.switch import Switch

        held = Switch(work, threads=1)
        stager.stage(package, "1.0.1", folder / "store")
        held.step(folder / "store")
    with (folder / "log").open("ab") as log:
        said = (folder / "log").stat().st_size
        argv = [sys.executable, "-m", "edge.inference", "--work", str(work)]
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        if wait:
            _until(lambda: b"serving" in (folder / "log").read_bytes()[said:])
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


def _until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"what was waited for did not come within {seconds:g} s")
        time.sleep(0.005)


CASES = {case.__name__: case for case in (inference, rest, kill, swaps, spool)}

if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))))  # noqa: T201 - the caller reads it
