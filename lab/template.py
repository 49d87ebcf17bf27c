"""What a CloudFormation template may hold here, checked whole before anything is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lab.resource import Kind

SECTIONS = {"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Mappings", "Conditions", "Resources"}
# CDK writes one rule, which compares the bootstrap stack's version; the engine publishes that version itself.
OPTIONAL = {"Outputs", "Rules"}
RULES = {"CheckBootstrapVersion"}
MEMBERS = {"Type", "Properties", "DependsOn", "Condition", "DeletionPolicy", "UpdateReplacePolicy", "Metadata"}
INTRINSICS = {
    "Fn::GetAtt", "Fn::Join", "Fn::Sub", "Fn::Select", "Fn::Split", "Fn::If", "Fn::FindInMap", "Fn::Base64",
    "Fn::GetAZs", "Fn::ToJsonString", "Fn::Equals", "Fn::Not", "Fn::And", "Fn::Or",
}  # fmt: skip
PSEUDO = {
    "AWS::AccountId", "AWS::Region", "AWS::StackId", "AWS::StackName", "AWS::URLSuffix", "AWS::Partition",
    "AWS::NoValue",
}  # fmt: skip
SUBSTITUTED = re.compile(r"\$\{([^!{}][^{}]*)\}")


def refusals(template: Mapping[str, Any], kinds: Mapping[str, Kind]) -> list[str]:
    """Everything in the template that the desk does not cover, one line each; empty when it can be deployed."""
    found = [f"section {name} is not covered" for name in template if name not in SECTIONS | OPTIONAL]
    found += [f"rule {name} is not covered" for name in template.get("Rules", {}) if name not in RULES]
    resources: Mapping[str, Any] = template.get("Resources") or {}
    if not resources:
        found.append("there are no resources")
    for logical, resource in resources.items():
        found += _resource(logical, resource, kinds)
    names = {*resources, *template.get("Parameters", {}), *PSEUDO}
    for where in ("Conditions", "Resources", "Outputs"):
        for name, body in (template.get(where) or {}).items():
            found += [f"{where[:-1].lower()} {name}: {what}" for what in _values(body, resources, names, kinds)]
    if not found:
        found += _circles(resources)
    return found


def _resource(logical: str, resource: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Iterator[str]:
    type_ = str(resource.get("Type"))
    kind = kinds.get(type_)
    if kind is None:
        yield f"resource {logical}: the type {type_} is not covered"
        return
    for member in sorted(set(resource) - MEMBERS):
        yield f"resource {logical} ({type_}): {member} is not covered"
    for name in sorted(set(resource.get("Properties") or {}) - kind.properties):
        yield f"resource {logical} ({type_}): the property {name} is not covered"


def _values(value: Any, resources: Mapping[str, Any], names: set[str], kinds: Mapping[str, Kind]) -> Iterator[str]:
    """Intrinsic functions, references and attributes that nothing stands behind."""
    if isinstance(value, list):
        for item in value:
            yield from _values(item, resources, names, kinds)
        return
    if not isinstance(value, Mapping):
        return
    for key in value:
        if key.startswith("Fn::") and key not in INTRINSICS:
            yield f"the function {key} is not covered"
    for name, attribute in references(value, deep=False):
        if name not in names:
            yield f"refers to {name}, which is not in the template"
        elif attribute is not None and name in resources:
            kind = kinds.get(str(resources[name].get("Type")))
            if kind is not None and attribute not in kind.attributes:
                yield f"the attribute {attribute} of {name} ({kind.type}) is not covered"
    for inner in value.values():
        yield from _values(inner, resources, names, kinds)


def references(value: Any, *, deep: bool = True) -> Iterator[tuple[str, str | None]]:
    """Every (logical name, attribute or None) that a value refers to; with `deep` also inside of it."""
    if isinstance(value, list):
        if deep:
            for item in value:
                yield from references(item)
        return
    if not isinstance(value, Mapping):
        return
    if isinstance(value.get("Ref"), str) and len(value) == 1:
        yield value["Ref"], None
    if "Fn::GetAtt" in value:
        got = value["Fn::GetAtt"]
        name, _, attribute = got.partition(".") if isinstance(got, str) else (got[0], "", str(got[1]))
        yield str(name), attribute
    if "Fn::Sub" in value:
        text, own = value["Fn::Sub"] if isinstance(value["Fn::Sub"], list) else (value["Fn::Sub"], {})
        for found in SUBSTITUTED.findall(text):
            name, _, attribute = found.partition(".")
            if name not in own:
                yield name, attribute or None
    if deep:
        for inner in value.values():
            yield from references(inner)


def as_text(value: Any, other: Callable[[Mapping[str, Any]], str]) -> str:
    """A value as one string: Fn::Join and Fn::Sub are carried out, `other` says what each reference in them becomes."""
    if not isinstance(value, Mapping):
        return str(value)
    if "Fn::Join" in value:
        between, parts = value["Fn::Join"]
        return str(between).join(as_text(part, other) for part in parts)
    if "Fn::Sub" in value:
        pattern, own = value["Fn::Sub"] if isinstance(value["Fn::Sub"], list) else (value["Fn::Sub"], {})

        def filled(found: re.Match[str]) -> str:
            name, _, attribute = found[1].partition(".")
            if name in own:
                return as_text(own[name], other)
            return other({"Fn::GetAtt": [name, attribute]} if attribute else {"Ref": name})

        return SUBSTITUTED.sub(filled, pattern).replace("${!", "${")
    return other(value)


def order(resources: Mapping[str, Any]) -> list[str]:
    """Logical names, each after all that it refers to or depends on. Raises ValueError on a circle."""
    done: list[str] = []
    state: dict[str, str] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == "done":
            return
        if state.get(name) == "open":
            raise ValueError(" -> ".join((*path[path.index(name) :], name)))
        state[name] = "open"
        for other in needs(resources[name]):
            if other in resources and other != name:
                visit(other, (*path, name))
        state[name] = "done"
        done.append(name)

    for name in resources:
        visit(name, ())
    return done


def needs(resource: Mapping[str, Any]) -> list[str]:
    """What a resource refers to or depends on, in the order of the template."""
    given = resource.get("DependsOn") or []
    depends = [given] if isinstance(given, str) else list(given)
    return list(dict.fromkeys([*depends, *(name for name, _ in references(resource.get("Properties") or {}))]))


def _circles(resources: Mapping[str, Any]) -> list[str]:
    try:
        order(resources)
    except ValueError as error:
        return [f"circular dependency: {error}"]
    return []
