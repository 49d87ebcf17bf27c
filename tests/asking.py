"""A running endpoint for tests, and the ways to ask it: whole requests, bytes as they are, bodies of every kind."""

import contextlib
import http.client
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.contract import Contract
from models.endpoint import Endpoint, Report, ignore
from models.loop import Limits
from models.runtime import Batch, Prediction

Address = tuple[str, int]
Answer = tuple[int, Any, http.client.HTTPMessage]
NPY = {"Content-Type": "application/x-npy"}
SHAPE = (1, 4, 4)
ROOT = Path(__file__).parents[1]
SCRIPT = """
import logging, sys
from pathlib import Path
from models.serve import serve
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
logging.getLogger("models.loop").setLevel(logging.ERROR)
serve(Path(sys.argv[1]), "127.0.0.1", 0, int(sys.argv[2]))
"""


class Net:
    """Stands where a model would, answers with its mark, and waits at its gate while that is closed."""

    def __init__(self, version: str = "v1", mark: float = 0.75) -> None:
        self.version, self.mark = version, mark
        self.contract = Contract(
            schema=2, dataset="d", modality="image", task="classification", shape=SHAPE, classes=("no", "yes"),
            mean=(1.0,), std=(1.0,), counts={}, profile={},
        )  # fmt: skip
        self.gate, self.asked = threading.Event(), threading.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.error: Exception | None = None

    def predict(self, batch: Batch) -> Prediction:
        self.batches.append(len(batch))
        self.asked.set()
        assert self.gate.wait(20)
        if self.error:
            raise self.error
        return Prediction(np.tile(np.float32([1 - self.mark, self.mark]), (len(batch), 1)))


@contextlib.contextmanager
def running(model: Any, limits: Limits | None = None, report: Report = ignore, **more: Any) -> Iterator[Endpoint]:
    """An endpoint that answers in a thread of its own; `model` None leaves it without one."""
    endpoint = Endpoint("127.0.0.1", 0, limits, report, **more)
    if model is not None:
        endpoint.swap(model)
    thread = threading.Thread(target=endpoint.run)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()
        thread.join(30)
        assert not thread.is_alive()


def npy(array: Any, allow_pickle: bool = False) -> bytes:
    """A body in numpy's own format."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


def instances(value: Any) -> bytes:
    """A body in JSON."""
    return json.dumps({"instances": value}).encode()


def picture(pixels: np.ndarray, form: str = "PNG") -> bytes:
    """[H, W] as a picture file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def ask(address: Address, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One request on a connection of its own; a JSON answer comes back read."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        return send(connection, method, path, body, **headers)
    finally:
        connection.close()


def send(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One request on a connection that stays."""
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    data = response.read()
    read = json.loads(data) if data and response.headers["Content-Type"] == "application/json" else data
    return response.status, read, response.headers


def raw(address: Address, *parts: bytes, end: bool = True) -> bytes:
    """All that comes back for bytes as they are."""
    with socket.create_connection(address, timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        if end:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def is_refusal(status: int, document: Any) -> bool:
    """Whether this is a 4xx with a code for programs and a message for people."""
    error = document["error"]
    return 400 <= status < 500 and bool(error["code"]) and bool(error["message"])


@contextlib.contextmanager
def serving(package: Path, threads: int = 1) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    """A process that serves `package`, once it is ready; killed in the end. What it says after that is in `stderr`."""
    child = started(package, threads)
    try:
        assert child.stderr is not None
        line = next(line for line in child.stderr if line.startswith("serving "))
        found = re.search(r"on ([\d.]+):(\d+)", line)
        assert found
        yield child, (found[1], int(found[2]))
    finally:
        child.kill()
        child.communicate()


def started(package: Path, threads: int = 1) -> subprocess.Popen[str]:
    """A process that serves `package`, on its way up."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(package), str(threads)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
