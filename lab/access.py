"""Lets a role do what its policies allow and nothing else, and keeps a record of what each role did.

Covers: every call of the embedded AWS that a role's session signs; what a service does with the role that was passed to
    it (`require`), as pulling a job's image or writing its log; roles that services assume for a target. The record is
    `access.jsonl` below the engine's root: role, action, resource, context and decision, once each.
Does not cover: callers with other keys, who are the account's administrator, as `lab env` makes the reader of the desk.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moto.iam.exceptions import NotFoundException
from moto.iam.models import Role, iam_backends
from moto.sts.models import sts_backends

from lab import needs, policy, refusal, resourcepolicies, wire
from lab.errors import LabError
from lab.needs import Need

if TYPE_CHECKING:
    from lab.engine import Engine

PARTITION = "aws"
# The one key of a session's own that a policy variable asks for: which device the role was taken for.
THING = "credentials-iot:thingname"
# `record` lets everything pass and keeps what would have been denied: for writing a role, never for judging one.
MODE = "LAB_IAM"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class AccessDenied(LabError):
    """A role may not do this; the message is AWS's, and says what would have had to allow it."""


@dataclass(frozen=True)
class Caller:
    """A role's session: the role, the name of the session, and its ARN as AWS's messages give it."""

    role: Role
    session: str
    arn: str


