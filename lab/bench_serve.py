"""Measures the endpoint beside the bare model, and beside the same model behind other servers, one row per case.

Every server runs on one core, the load generator on another where there is one; the machine does nothing else. Rounds
of ours and of a peer alternate, the medians are kept. The servers of the peers are in benchmarks/peers/.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import http.client
import importlib.metadata
import importlib.util
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lab import launch, processes, serving
from lab.errors import LabError
from lab.home import Home

Row = dict[str, Any]
SHAPE = (3, 64, 64)
CONCURRENCY = 32
ROUNDS = 3
SECONDS = 3.0
READY_SECONDS = 90.0
MEGABYTE = 1 << 20
SILENT = {"ORT_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


@dataclass(frozen=True)
class Peer:
    """Another way to serve the model: what must be installed, its fastest body as shipped, and the format's name.

    `options` are those of its file in benchmarks/peers/, `<server>_server.py`.
    """

    package: str
    form: str
    content_type: str
    body: Callable[[bytes], bytes]
    options: tuple[str, ...] = ()


def _pixels(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


_LITSERVE = Peer(
    "litserve", "base64 in JSON", "application/json", lambda data: json.dumps({"pixels": _pixels(data)}).encode()
)
PEERS = {
    "mlflow": Peer(
        "mlflow",
        "base64 in JSON, dataframe_records",
        "application/json",
        lambda data: json.dumps({"dataframe_records": [{"pixels": _pixels(data)}]}).encode(),
    ),
    "litserve": _LITSERVE,
    "litserve-fast-queue": dataclasses.replace(_LITSERVE, options=("--fast-queue",)),
    "fastapi": Peer("fastapi", "raw bytes", "application/octet-stream", lambda data: data),
}


def serve(home: Home, dataset: str | None) -> Iterator[Row]:
    """Rows `overhead`, `json`, and one for each peer; `dataset` names one of them. An absent peer says so.

    `throughput_ratio` is our requests a second over the peer's, `p99_ratio` the peer's p99 over ours: above 1 we are
    ahead.
    """
    cases = ("overhead", "json", *PEERS)
    if dataset is not None and dataset not in cases:
        raise LabError(f"bench serve knows no case {dataset}", f"one of {', '.join(cases)}; without --dataset all")
    wanted = [dataset] if dataset else list(cases)
    for case in wanted:
        if case in PEERS and importlib.util.find_spec(PEERS[case].package) is None:
            yield {
                "case": case,
                "peer": case,
                "skipped": f"{PEERS[case].package} is not installed; make install-bench brings it",
            }
    present = [case for case in wanted if case not in PEERS or importlib.util.find_spec(PEERS[case].package)]
    if not present:
        return
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        bench = _Bench(home, Path(folder))
        for case in present:
            measure = {"overhead": bench.overhead, "json": bench.json}.get(case) or functools.partial(bench.peer, case)
            yield {"case": case, **measure()}


class _Bench:
    """One package, and what is measured with it, in a folder of its own."""

    def __init__(self, home: Home, folder: Path) -> None:
        self._home, self._folder = home, folder
        self._package = folder / "package"
        self._peers = home.repo / "benchmarks" / "peers"
        if not self._peers.is_dir():
            raise LabError("benchmarks/peers is not here", "run lab bench serve in the lab's own repository")
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        self._cores = (cores[0], cores[-1])  # of servers, of the load
        self._python([str(self._peers / "package.py"), str(self._package)])
        import numpy as np

        pixels = np.random.default_rng(7).integers(0, 256, SHAPE, np.uint8)
        stream = io.BytesIO()
        np.save(stream, pixels)
        self._pixels, self._npy = pixels.tobytes(), stream.getvalue()
        self._text = json.dumps({"instances": [pixels.tolist()]}).encode()

    # The cases

    def overhead(self) -> Row:
        """What HTTP costs: time above the bare model, memory beside it, readiness after its load."""
        bare, above, ready, whole = [], [], [], []
        for _ in range(ROUNDS):
            bare.append(self._bare())
            with self._ours() as (port, seconds, process):
                asked = self._load(port, "application/x-npy", self._npy, 1)
                above.append(asked["p50_ms"] - bare[-1]["p50_ms"])
                ready.append(seconds - bare[-1]["load_s"])
                whole.append(process.memory_info().rss / MEGABYTE)
        return {
            "format": "x-npy",
            "concurrency": 1,
            "overhead_p50_ms": _median(above),
            "model_p50_ms": _median(each["p50_ms"] for each in bare),
            "rss_mb": _median(whole),
            "rss_beside_model_mb": _median(mb - each["model_mb"] for mb, each in zip(whole, bare, strict=True)),
            "ready_beyond_load_s": _median(ready),
            "load_s": _median(each["load_s"] for each in bare),
        }

    def json(self) -> Row:
        """What a picture of 64 x 64 pixels as JSON costs to decode, and the whole request above the bare model."""
        bare = [self._bare() for _ in range(ROUNDS)]
        with self._ours() as (port, _, _process):
            asked = [self._load(port, "application/json", self._text, 1)["p50_ms"] for _ in range(ROUNDS)]
        figures = {
            f"{way}_{form}_ms": _median(each[f"{key}_{form}_ms"] for each in bare)
            for way, key in (("decode", "json"), ("naive", "naive"))
            for form in ("spaced", "dense")
        }
        above = _median(asked) - _median(each["p50_ms"] for each in bare)
        return {"format": "JSON", "numbers": len(self._pixels), **figures, "overhead_p50_ms": round(above, 4)}

    def peer(self, name: str) -> Row:
        """Ours and another server in turns, at the same concurrency, each in its fastest format."""
        peer = PEERS[name]
        body, ours, theirs = peer.body(self._pixels), [], []
        for _ in range(ROUNDS):
            with self._ours() as (port, _, _process):
                ours.append(self._load(port, "application/x-npy", self._npy, CONCURRENCY))
            with self._theirs(name) as port:
                theirs.append(self._load(port, peer.content_type, body, CONCURRENCY))
        per_s, peer_per_s = (_median(each["per_s"] for each in found) for found in (ours, theirs))
        p99, peer_p99 = (_median(each["p99_ms"] for each in found) for found in (ours, theirs))
        return {
            "peer": name,
            "version": importlib.metadata.version(peer.package),
            "concurrency": CONCURRENCY,
            "format": "x-npy",
            "peer_format": peer.form,
            "per_s": per_s,
            "peer_per_s": peer_per_s,
            "throughput_ratio": round(per_s / peer_per_s, 2),
            "p99_ms": p99,
            "peer_p99_ms": peer_p99,
            "p99_ratio": round(peer_p99 / p99, 2),
            "generator_busy": max(each["generator_busy"] for each in (*ours, *theirs)),
        }

    # What runs

    def _bare(self) -> dict[str, float]:
        found: dict[str, float] = json.loads(
            self._python([str(self._peers / "bare.py"), str(self._package)], core=self._cores[0])
        )
        return found

    @contextlib.contextmanager
    def _ours(self) -> Iterator[tuple[int, float, psutil.Process]]:
        """Our endpoint as the image starts it: port, seconds until it was ready, process."""
        port = serving.free_port()
        env = {
            "SM_MODEL_DIR": str(self._package),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "BIND_HOST": serving.LOOPBACK,
        }
        began = time.monotonic()
        with self._running(["-m", "pipelines.jobs.serve", "serve"], env) as child:
            yield port, self._ready(child, port, began), psutil.Process(child.pid)

    @contextlib.contextmanager
    def _theirs(self, name: str) -> Iterator[int]:
        port = serving.free_port()
        peer = PEERS[name]
        argv = [str(self._peers / f"{peer.package}_server.py"), str(self._package), str(port), *peer.options]
        with self._running(argv, {"TMPDIR": str(self._folder)}) as child:
            self._ready(child, port, time.monotonic())
            yield port

    def _load(self, port: int, content_type: str, body: bytes, connections: int) -> dict[str, float]:
        head = (
            f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        )
        request = self._folder / "request"
        request.write_bytes(f"{head}\r\n".encode() + body)
        argv = ["-m", "lab.load", str(port), str(request), "--connections", str(connections)]
        found: dict[str, float] = json.loads(self._python([*argv, "--seconds", str(SECONDS)], core=self._cores[1]))
        return found

    def _running(self, argv: list[str], env: dict[str, str]) -> processes.Running:
        whole = {**launch.environment(self._home), **SILENT, **env}
        child = processes.Running([sys.executable, *argv], cwd=self._home.repo, env=whole)
        _pin(child.pid, self._cores[0])
        return child

    def _ready(self, child: processes.Running, port: int, began: float) -> float:
        """Seconds from `began` until the server answers a ping."""
        processes.wait_until(lambda: _pings(port) or not child.alive, seconds=READY_SECONDS, step=0.005)
        if not child.alive:
            raise LabError("a measured server ended at once:\n" + "\n".join(child.wait().last_lines()))
        if not _pings(port):
            raise LabError(
                f"a measured server did not answer within {READY_SECONDS:g} s",
                "start it by hand, as its file in benchmarks/peers says",
            )
        return time.monotonic() - began

    def _python(self, argv: list[str], core: int | None = None) -> str:
        env = {**launch.environment(self._home), **SILENT}
        with processes.Running([sys.executable, *argv], cwd=self._home.repo, env=env) as child:
            if core is not None:
                _pin(child.pid, core)
            done = child.wait()
        if done.rc:
            raise LabError("what measures failed:\n" + "\n".join(done.last_lines()))
        return done.out


def _pin(pid: int, core: int) -> None:
    """Keeps a process, and what it starts, on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {core})


def _pings(port: int) -> bool:
    connection = http.client.HTTPConnection(serving.LOOPBACK, port, timeout=5.0)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _median(values: Any) -> float:
    return round(float(statistics.median(values)), 4)
