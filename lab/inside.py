"""Calls of the embedded AWS to itself, past the socket: the same requests, the same routes, the same answers.

A deployment is some 300 calls of this process to its own port; each would cost a connection and a thread.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

LOG = logging.getLogger(__name__)
CHUNK = 1 << 20
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_served: dict[str, Application] = {}


def serve(netloc: str, application: Application) -> None:
    """From now on connected sessions reach `netloc` (host:port) by calling `application`."""
    _served[netloc] = application


def connect(session: Any) -> None:
    """Lets the clients that a botocore session makes from now on call what this process serves."""
    session.register("before-send", _send)


def _send(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
    """The answer, or None for a request that goes elsewhere and takes the socket."""
    application = _served.get(urlsplit(request.url).netloc)
    if application is None:
        return None
    said: list[Any] = []
    try:
        found = application(_environ(request), lambda status, headers, _=None: said.extend((status, headers)))
        body = b"".join(found)
        if hasattr(found, "close"):
            found.close()
    except Exception:
        LOG.exception("%s %s", request.method, request.url)
        said, body = ["500 Internal Server Error", []], b""
    return AWSResponse(request.url, int(said[0].split()[0]), dict(said[1]), _Raw(body))


class _Raw(io.BytesIO):
    """A body as botocore reads it from urllib3."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        while chunk := self.read(CHUNK):
            yield chunk


def _environ(request: AWSPreparedRequest) -> dict[str, Any]:
    """The request in WSGI's terms (PEP 3333), as the server behind the socket would give it."""
    parts = urlsplit(request.url)
    body = request.body or b""
    if hasattr(body, "read"):
        body = body.read()
    body = body.encode() if isinstance(body, str) else body
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(parts.path or "/").encode().decode("latin-1"),
        "QUERY_STRING": parts.query,
        "REQUEST_URI": target,
        "RAW_URI": target,
        "SERVER_NAME": parts.hostname,
        "SERVER_PORT": str(parts.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": parts.hostname,
        "HTTP_HOST": parts.netloc,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": parts.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = text
    environ.pop("HTTP_CONTENT_LENGTH", None)
    return environ | {"CONTENT_LENGTH": str(len(body))}
