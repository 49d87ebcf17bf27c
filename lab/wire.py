"""Reads a request to the embedded AWS as its client meant it: who signs, which service and operation, with what.

Covers: the protocols of botocore's service models (JSON, query, REST with JSON or XML, RPC in CBOR), signatures in the
header and in the URL. Parameters are the members that a model binds to path, query and headers, and the members of a
body in JSON, CBOR or form encoding; XML and raw bodies are left unread.
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import botocore.session
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import RpcV2CBORParser

CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d+/[^/]+/([^/]+)/aws4_request")
# Where the name that a signature bears is not botocore's name of the service.
SERVICES = {"monitoring": "cloudwatch", "states": "stepfunctions", "greengrass": "greengrassv2", "iotdata": "iot-data"}

Environ = dict[str, Any]


@dataclass(frozen=True)
class Signer:
    """The access key of a signature and the service that it was made for, by botocore's name."""

    access_key: str
    service: str


@dataclass(frozen=True)
class Call:
    """One operation with the parameters that could be read, named as botocore does."""

    service: str
    operation: str
    parameters: dict[str, Any] = field(default_factory=dict)


class Unreadable(ValueError):
    """No operation of the service's model is what this request is."""


def signer(environ: Environ) -> Signer | None:
    """Who signed a request, None when no one did."""
    header, query = environ.get("HTTP_AUTHORIZATION") or "", parse_qs(environ.get("QUERY_STRING") or "")
    found = CREDENTIAL.search(header) or CREDENTIAL.search("Credential=" + (query.get("X-Amz-Credential") or [""])[0])
    if found is None:
        # Version 2 of the signature, which S3 still takes and botocore writes into URLs.
        old = re.match(r"AWS ([^:]+):", header)
        key = old[1] if old else (query.get("AWSAccessKeyId") or [""])[0]
        return Signer(key, "s3") if key else None
    return Signer(found[1], SERVICES.get(found[2], found[2]))


def call(environ: Environ, service: str) -> Call:
    """The operation that a request asks of `service`. Its body can still be read afterwards. Raises Unreadable."""
    target = environ.get("HTTP_X_AMZ_TARGET")
    if target:
        return Call(service, target.rpartition(".")[2], _json(_body(environ)))
    path = (environ.get("RAW_URI") or quote(environ["PATH_INFO"])).partition("?")[0]
    rpc = re.fullmatch(r"/service/[^/]+/operation/(\w+)", path)
    if rpc:
        return Call(service, rpc[1], _cbor(_body(environ)))
    if service == "sagemaker":
        service = "sagemaker-runtime"
    model = _model(service)
    if model.resolved_protocol == "query":
        form = {key: found[0] for key, found in parse_qs(_body(environ).decode()).items()}
        return Call(service, str(form.pop("Action", "")), form)
    query = parse_qs(environ.get("QUERY_STRING") or "", keep_blank_values=True)
    for route in _routes(service):
        found = route.matches(environ, path, query)
        if found is not None:
            if model.resolved_protocol == "rest-json" and not route.raw_body:
                found |= _json(_body(environ))
            return Call(service, route.operation, found)
    raise Unreadable(f"{environ['REQUEST_METHOD']} {path} is no operation of {service}")


def _body(environ: Environ) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    read: bytes = environ["wsgi.input"].read(length) if length else b""
    environ["wsgi.input"] = io.BytesIO(read)
    return read


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _cbor(body: bytes) -> dict[str, Any]:
    found = RpcV2CBORParser().parse_data_item(io.BufferedReader(io.BytesIO(body))) if body else {}
    return found if isinstance(found, dict) else {}


@functools.cache
def _model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


@dataclass(frozen=True)
class Route:
    """How a model binds one operation to HTTP."""

    operation: str
    method: str
    path: re.Pattern[str]
    literal: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    required: frozenset[str]
    raw_body: bool

    def matches(self, environ: Environ, path: str, query: Mapping[str, list[str]]) -> dict[str, Any] | None:
        """The bound parameters, or None when the request is another operation's."""
        at = self.path.fullmatch(path)
        if environ["REQUEST_METHOD"] != self.method or at is None:
            return None
        if any(name not in query or (wanted and query[name][0] != wanted) for name, wanted in self.literal.items()):
            return None
        found: dict[str, Any] = {name: unquote(value) for name, value in at.groupdict().items() if value is not None}
        found |= {member: query[name][0] for name, member in self.query.items() if name in query}
        found |= {member: environ[name] for name, member in self.headers.items() if environ.get(name)}
        return found if self.required <= found.keys() else None


@functools.cache
def _routes(service: str) -> tuple[Route, ...]:
    """The routes of a service, those that ask for more before those that ask for less."""
    model = _model(service)
    found = [_route(model.operation_model(name)) for name in model.operation_names]
    return tuple(sorted(found, key=lambda route: -(len(route.required) + 2 * len(route.literal))))


def _route(operation: OperationModel) -> Route:
    uri, _, query = operation.http["requestUri"].partition("?")
    if "{Bucket}" not in uri and "Bucket" in (operation.input_shape.members if operation.input_shape else ()):
        uri = f"/{{Bucket}}{uri}".rstrip("/")  # making a client of S3 takes the bucket out of the model's own paths
    pattern = re.sub(r"\\\{(\w+)(\\\+)?\\\}", lambda at: f"(?P<{at[1]}>{'.+' if at[2] else '[^/]+'})", re.escape(uri))
    shape = operation.input_shape
    members = dict(shape.members) if shape is not None else {}
    places = {name: member.serialization.get("location") for name, member in members.items()}
    named = {name: member.serialization.get("name", name) for name, member in members.items()}
    payload = shape.serialization.get("payload") if shape is not None else None
    required = set(shape.required_members) if shape is not None else set()
    return Route(
        operation.name,
        operation.http["method"],
        re.compile(pattern + "/?"),
        {key: values[0] for key, values in parse_qs(query, keep_blank_values=True).items()},
        {named[name]: name for name, place in places.items() if place == "querystring"},
        {_wsgi(named[name]): name for name, place in places.items() if place == "header"},
        frozenset(name for name in required if places[name] in ("uri", "querystring", "header")),
        bool(payload) and members[payload].type_name != "structure",
    )


def _wsgi(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
