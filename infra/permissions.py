"""Roles as lists of what they may do; a wildcard without a reason is refused.

`Allow` is one statement. Where its actions or resources hold a `*`, `why` must say why no narrower statement works; the
reason becomes cdk-nag's acknowledgement of that one finding, so an undefended wildcard fails synthesis twice. What no
usual run uses says in `unused` when it is used. Both reasons travel in the template, where `lab iam` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from aws_cdk import aws_iam as iam
from constructs import Construct

# What `lab iam` reads a role's reasons from.
METADATA = "lab:grants"


class WidePermission(Exception):
    """A statement is wider than it says why."""


@dataclass(frozen=True, kw_only=True)
class Allow:
    """One statement of a role's policy."""

    actions: Sequence[str]
    on: Sequence[str]
    why: str = ""
    unused: str = ""
    when: Mapping[str, Any] | None = None
    never: bool = False  # forbids, whatever else allows

    def __post_init__(self) -> None:
        wide = [item for item in (*self.actions, *self.on) if "*" in item]
        if wide and not self.why:
            raise WidePermission(f"{', '.join(self.actions)} on {wide[0]}: a wildcard needs its reason in `why`")

    def statement(self) -> iam.PolicyStatement:
        """The statement as CDK takes it."""
        effect = iam.Effect.DENY if self.never else iam.Effect.ALLOW
        return iam.PolicyStatement(
            effect=effect, actions=list(self.actions), resources=list(self.on), conditions=self.when
        )


def seldom(allows: Sequence[Allow], unused: str) -> list[Allow]:
    """The same permissions, none of which a usual run uses; `unused` says when they are."""
    return [replace(allow, unused=unused) for allow in allows]


def role(
    scope: Construct,
    name: str,
    *,
    trusts: iam.IPrincipal,
    allows: Sequence[Allow],
    description: str,
) -> iam.Role:
    """A role with one inline policy, its wildcards acknowledged with their reasons."""
    made = iam.Role(
        scope,
        name,
        assumed_by=trusts,
        description=description,
        inline_policies={"work": iam.PolicyDocument(statements=[allow.statement() for allow in allows])},
    )
    acknowledge(made, allows)
    return made


def acknowledge(made: iam.Role | iam.ManagedPolicy, allows: Sequence[Allow]) -> None:
    """Tells cdk-nag and `lab iam` why each of these statements stands as it does."""
    reasons = [
        {
            "actions": list(allow.actions),
            "resources": list(allow.on),
            **{name: text for name, text in (("why", allow.why), ("unused", allow.unused)) if text},
        }
        for allow in allows
        if allow.why or allow.unused
    ]
    if reasons:
        made.node.default_child.add_metadata(METADATA, reasons)  # type: ignore[union-attr]
    findings = {
        f"AwsSolutions-IAM5[{kind}::{finding(Stack.of(made).resolve(item))}]": allow.why
        for allow in allows
        for kind, items in (("Action", allow.actions), ("Resource", allow.on))
        for item in items
        if "*" in item
    }
    if findings:
        acknowledged = [Acknowledgment(id=finding, reason=why) for finding, why in findings.items()]
        Validations.of(made).acknowledge(*acknowledged)


def finding(value: Any) -> str:
    """A resource as cdk-nag writes it: references and policy variables in angle brackets, everything else as it is."""
    if isinstance(value, str):
        return re.sub(r"\$\{([^}]*)\}", r"<\1>", value)
    ((function, argument),) = value.items()
    if function == "Fn::Join":
        return "".join(finding(part) for part in argument[1])
    return f"<{argument}>" if function == "Ref" else f"<{'.'.join(argument)}>"


def service(principal: str, *, account: str, source: str | None = None) -> iam.IPrincipal:
    """A service that may assume a role for this account's resources only (no confused deputy)."""
    conditions: dict[str, Any] = {"StringEquals": {"aws:SourceAccount": account}}
    if source:
        conditions["ArnLike"] = {"aws:SourceArn": source}
    return iam.ServicePrincipal(principal, conditions=conditions)
