"""Gives a child its role's session, when the role exists and trusts the service."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moto.iam.exceptions import NotFoundException
from moto.iam.models import Role, iam_backends
from moto.sts.models import sts_backends

from lab import policy
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.engine import Engine

PARTITION = "aws"
HOUR = 3600


class RoleError(LabError):
    """The role does not exist, or does not trust the service."""


@dataclass(frozen=True)
class Session:
    """Temporary credentials of a role."""

    access_key: str
    secret_key: str
    token: str

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_SESSION_TOKEN": self.token,
        }


def require(engine: Engine, role_arn: str, service: str) -> None:
    """Raises RoleError, in AWS's words, unless `service` (such as `sagemaker`) may assume `role_arn`."""
    principal = f"{service}.amazonaws.com"
    try:
        role = iam_backends[engine.account][PARTITION].get_role_by_arn(role_arn)
    except NotFoundException:
        role = None
    if role is None or not _trusts(engine, role, principal):
        raise RoleError(
            f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal "
            f"'{principal}' to assume the role."
        )


def _trusts(engine: Engine, role: Role, principal: str) -> bool:
    """Whether the role's trust policy lets the service assume it, asking for a resource of this account."""
    trust = policy.statements(role.assume_role_policy_document, "trust")
    # The resource of a trust policy is the role itself and not written.
    context = {"aws:sourceaccount": [engine.account], "aws:securetransport": ["true"]}
    request = policy.Request(principal, "sts:AssumeRole", role.arn, context)
    return policy.decide(policy.Policies(resource=trust), request).allowed


def assume(engine: Engine, role_arn: str, session: str, seconds: int = HOUR) -> Session:
    """A session of the role, from the engine's own STS."""
    return taken(engine.account, engine.region, role_arn, session, seconds)


def taken(account: str, region: str, role_arn: str, session: str, seconds: int = HOUR) -> Session:
    """A session of a role of this account."""
    assumed = sts_backends[account][PARTITION].assume_role(
        region_name=region,
        role_session_name=re.sub(r"[^\w+=,.@-]", "-", session)[:64],
        role_arn=role_arn,
        policy="",
        duration=seconds,
        external_id="",
    )
    return Session(assumed.access_key.access_key_id, assumed.access_key.secret_access_key, assumed.session_token)
