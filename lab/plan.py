"""What a deployment would change: resources by logical id, and every permission that it adds or takes away."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lab.template import as_text

Template = Mapping[str, Any]
# Types whose properties hold policies; their statements are the changes of access.
POLICIES = {
    "AWS::IAM::Role": ("AssumeRolePolicyDocument", "Policies", "ManagedPolicyArns", "PermissionsBoundary"),
    "AWS::IAM::Policy": ("PolicyDocument",),
    "AWS::IAM::ManagedPolicy": ("PolicyDocument",),
    "AWS::KMS::Key": ("KeyPolicy",),
    "AWS::S3::BucketPolicy": ("PolicyDocument",),
    "AWS::SNS::TopicPolicy": ("PolicyDocument",),
    "AWS::SQS::QueuePolicy": ("PolicyDocument",),
    "AWS::IoT::Policy": ("PolicyDocument",),
    "AWS::ECR::Repository": ("RepositoryPolicyText",),
}


@dataclass(frozen=True)
class Plan:
    """Logical ids with their types, and permissions as lines, each added or removed."""

    added: dict[str, str]
    changed: dict[str, str]
    removed: dict[str, str]
    permissions_added: tuple[str, ...]
    permissions_removed: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        return not (self.added or self.changed or self.removed)

    def document(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """For people: changes one by one, a whole new stack by type."""
        if self.nothing:
            yield "no resource changes"
            return
        if self.added and not (self.changed or self.removed):
            yield f"{len(self.added)} resources are made: {_by_type(self.added)}"
        else:
            yield from (f"+ {name} ({kind})" for name, kind in self.added.items())
        yield from (f"~ {name} ({kind})" for name, kind in self.changed.items())
        yield from (f"- {name} ({kind})" for name, kind in self.removed.items())
        yield f"permissions: {len(self.permissions_added)} are given, {len(self.permissions_removed)} are taken away"
        yield from (f"+ {line}" for line in self.permissions_added)
        yield from (f"- {line}" for line in self.permissions_removed)


def plan(old: Template, new: Template) -> Plan:
    """From the template that is deployed (empty for none) to the new one."""
    before, after = _resources(old), _resources(new)
    had, has = set(permissions(old)), set(permissions(new))
    return Plan(
        added={name: row["Type"] for name, row in after.items() if name not in before},
        changed={name: row["Type"] for name, row in after.items() if name in before and row != before[name]},
        removed={name: row["Type"] for name, row in before.items() if name not in after},
        permissions_added=tuple(sorted(has - had)),
        permissions_removed=tuple(sorted(had - has)),
    )


def permissions(template: Template) -> Iterator[str]:
    """Every statement of every policy, and every permission of a function, as one line with who has it."""
    for name, row in _resources(template).items():
        given = row.get("Properties") or {}
        if row["Type"] == "AWS::Lambda::Permission":
            yield f"{_text(given.get('Principal'))} may {given.get('Action')} {_text(given.get('FunctionName'))}"
        for key in POLICIES.get(row["Type"], ()):
            if key in given:
                yield from (f"{name}: {line}" for line in _lines(key, given[key]))


def _lines(key: str, value: Any) -> Iterator[str]:
    if key == "Policies":
        for policy in value:
            yield from (_statement(one) for one in policy["PolicyDocument"]["Statement"])
    elif key in ("ManagedPolicyArns", "PermissionsBoundary"):
        yield from (f"{key} {_text(one)}" for one in (value if isinstance(value, list) else [value]))
    else:
        yield from (_statement(one) for one in value.get("Statement", []))


def _statement(one: Mapping[str, Any]) -> str:
    """`Allow s3:GetObject on … by … when …`."""
    parts = [str(one.get("Effect", "Allow"))]
    for key, word in (
        *(("Action", ""), ("NotAction", "all but"), ("Resource", "on"), ("NotResource", "on all but")),
        *(("Principal", "by"), ("Condition", "when")),
    ):
        if key in one:
            parts += [word, _text(one[key])] if word else [_text(one[key])]
    return " ".join(parts)


def _text(value: Any) -> str:
    return ", ".join(_text(item) for item in value) if isinstance(value, list) else as_text(value, _reference)


def _reference(value: Mapping[str, Any]) -> str:
    if set(value) in ({"Ref"}, {"Fn::GetAtt"}):
        named = next(iter(value.values()))
        return f"<{named if isinstance(named, str) else '.'.join(named)}>"
    return json.dumps(value, sort_keys=True)


def _by_type(found: Mapping[str, str]) -> str:
    counts: dict[str, int] = {}
    for kind in found.values():
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} {kind.removeprefix('AWS::')}" for kind, count in sorted(counts.items()))


def _resources(template: Template) -> Mapping[str, Any]:
    return template.get("Resources") or {}
