"""Decides as IAM does: which statements concern a request, whose conditions hold, and what follows from all of them.

Covers: Allow and Deny, Action, NotAction, Resource, NotResource, Principal, NotPrincipal, wildcards, policy variables
(`${aws:…}`), conditions over strings, ARNs, booleans, numbers and Null, with IfExists, ForAnyValue and ForAllValues;
identity policies, a permissions boundary and the resource's own policy together, in one account.
Does not cover, and refuses by name: every other operator; session policies and service control policies do not exist
on the desk. Source: "Policy evaluation logic" and "IAM JSON policy elements" of the IAM user guide.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

ALLOWED, DENIED, SILENT = "allowed", "explicitDeny", "implicitDeny"
ROOT = re.compile(r"arn:aws:iam::(\d+):root|\d{12}")

Body = Mapping[str, Any]
Context = Mapping[str, Sequence[str]]


class Unevaluable(ValueError):
    """A statement holds what this module does not cover; the message names it."""


@dataclass(frozen=True)
class Statement:
    """One statement and where it stands: a policy's name and the place in it."""

    policy: str
    place: int
    body: Body

    @property
    def name(self) -> str:
        return f"{self.policy}[{self.body.get('Sid') or self.place}]"

    @property
    def denies(self) -> bool:
        return bool(self.body["Effect"] == "Deny")


@dataclass(frozen=True)
class Request:
    """Who wants to do what to which resource; `context` has keys in lower case. `principal` is an ARN or a service."""

    principal: str
    action: str
    resource: str
    context: Context


@dataclass(frozen=True)
class Policies:
    """All that speaks on a request. `boundary` is None without one, `resource` empty where the resource has no policy.

    asks_both   the resource's policy must allow too, as that of a key and of a role must
    """

    identity: Sequence[Statement] = ()
    boundary: Sequence[Statement] | None = None
    resource: Sequence[Statement] = ()
    asks_both: bool = False


@dataclass(frozen=True)
class Decision:
    """What follows: `by` are the statements that allowed or denied, `lacks` says what would have had to allow."""

    kind: str
    by: tuple[Statement, ...]
    lacks: str = ""

    @property
    def allowed(self) -> bool:
        return self.kind == ALLOWED


def statements(document: Any, policy: str) -> list[Statement]:
    """The statements of a policy document: a dict, or JSON text, URL-encoded or not."""
    return list(_parsed(document, policy)) if isinstance(document, str) else _listed(document or {}, policy)


@functools.lru_cache(maxsize=512)
def _parsed(text: str, policy: str) -> tuple[Statement, ...]:
    """Each request asks for the same few documents again."""
    return tuple(_listed(json.loads(unquote(text)), policy))


def _listed(document: Body, policy: str) -> list[Statement]:
    body = document.get("Statement", [])
    return [
        Statement(policy, place, one)
        for place, one in enumerate([body] if isinstance(body, Mapping) else body, start=1)
    ]


def decide(policies: Policies, request: Request) -> Decision:
    """An explicit Deny wins; a boundary must allow; then identity, or the resource's policy the caller itself.

    Raises Unevaluable.
    """
    own = matching(policies.identity, request)
    fence = None if policies.boundary is None else matching(policies.boundary, request)
    theirs = [one for one in matching(policies.resource, request) if _means(one.body, request.principal)]
    denials = tuple(one for one in (*own, *(fence or ()), *theirs) if one.denies)
    if denials:
        return Decision(DENIED, denials)
    itself = [one for one in theirs if not _delegates(one.body, request.principal)]
    if fence is not None and not fence:  # it limits what a resource's policy gives to a role, too
        return Decision(SILENT, (), "the permissions boundary")
    if policies.asks_both:
        if not theirs:
            return Decision(SILENT, (), "the resource's own policy")
        granted = itself or ([*own, *theirs] if own else [])
    else:
        granted = [*own, *itself]
    if not granted:
        return Decision(SILENT, (), "an identity policy")
    return Decision(ALLOWED, (*granted, *(fence or ())))


def matching(given: Iterable[Statement], request: Request, missing: set[str] | None = None) -> list[Statement]:
    """The statements that concern a request and whose conditions hold; names of absent keys are added to `missing`."""
    absent: set[str] = set() if missing is None else missing
    return [one for one in given if _concerns(one.body, request) and _holds(one.body, request.context, absent)]


