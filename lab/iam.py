"""Simulates IAM policies, as the SageMaker SDK asks before it trains.

Covers: SimulatePrincipalPolicy for roles: inline and attached policies as policy.py reads them, over the given context
entries.
Does not cover: users and groups, permissions boundaries, session, resource and service control policies (a request that
sends some is refused), condition operators that policy.py lacks (a statement with one is refused by name).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.iam.exceptions import NotFoundException
from moto.iam.models import Role
from moto.iam.responses import IamResponse

from lab import access, policy

if TYPE_CHECKING:
    from lab.engine import Engine

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
    given = response._get_param("ContextEntries") or []
    context = {entry["ContextKeyName"].lower(): list(entry["ContextKeyValues"]) for entry in given}
    results = [
        {"EvalActionName": action, "EvalResourceName": resource, **evaluate(role, action, resource, context)}
        for action in response._get_param("ActionNames")
        for resource in response._get_param("ResourceArns") or ["*"]
    ]
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


def evaluate(role: Role, action: str, resource: str, context: Mapping[str, list[str]]) -> dict[str, Any]:
    """The decision, the policies that made it, and the condition keys that no context was given for."""
    own, missing = access.of_role(role).identity, set[str]()
    request = policy.Request(role.arn, action, resource, context)
    try:
        matched = policy.matching(own, request, missing)
    except policy.Unevaluable as error:
        raise InvalidInput(str(error)) from None
    denials = [statement for statement in matched if statement.denies]
    decision = policy.DENIED if denials else policy.ALLOWED if matched else policy.SILENT
    named = [{"SourcePolicyId": f"{role.name}_{statement.policy}"} for statement in denials or matched]
    return {"EvalDecision": decision, "MatchedStatements": named, "MissingContextValues": sorted(missing)}
