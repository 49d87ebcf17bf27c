"""The endpoint's HTTP server: `/ping` and `/invocations`, as SageMaker asks for.

Bodies are those of `models.payload`. Answers are JSON: `{"model_version", "predictions": [...]}`, a prediction being
`{"label", "index", "confidence", "probabilities"}`, or `{"value"}` where the answer is a number. A body that cannot be
answered gets a 4xx with `{"error": {"code", "message"}}`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from models.payload import LIMIT_BYTES, BadRequest, read
from models.runtime import Model, Prediction

# More requests than this wait: decoding is what takes memory, and more at once than cores makes no one faster.
AT_ONCE = 4
# A refused body is taken off the line so long: closing a line with unread bytes on it can destroy the answer.
LINGER_SECONDS = 5.0
VERSION_HEADER = "X-Amzn-SageMaker-Custom-Attributes"
log = logging.getLogger(__name__)


def answer(model: Model, prediction: Prediction) -> dict[str, Any]:
    """The JSON document of one batch of answers."""
    if not prediction.labels:
        values = [{"value": value} for value in prediction.values.tolist()]
        return {"model_version": model.version, "predictions": values}
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
    """One connection. `server` makes a subclass with its `model` and the `turn` that bounds what runs at once."""

    model: Model
    turn: threading.Semaphore
    unread = False  # a body, or a part of one, is still on the line
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"  # else a broken request line gets an answer without a status
    timeout = 60
    # Headers and body in one packet: in two, the second waits for the client's delayed acknowledgement, 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/ping":
            self._send(HTTPStatus.OK, {"model_version": self.model.version})
        else:
            self._send(HTTPStatus.NOT_FOUND, _error("path", f"{self.path}; there are /ping and /invocations"))

    def do_POST(self) -> None:
        try:
            status, document = HTTPStatus.OK, self._answer(self._body())
        except BadRequest as error:
            status, document = error.status, _error(error.code, str(error))
        except Exception as error:
            if isinstance(error, OSError):  # the line broke
                raise
            log.exception("a request could not be answered")
            status, document = HTTPStatus.INTERNAL_SERVER_ERROR, _error("internal", "see the endpoint's log")
        self._send(status, document)

    def handle_expect_100(self) -> bool:
        """Says at once that the body may come: curl waits a second for it."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def _answer(self, body: bytes) -> dict[str, Any]:
        if self.path != "/invocations":
            raise BadRequest(HTTPStatus.NOT_FOUND, "path", f"{self.path}; post to /invocations")
        with self.turn:
            batch = read(self.headers.get("Content-Type", ""), body, self.model.contract)
            return answer(self.model, self.model.predict(batch))

    def _body(self) -> bytes:
        """The body by its length; a connection whose body stays unread cannot be used again."""
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self.close_connection = self.unread = True
            raise BadRequest(HTTPStatus.LENGTH_REQUIRED, "length", "Content-Length is missing") from None
        if not 0 < length <= LIMIT_BYTES:
            self.close_connection = self.unread = True
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if length > 0 else HTTPStatus.BAD_REQUEST
            raise BadRequest(status, "length", f"{length} bytes; 1 to {LIMIT_BYTES} are taken")
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            raise BadRequest(HTTPStatus.BAD_REQUEST, "length", f"{len(body)} of {length} bytes arrived")
        return body

    def finish(self) -> None:
        """Ends the connection: the answer first, then what the client still sends of a body that nobody reads."""
        super().finish()
        if not self.unread:
            return
        end = time.monotonic() + LINGER_SECONDS
        with contextlib.suppress(OSError):  # the client left, or went on for too long
            self.connection.shutdown(socket.SHUT_WR)
            while (left := end - time.monotonic()) > 0:
                self.connection.settimeout(left)
                if not self.connection.recv(1 << 16):
                    return

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The standard library's own refusals (a broken request line, a method we lack) in our form."""
        self.close_connection = self.unread = True
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self._send(status, _error("request", message or status.phrase))

    def _send(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header(VERSION_HEADER, f"model_version={self.model.version}")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        log.info("%s " + format, self.address_string(), *args)


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


class Server(ThreadingHTTPServer):
    """A thread per connection; closing waits for the answers under way and hangs up on who asks nothing."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._closing = False
        super().__init__(address, handler)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
            if self._closing:
                _hang_up(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                self._open.discard(request)

    def server_close(self) -> None:
        """Ends reading on every connection: one that waits for a next request ends, one that answers may finish."""
        with self._guard:
            self._closing = True
            for connection in self._open:
                _hang_up(connection)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours; anything else is logged whole."""
        if isinstance(sys.exception(), ConnectionError):
            log.info("%s went away", client_address[0])
        else:
            log.exception("%s: the answer failed", client_address[0])


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client was faster
        connection.shutdown(socket.SHUT_RD)


def server(model: Model, host: str, port: int) -> Server:
    """A bound server for `model`; port 0 takes a free one. `serve_forever` starts it."""
    turn = threading.Semaphore(AT_ONCE)
    return Server((host, port), type("BoundHandler", (Handler,), {"model": model, "turn": turn}))


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
