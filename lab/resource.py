"""One CloudFormation resource type: the APIs that make, read back, change and delete it.

A type is made by calling the service's own API on the engine's endpoint, as AWS's own handlers do. What was asked for
is then read back through the API; a property that did not stick fails the deployment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from lab.casing import requested
from lab.engine import Engine

Properties = Mapping[str, Any]


@dataclass(frozen=True)
class Site:
    """Where a resource stands: engine, stack and logical id. `call` reaches any API of the engine."""

    engine: Engine
    stack: str
    logical: str

    def call(self, service: str, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The response of one API; keys of `given` may be spelled as CloudFormation does, None values are left out."""
        client = self.engine.client(service)
        wanted = {key: value for key, value in given.items() if value is not None}
        response: dict[str, Any] = getattr(client, operation)(**requested(client, operation, wanted))
        return response

    def named(self, limit: int = 64) -> str:
        """The physical name of a resource that the template leaves unnamed: the same one on every deployment."""
        suffix = hashlib.sha256(f"{self.stack}/{self.logical}".encode()).hexdigest()[:12].upper()
        return f"{f'{self.stack}-{self.logical}'[: limit - 13]}-{suffix}"

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.engine.region}:{self.engine.account}:{resource}"


@dataclass(frozen=True)
class Made:
    """A resource that stands: its physical id (what Ref gives) and its resolved properties."""

    site: Site
    id: str
    properties: Properties


@dataclass(frozen=True)
class Kind:
    """A resource type.

    properties   what may be given; anything else is refused before a stack is touched
    make         calls the APIs that create it; returns the physical id
    read         what the APIs say of it, by property name; compared with what was asked for
    drop         deletes it
    change       changes it in place from the properties given second; without it the resource is dropped and made again
    fixed        properties that no change in place can reach: another value is another resource
    keeps        holds data: it is changed in place or not at all
    inert        properties that are accepted and have no effect on the desk, each with the reason
    how          executed (its service does its work on the desk) or emulated (kept and read back), `note` says more
    """

    type: str
    properties: frozenset[str]
    make: Callable[[Site, Properties], str]
    read: Callable[[Made], Properties]
    drop: Callable[[Made], Any]
    change: Callable[[Made, Properties], Any] | None = None
    attributes: Mapping[str, Callable[[Made], str]] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()
    keeps: bool = False
    inert: Mapping[str, str] = field(default_factory=dict)
    how: str = "emulated"
    note: str = ""


class NotKept(Exception):
    """A property did not stick: what was read back is not what was asked for."""


def check_kept(kind: Kind, made: Made) -> None:
    """Raises NotKept, naming the property, unless everything that was asked for reads back."""
    wanted = {name: value for name, value in made.properties.items() if name not in kind.inert}
    found = kind.read(made) if wanted else {}
    difference = missing(found, wanted)
    if difference is not None:
        raise NotKept(difference)


def missing(found: Any, wanted: Any, path: str = "") -> str | None:
    """What of `wanted` is not in `found`, in words; None when all of it is.

    Keys are compared without case, lists of structures without order, numbers and booleans by value, policies as JSON.
    """
    wanted = _opened(wanted)
    if isinstance(wanted, Mapping):
        found = _opened(found)
        if not isinstance(found, Mapping):
            return f"{path or 'it'} should be {_short(wanted)}, but reads back as {_short(found)}"
        by_name = {str(key).lower(): value for key, value in found.items()}
        for key, value in wanted.items():
            where = f"{path}.{key}" if path else str(key)
            if str(key).lower() not in by_name:
                return f"{where} should be {_short(value)}, but is not there when read back"
            difference = missing(by_name[str(key).lower()], value, where)
            if difference:
                return difference
        return None
    if isinstance(wanted, (list, tuple)):
        return _missing_items(_opened(found), wanted, path)
    if _scalar(found) != _scalar(wanted):
        return f"{path} should be {_short(wanted)}, but reads back as {_short(found)}"
    return None


def _missing_items(found: Any, wanted: Any, path: str) -> str | None:
    if not isinstance(found, (list, tuple)) or len(found) != len(wanted):
        return f"{path} should be {_short(wanted)}, but reads back as {_short(found)}"
    left = list(found)
    for number, item in enumerate(wanted):
        match = next((index for index, there in enumerate(left) if missing(there, item) is None), None)
        if match is None:
            return f"{path}[{number}] should be {_short(item)}, but is not there when read back"
        del left[match]
    return None


def _opened(value: Any) -> Any:
    """A JSON document given as text, as what it holds."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "[", "%"):
        return value
    for text in (value, unquote(value)):
        try:
            return json.loads(text)
        except ValueError:
            continue
    return value


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(float(value))
    text = str(value)
    try:
        return repr(float(text))
    except ValueError:
        return text.lower() if text.lower() in ("true", "false") else text


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 200 else f"{text[:200]}…"


def pairs(tags: Any) -> dict[str, str]:
    """CloudFormation's list of Key and Value as a mapping; a mapping stays one."""
    if isinstance(tags, Mapping):
        return dict(tags)
    return {str(tag["Key"]): str(tag["Value"]) for tag in tags or []}


def listed(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """A mapping of tags as CloudFormation lists them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def document(value: Any) -> str:
    """A policy or the like as the JSON text that APIs take."""
    return value if isinstance(value, str) else json.dumps(value)