class Guard:
    """Checks and records for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._known: set[str] = set()

    def caller(self, access_key: str) -> Caller | None:
        """The role whose session has this key; None for every other key."""
        taken = sts_backends[self._engine.account][PARTITION].get_assumed_role_from_access_key(access_key)
        if taken is None:
            return None
        try:
            role = iam_backends[self._engine.account][PARTITION].get_role_by_arn(taken.role_arn)
        except NotFoundException:
            raise AccessDenied(f"The role {taken.role_arn} of the session {taken.session_name} is gone") from None
        return Caller(role, taken.session_name, taken.arn)

    def refuses(self, caller: Caller, call: wire.Call) -> str | None:
        """Why this role may not make a call, None when it may."""
        try:
            wanted = needs.of(self._engine, call)
            for need in wanted:
                self.check(caller.role, need, session=caller.session)
        except (AccessDenied, needs.Unknown, policy.Unevaluable) as error:
            if enforced():
                return str(error)
            self._keep({"role": caller.role.name, "unknown": str(error)})
        return None

    def check(self, role: Role, need: Need, *, session: str = "") -> None:
        """Raises AccessDenied unless the role may; keeps it in the record either way."""
        context = {**standing(self._engine, role, session), **need.context}
        request = policy.Request(role.arn, need.action, need.resource, context)
        policies = of_role(role, resourcepolicies.of(self._engine, need.resource), both=need.both)
        decision = policy.decide(policies, request)
        own = {key: list(context[key]) for key in context if key == THING}
        self.note(role.name, Need(need.action, need.resource, {**need.context, **own}), decision)
        if not decision.allowed and enforced():
            raise AccessDenied(_said(self._engine, role, session, need, decision))

    def note(self, who: str, need: Need, decision: policy.Decision) -> None:
        """Keeps one decision, of a role by its name or of a service."""
        row = {
            "role": who,
            "action": need.action,
            "resource": need.resource,
            "context": need.context,
            "decision": decision.kind,
        }
        self._keep(row)

    def _keep(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row, sort_keys=True)
        with self._lock:
            if line in self._known:
                return
            self._known.add(line)
            with (self._engine.root / "access.jsonl").open("a", encoding="utf-8") as record:
                record.write(line + "\n")


def enforced() -> bool:
    """Whether what the policies do not allow is denied."""
    return os.environ.get(MODE) != "record"


def standing(engine: Engine, role: Role, session: str) -> dict[str, list[str]]:
    """The context that every request of a session has; loopback stands for TLS."""
    found = {
        "aws:securetransport": ["true"],
        "s3:tlsversion": ["1.3"],
        "aws:principalarn": [role.arn],
        "aws:principalaccount": [engine.account],
        "aws:sourceaccount": [engine.account],
        "aws:requestedregion": [engine.region],
        "aws:principaltype": ["AssumedRole"],
    }
    tags = role.tags if isinstance(role.tags, Mapping) else {}
    for tag in tags.values():
        found[f"aws:principaltag/{tag['Key']}".lower()] = [tag["Value"]]
    if session and "credentials.iot.amazonaws.com" in json.dumps(role.assume_role_policy_document):
        found[THING] = [session]
    return found


def of_role(role: Role, resource: Sequence[policy.Statement] = (), *, both: bool = False) -> policy.Policies:
    """A role's own policies and its boundary, beside what the resource's policy says."""
    own = [one for name, text in role.policies.items() for one in policy.statements(text, name)]
    for attached in role.managed_policies.values():
        own += policy.statements(_document(attached), attached.name)
    return policy.Policies(own, _boundary(role), resource, both)


def _boundary(role: Role) -> list[policy.Statement] | None:
    arn = role.permissions_boundary_arn
    if not arn:
        return None
    found = iam_backends[role.account_id][PARTITION].get_policy(arn)
    return policy.statements(_document(found), found.name)


def _document(managed: Any) -> Any:
    return next(version.document for version in managed.versions if version.is_default)


def _said(engine: Engine, role: Role, session: str, need: Need, decision: policy.Decision) -> str:
    who = f"arn:aws:sts::{engine.account}:assumed-role/{role.name}/{session or '…'}"
    what = f"User: {who} is not authorized to perform: {need.action} on resource: {need.resource}"
    if decision.kind == policy.DENIED:
        return f"{what} with an explicit deny in {', '.join(one.name for one in decision.by)}"
    lacking = decision.lacks
    if lacking == "an identity policy":
        names = ", ".join([*role.policies, *(one.name for one in role.managed_policies.values())])
        lacking = f"{lacking} of the role {role.name} ({names or 'it has none'})"
    return f"{what} because {lacking} does not allow the {need.action} action"


_guards: dict[str, Guard] = {}


def guard(engine: Engine) -> Guard:
    """The one of an engine."""
    return _guards.setdefault(engine.endpoint, Guard(engine))


def require(engine: Engine, role_arn: str, wanted: Iterable[Need], *, session: str = "") -> None:
    """What a service does with a role that was passed to it. Raises AccessDenied."""
    role = iam_backends[engine.account][PARTITION].get_role_by_arn(role_arn)
    for need in wanted:
        guard(engine).check(role, need, session=session)


def require_service(engine: Engine, service: str, need: Need, source: str) -> None:
    """A service, such as `events`, acts on a resource for the resource `source`, by leave of the former's own policy.

    Raises AccessDenied.
    """
    principal = f"{service}.amazonaws.com"
    context = {
        "aws:sourcearn": [source],
        "aws:sourceaccount": [engine.account],
        "aws:securetransport": ["true"],
        **need.context,
    }
    request = policy.Request(principal, need.action, need.resource, context)
    decision = policy.decide(policy.Policies(resource=resourcepolicies.of(engine, need.resource)), request)
    guard(engine).note(principal, Need(need.action, need.resource, context), decision)
    if not decision.allowed and enforced():
        raise AccessDenied(
            f"Service: {principal} is not authorized to perform: {need.action} on resource: {need.resource} "
            f"for {source} because the resource's own policy does not allow the {need.action} action"
        )


def guarded(engine: Engine, application: Application) -> Application:
    """The application behind a check of every request that a role's session signs."""

    def serve(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        signed = wire.signer(environ)
        if signed is None or signed.access_key == "test":
            return application(environ, start)
        try:
            caller = guard(engine).caller(signed.access_key)
            if caller is None:
                return application(environ, start)
            call = wire.call(environ, signed.service)
            denied = guard(engine).refuses(caller, call)
        except (AccessDenied, wire.Unreadable) as error:
            denied = str(error)
        if denied is None:
            return application(environ, start)
        return refusal.answer(environ, start, signed.service, denied)

    return serve
