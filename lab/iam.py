"""Simulates IAM policies, as the SageMaker SDK asks before it trains.

Covers: SimulatePrincipalPolicy for roles: inline and attached policies, Action, NotAction, Resource, NotResource,
wildcards, explicit deny first, string, ARN and boolean conditions over the given context entries.
Does not cover: users and groups, permissions boundaries, session, resource and service control policies (a request that
sends some is refused), other condition operators (a statement with one is refused by name).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.iam.exceptions import NotFoundException
from moto.iam.models import Role
from moto.iam.responses import IamResponse

if TYPE_CHECKING:
    from lab.engine import Engine

ALLOWED, DENIED, SILENT = "allowed", "explicitDeny", "implicitDeny"
NOT_COVERED = (
    "PolicyInputList", "PermissionsBoundaryPolicyInputList", "ResourcePolicy", "ResourceOwner", "CallerArn",
    "ResourceHandlingOption",
)  # fmt: skip


class InvalidInput(ServiceException):  # type: ignore[misc]
    """IAM's InvalidInput."""

    code = "InvalidInput"


def install(engine: Engine) -> None:
    """Adds the operation, which moto lacks."""
    IamResponse.simulate_principal_policy = _simulate


def _simulate(response: IamResponse) -> ActionResult:
    for name in NOT_COVERED:
        if response._get_param(name):
            raise InvalidInput(f"SimulatePrincipalPolicy: {name} is not covered by the desk engine")
    arn = response._get_param("PolicySourceArn")
    try:
        role = response.backend.get_role_by_arn(arn)
    except NotFoundException:
        raise InvalidInput(f"Invalid Entity Arn: {arn} is no role of the desk engine") from None
    policies = statements(role)
    given = response._get_param("ContextEntries") or []
    context = {entry["ContextKeyName"].lower(): list(entry["ContextKeyValues"]) for entry in given}
    results = [
        {"EvalActionName": action, "EvalResourceName": resource, **evaluate(policies, action, resource, context)}
        for action in response._get_param("ActionNames")
        for resource in response._get_param("ResourceArns") or ["*"]
    ]
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def statements(role: Role) -> list[dict[str, Any]]:
    """Every statement of a role's inline and attached policies, `PolicyId` added to each."""
    documents = {f"{role.name}_{name}": document for name, document in role.policies.items()}
    for policy in role.managed_policies.values():
        documents[policy.name] = next(version.document for version in policy.versions if version.is_default)
    found: list[dict[str, Any]] = []
    for name, document in documents.items():
        policy = json.loads(unquote(document)) if isinstance(document, str) else document
        body = policy.get("Statement", [])
        found += [{**item, "PolicyId": name} for item in (body if isinstance(body, list) else [body])]
    return found


def evaluate(
    policies: Sequence[Mapping[str, Any]], action: str, resource: str, context: Mapping[str, list[str]]
) -> dict[str, Any]:
    """The decision, the policies that made it, and the condition keys that no context was given for."""
    decision = SILENT
    matched: list[Mapping[str, Any]] = []
    missing: set[str] = set()
    for statement in policies:
        if not _concerns(statement, action, resource) or not _holds(statement, context, missing):
            continue
        if statement["Effect"] == "Deny":
            decision, matched = DENIED, [*matched, statement] if decision == DENIED else [statement]
        elif decision != DENIED:
            decision, matched = ALLOWED, [*matched, statement]
    named = [{"SourcePolicyId": statement["PolicyId"]} for statement in matched]
    return {"EvalDecision": decision, "MatchedStatements": named, "MissingContextValues": sorted(missing)}


def _concerns(statement: Mapping[str, Any], action: str, resource: str) -> bool:
    for name, value, ignore_case in (("Action", action, True), ("Resource", resource, False)):
        if name in statement:
            if not _any(statement[name], value, ignore_case):
                return False
        elif _any(statement.get(f"Not{name}", []), value, ignore_case):
            return False
    return True


def _any(patterns: str | Sequence[str], value: str, ignore_case: bool = False) -> bool:
    return any(like(pattern, value, ignore_case) for pattern in _listed(patterns))


def _listed(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else [_word(value)]


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def like(pattern: str, value: str, ignore_case: bool = False) -> bool:
    """IAM's wildcards: `*` for any characters, `?` for one."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, value, re.DOTALL | (re.IGNORECASE if ignore_case else 0)) is not None


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, value: wanted == value,
    "StringEqualsIgnoreCase": lambda wanted, value: wanted.lower() == value.lower(),
    "StringLike": like,
    "ArnEquals": like,
    "ArnLike": like,
    "Bool": lambda wanted, value: wanted.lower() == value.lower(),
}


def _holds(statement: Mapping[str, Any], context: Mapping[str, list[str]], missing: set[str]) -> bool:
    """Whether every condition of a statement is met; keys without a value are added to `missing`."""
    met = True
    for operator, wanted in (statement.get("Condition") or {}).items():
        plain, if_exists = operator.removesuffix("IfExists"), operator.endswith("IfExists")
        negated = "Not" in plain
        compare = OPERATORS.get(plain.replace("Not", ""))
        if compare is None:
            raise InvalidInput(f"the condition operator {operator} is not covered by the desk engine")
        for key, patterns in wanted.items():
            values = context.get(key.lower())
            if values is None:
                missing.add(key)
                met = met and (if_exists or negated)
                continue
            hit = any(compare(pattern, value) for pattern in _listed(patterns) for value in values)
            met = met and hit != negated
    return met
