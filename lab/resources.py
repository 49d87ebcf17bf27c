"""What a CloudFormation resource is on the desk: one API call or a few, made and then read back.

`KINDS` (lab/resourcetypes.py) has one `Kind` per covered type. A type that is not in it, and a property that its kind
does not carry out, are refused by name before anything is created.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from lab.engine import Engine

Properties = Mapping[str, Any]
# What CloudFormation itself reads of a resource, or what never reaches a service.
NEUTRAL = frozenset({"Tags"})


class ResourceError(Exception):
    """A resource that cannot be made as the template says, in one line."""


@dataclass(frozen=True)
class Made:
    """A resource that exists: what Ref gives, and what Fn::GetAtt gives by name."""

    ref: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """Where a resource is made: the engine, the stack and the resource's logical id."""

    engine: Engine
    stack: str
    logical_id: str

    def client(self, service: str) -> Any:
        return self.engine.client(service)

    def arn(self, service: str, rest: str) -> str:
        return f"arn:aws:{service}:{self.engine.region}:{self.engine.account}:{rest}"

    def generated_name(self, limit: int = 64) -> str:
        """The name of a resource whose template gives none."""
        return f"{self.stack}-{self.logical_id}"[:limit]


Create = Callable[[Site, Properties], Made]
Update = Callable[[Site, Made, Properties], Made]
Delete = Callable[[Site, Made, Properties], None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One resource type: the properties that are carried out, the attributes it gives, and how it is made.

    Without `update`, a changed resource is made anew when `replace` allows it, and refused otherwise: a bucket or a
    table must not lose what it holds.
    """

    type: str
    properties: frozenset[str]
    create: Create
    delete: Delete
    attributes: frozenset[str] = frozenset()
    update: Update | None = None
    replace: bool = True

    def refusals(self, logical_id: str, properties: Properties) -> list[str]:
        """One line for each property that the desk does not carry out."""
        unknown = sorted(set(properties) - self.properties - NEUTRAL)
        return [f"{logical_id} ({self.type}): the desk does not carry out the property {name}" for name in unknown]


def camel(value: Any, *, keep: frozenset[str] = frozenset()) -> Any:
    """Keys of structures with a small first letter, as older APIs spell them; below a key in `keep` nothing changes."""
    if isinstance(value, dict):
        return {
            key[:1].lower() + key[1:]: item if key in keep else camel(item, keep=keep) for key, item in value.items()
        }
    if isinstance(value, list):
        return [camel(item, keep=keep) for item in value]
    return value


def only(properties: Properties, *names: str) -> dict[str, Any]:
    """The named properties that the template gives."""
    return {name: properties[name] for name in names if name in properties}


def tags(properties: Properties, key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    """The resource's tags as a list of pairs, in the spelling of the service."""
    given = properties.get("Tags") or []
    pairs = given.items() if isinstance(given, Mapping) else [(row["Key"], row["Value"]) for row in given]
    return [{key: str(name), value: str(text)} for name, text in pairs]


def tag_map(properties: Properties) -> dict[str, str]:
    """The resource's tags as a map."""
    return {row["Key"]: row["Value"] for row in tags(properties)}


def read_back(site: Site, what: str, wanted: Any, found: Any) -> None:
    """Raises ResourceError unless every value of `wanted` is in `found`; a service may add to what it was given."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key, value in wanted.items():
            read_back(site, f"{what}.{key}", value, found.get(key))
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            read_back(site, f"{what}[{index}]", one, other)
    elif str(wanted).lower() != str(found).lower():
        raise ResourceError(f"{site.logical_id}: {what} was set to {wanted!r} and reads back as {found!r}")


def gone(call: Callable[[], Any]) -> None:
    """Deletes; that it is gone already is as good."""
    try:
        call()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if not any(word in code for word in ("NotFound", "NoSuch", "NotExist", "ResourceNotFound", "ValidationError")):
            raise
