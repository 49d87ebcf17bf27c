"""The endpoint's HTTP server: `GET /ping`, `POST /invocations`, as SageMaker asks of a container.

Bodies: `image/png` and `image/jpeg` (one picture), `application/x-npy` (uint8 [C, H, W] or [N, C, H, W]) and
`application/json` (`{"instances": [[[…]]]}`, each instance [C, H, W] of integers 0..255). Answers are JSON:
`{"model_version", "predictions": [{"label", "index", "confidence", "probabilities"}]}`. A body that cannot be
answered gets a 4xx with `{"error": {"code", "message"}}`.
"""

from __future__ import annotations

import io
import json
import logging
import signal
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import features
from models.contract import Contract
from models.runtime import Model, Prediction

LIMIT_BYTES = 6 * 1024 * 1024  # SageMaker's own limit of a request body
LIMIT_BATCH = 1024
VERSION_HEADER = "X-Amzn-SageMaker-Custom-Attributes"
log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]


class BadRequest(Exception):
    """A request that gets a 4xx: `status`, a code for programs, a message for people."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def picture(body: bytes, contract: Contract) -> Pixels:
    """One encoded picture as a batch of one."""
    try:
        return features.decode(body, contract.shape)[None]
    except features.CorruptSample as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", str(error)) from error


def npy(body: bytes, contract: Contract) -> Pixels:
    """An array in numpy's own format, which is never unpickled."""
    try:
        array = np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError) as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", f"not a numpy array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", "an archive of arrays; send one array")
    return batch(array, contract)


def instances(body: bytes, contract: Contract) -> Pixels:
    """`{"instances": [...]}` of nested lists."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", f"not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "schema", 'expected {"instances": [...]}')
    try:
        array = np.asarray(document["instances"], np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "schema", f"instances are not one numeric array: {error}") from error
    return batch(array, contract)


READERS: dict[str, Callable[[bytes, Contract], Pixels]] = {
    "image/png": picture,
    "image/jpeg": picture,
    "application/x-npy": npy,
    "application/json": instances,
}


def batch(array: npt.NDArray[Any], contract: Contract) -> Pixels:
    """`array` as uint8 [N, C, H, W]; BadRequest for another shape, kind, or values outside 0..255."""
    if array.ndim == 3:
        array = array[None]
    if tuple(array.shape[1:]) != tuple(contract.shape) or not 1 <= len(array) <= LIMIT_BATCH:
        wanted = f"[N <= {LIMIT_BATCH}, {', '.join(map(str, contract.shape))}]"
        raise BadRequest(HTTPStatus.BAD_REQUEST, "shape", f"expected {wanted}, got {list(array.shape)}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, np.uint8)
    if array.dtype.kind not in "iuf" or not bool(np.all((array >= 0) & (array <= 255) & (array == np.floor(array)))):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "values", "pixels are whole numbers from 0 to 255")
    return np.ascontiguousarray(array, np.uint8)


def read(content_type: str, body: bytes, contract: Contract) -> Pixels:
    """A request's body as a batch, by its content type."""
    reader = READERS.get(content_type.partition(";")[0].strip().lower())
    if reader is None:
        known = ", ".join(READERS)
        raise BadRequest(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content-type", f"{content_type or 'nothing'}; send one of {known}"
        )
    return reader(body, contract)


def answer(model: Model, prediction: Prediction) -> dict[str, Any]:
    """The JSON document of one batch of answers."""
    rows = zip(
        prediction.labels,
        prediction.indices.tolist(),
        prediction.confidences.tolist(),
        prediction.probabilities,
        strict=True,
    )
    return {
        "model_version": model.version,
        "predictions": [
            {"label": label, "index": index, "confidence": confidence, "probabilities": row.tolist()}
            for label, index, confidence, row in rows
        ],
    }


class Handler(BaseHTTPRequestHandler):
    """One connection. `model` is set on the subclass that `server` makes."""

    model: Model
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        if self.path == "/ping":
            self._send(HTTPStatus.OK, {"model_version": self.model.version})
        else:
            self._send(HTTPStatus.NOT_FOUND, _error("path", f"{self.path}; there are /ping and /invocations"))

    def do_POST(self) -> None:
        try:
            if self.path != "/invocations":
                raise BadRequest(HTTPStatus.NOT_FOUND, "path", f"{self.path}; post to /invocations")
            pixels = read(self.headers.get("Content-Type", ""), self._body(), self.model.contract)
            self._send(HTTPStatus.OK, answer(self.model, self.model.predict(pixels)))
        except BadRequest as error:
            self._send(error.status, _error(error.code, str(error)))

    def _body(self) -> bytes:
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self.close_connection = True
            raise BadRequest(HTTPStatus.LENGTH_REQUIRED, "length", "Content-Length is missing") from None
        if not 0 < length <= LIMIT_BYTES:
            self.close_connection = True
            limit = f"{length} bytes; 1 to {LIMIT_BYTES} are taken"
            raise BadRequest(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE if length > 0 else HTTPStatus.BAD_REQUEST, "length", limit
            )
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            raise BadRequest(HTTPStatus.BAD_REQUEST, "length", f"{len(body)} of {length} bytes arrived")
        return body

    def _send(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header(VERSION_HEADER, f"model_version={self.model.version}")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        log.info("%s " + format, self.address_string(), *args)


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def server(model: Model, host: str, port: int) -> ThreadingHTTPServer:
    """A bound server for `model`; port 0 takes a free one. `serve_forever` starts it."""
    bound = type("BoundHandler", (Handler,), {"model": model})
    made = ThreadingHTTPServer((host, port), bound)
    made.daemon_threads = False  # so that closing waits for the answers under way
    made.block_on_close = True
    return made


def serve(model_dir: Path, host: str, port: int, threads: int | None = None) -> None:
    """Loads the package in `model_dir`, then answers until SIGTERM; answers under way are finished first.

    Raises runtime.PackageError when the package must not serve.
    """
    model = Model.load(model_dir, threads)
    http = server(model, host, port)

    def drain(*_: object) -> None:
        threading.Thread(target=http.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGINT, drain)
    log.info("serving %s (%s) on %s:%d", model.version, model.sha256[:12], host, http.server_address[1])
    http.serve_forever(poll_interval=0.1)
    http.server_close()
    log.info("drained")
