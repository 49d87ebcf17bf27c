"""AccessDenied as each protocol of AWS says it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any
from xml.sax.saxutils import escape


def answer(environ: dict[str, Any], start: Callable[..., Any], service: str, message: str) -> Iterable[bytes]:
    """A WSGI answer that clients of every protocol raise as AccessDenied or AccessDeniedException."""
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # the next request of this connection
    status, kind, body = _said(environ, service, message)
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("x-amzn-ErrorType", "AccessDeniedException"),
    ]
    if "/operation/" in environ["PATH_INFO"]:
        headers.append(("smithy-protocol", "rpc-v2-cbor"))
    start(status, headers)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def _said(environ: dict[str, Any], service: str, message: str) -> tuple[str, str, bytes]:
    text = escape(message)
    if service == "s3":
        xml = f'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>{text}</Message></Error>'
        return "403 Forbidden", "application/xml", xml.encode()
    if "HTTP_X_AMZ_TARGET" in environ:
        said = {"__type": "AccessDeniedException", "message": message, "Message": message}
        return "400 Bad Request", "application/x-amz-json-1.1", json.dumps(said).encode()
    if "/service/" in environ["PATH_INFO"] and "/operation/" in environ["PATH_INFO"]:
        return "403 Forbidden", "application/cbor", _cbor({"__type": "AccessDeniedException", "message": message})
    if "x-www-form-urlencoded" in (environ.get("CONTENT_TYPE") or ""):
        error = f"<Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{text}</Message></Error>"
        xml = f"<ErrorResponse>{error}</ErrorResponse>"
        return "403 Forbidden", "text/xml", xml.encode()
    return "403 Forbidden", "application/json", json.dumps({"message": message, "Message": message}).encode()


def _cbor(said: dict[str, str]) -> bytes:
    """A map of texts in CBOR (RFC 8949, major types 5 and 3)."""
    return _head(5, len(said)) + b"".join(_text(key) + _text(value) for key, value in said.items())


def _text(value: str) -> bytes:
    data = value.encode()
    return _head(3, len(data)) + data


def _head(major: int, size: int) -> bytes:
    if size < 24:
        return bytes([major << 5 | size])
    if size < 256:
        return bytes([major << 5 | 24, size])
    return bytes([major << 5 | 25]) + size.to_bytes(2, "big")