def _concerns(body: Body, request: Request) -> bool:
    for name, value, ignore_case in (("Action", request.action, True), ("Resource", request.resource, False)):
        if name in body:
            if not _any(body[name], value, request.context, ignore_case):
                return False
        elif f"Not{name}" in body and _any(body[f"Not{name}"], value, request.context, ignore_case):
            return False
    return True


def _any(patterns: Any, value: str, context: Context, ignore_case: bool = False) -> bool:
    found = (filled(pattern, context) for pattern in listed(patterns))
    return any(pattern is not None and like(pattern, value, ignore_case) for pattern in found)


def filled(pattern: str, context: Context) -> str | None:
    """A pattern with its policy variables replaced; None when one has no value, which then matches nothing."""
    if "${" not in pattern:
        return pattern
    known = {"*": "*", "?": "?", "$": "$"}

    def value(found: re.Match[str]) -> str:
        name = found[1]
        return known.get(name) or context[name.lower()][0]

    try:
        return re.sub(r"\$\{([^}]*)\}", value, pattern)
    except (KeyError, IndexError):
        return None


def _means(body: Body, principal: str) -> bool:
    """Whether a statement of a resource's policy speaks of this principal, itself or through its account."""
    if "NotPrincipal" in body:
        return not _named(body["NotPrincipal"], principal)
    return _named(body.get("Principal"), principal)


def _named(who: Any, principal: str) -> bool:
    if who == "*":
        return True
    if not isinstance(who, Mapping):
        return False
    for kind, names in who.items():
        for name in listed(names):
            if name in ("*", principal):
                return True
            root = ROOT.fullmatch(name) if kind == "AWS" else None
            if root and f"::{root[1] or name}:" in principal:
                return True
    return False


def _delegates(body: Body, principal: str) -> bool:
    """Whether a statement names the caller's account only, so that its identity policies decide."""
    who = body.get("Principal")
    if not isinstance(who, Mapping) or not principal.startswith("arn:"):
        return False
    names = listed(who.get("AWS", []))
    return bool(names) and principal not in names and "*" not in names


def listed(value: Any) -> list[str]:
    """A value or a list of values as texts; booleans as JSON writes them."""
    return [_word(item) for item in value] if isinstance(value, (list, tuple)) else [_word(value)]


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@functools.lru_cache(maxsize=4096)
def _expression(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(expression, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def like(pattern: str, value: str, ignore_case: bool = False) -> bool:
    """IAM's wildcards: `*` for any characters, `?` for one."""
    return _expression(pattern, ignore_case).fullmatch(value) is not None


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, value: wanted == value,
    "StringEqualsIgnoreCase": lambda wanted, value: wanted.lower() == value.lower(),
    "StringLike": like,
    "ArnEquals": like,
    "ArnLike": like,
    "Bool": lambda wanted, value: wanted.lower() == value.lower(),
    "NumericEquals": lambda wanted, value: float(value) == float(wanted),
    "NumericLessThan": lambda wanted, value: float(value) < float(wanted),
    "NumericLessThanEquals": lambda wanted, value: float(value) <= float(wanted),
    "NumericGreaterThan": lambda wanted, value: float(value) > float(wanted),
    "NumericGreaterThanEquals": lambda wanted, value: float(value) >= float(wanted),
}


def _holds(body: Body, context: Context, missing: set[str]) -> bool:
    """Whether every condition of a statement is met."""
    met = True
    for operator, wanted in (body.get("Condition") or {}).items():
        for key, patterns in wanted.items():
            met = _met(operator, key, patterns, context, missing) and met
    return met


def _met(operator: str, key: str, patterns: Any, context: Context, missing: set[str]) -> bool:
    quantifier, _, plain = operator.rpartition(":")
    values = context.get(key.lower())
    if plain == "Null":
        return (values is None) == (_word(patterns).lower() == "true")
    if_exists, plain = plain.endswith("IfExists"), plain.removesuffix("IfExists")
    negated = "Not" in plain
    compare = OPERATORS.get(plain.replace("Not", ""))
    if compare is None or quantifier not in ("", "ForAnyValue", "ForAllValues"):
        raise Unevaluable(f"the condition operator {operator} is not covered by the desk engine")
    if values is None:
        missing.add(key)
        return if_exists or negated or quantifier == "ForAllValues"
    found = [pattern for text in listed(patterns) if (pattern := filled(text, context)) is not None]
    hits = [any(compare(pattern, value) for pattern in found) != negated for value in values]
    return all(hits) if quantifier == "ForAllValues" or negated else any(hits)
