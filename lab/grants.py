"""What each role of a stack was granted, what of it was used, and what the policies would say without one statement.

`snapshot` is taken in the engine at the end of a run and lies in the run's folder as `access.json`:
roles       by logical id: name, ARN, trust, identity statements by policy, boundary, and the reasons that the template
            gives for wildcards (`why`) and for grants that a usual run does not use (`unused`)
resources   by ARN: the resource's own policy, of those that were called
calls       role or service, action, resource, context, decision; each once
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import policy
from lab.errors import LabError
from lab.home import Home, read_json

if TYPE_CHECKING:
    from lab.engine import Engine

METADATA = "lab:grants"
DOOR = "access"


@dataclass(frozen=True)
class Grant:
    """One action on one resource pattern that a role's policies allow. `reason` defends it where nothing used it."""

    role: str
    action: str
    resource: str
    used: bool
    reason: str


@dataclass(frozen=True)
class Survivor:
    """A statement without which every recorded call would still be allowed, with the reasons for its grants."""

    role: str
    statement: str
    actions: list[str]
    explained: bool
    reasons: list[str]


def install(engine: Engine) -> None:
    """Opens the door through which a run asks for the snapshot."""
    from lab import door

    door.serve(DOOR, lambda _: snapshot(engine))


def taken(engine: Engine) -> dict[str, Any]:
    """The snapshot of an engine, which may be another process."""
    from lab import door

    found: dict[str, Any] = door.ask(engine, DOOR, {})
    return found


def snapshot(engine: Engine) -> dict[str, Any]:
    """Roles, resources' policies and calls as they stand in this engine."""
    from lab import resourcepolicies

    calls = recorded(engine.root / "access.jsonl")
    wanted = sorted({call["resource"] for call in calls if "resource" in call})
    named = {arn: [dict(one.body) for one in resourcepolicies.of(engine, arn)] for arn in wanted}
    return {
        "roles": dict(_roles(engine)),
        "resources": {arn: found for arn, found in named.items() if found},
        "calls": calls,
    }


def _roles(engine: Engine) -> Iterator[tuple[str, dict[str, Any]]]:
    from moto.cloudformation.models import cloudformation_backends
    from moto.cloudformation.parsing import clean_json
    from moto.iam.models import iam_backends

    from lab import access

    iam = iam_backends[engine.account]["aws"]
    for stack in list(cloudformation_backends[engine.account][engine.region].stacks.values()):
        resources = stack.resource_map
        for logical, body in stack.template_dict.get("Resources", {}).items():
            if body.get("Type") != "AWS::IAM::Role":
                continue
            role = iam.get_role(resources[logical].physical_resource_id)
            found = access.of_role(role)
            yield (
                logical,
                {
                    "name": role.name,
                    "arn": role.arn,
                    "identity": [asdict(one) for one in found.identity],
                    "boundary": None if found.boundary is None else [asdict(one) for one in found.boundary],
                    "context": access.standing(engine, role, ""),
                    "reasons": clean_json((body.get("Metadata") or {}).get(METADATA, []), resources),
                },
            )


def recorded(path: Path) -> list[dict[str, Any]]:
    """The calls in an engine's record."""
    if not path.is_file():
        return []
    found: list[dict[str, Any]] = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return found


def of_runs(home: Home) -> dict[str, Any]:
    """The newest run's snapshot with the calls of all recorded runs. Raises LabError when there is none."""
    found = sorted(home.runs.glob("*/access.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise LabError("no run is recorded here, so nothing is known to be used", "lab run --approve")
    whole: dict[str, Any] = read_json(found[-1])
    for path in found[:-1]:
        whole = joined(whole, read_json(path))
    return whole


def joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """`one` with the calls and the resources' policies of the other too."""
    known = {json.dumps(call, sort_keys=True): call for call in (*other["calls"], *one["calls"])}
    return {**one, "calls": list(known.values()), "resources": {**other["resources"], **one["resources"]}}


def grants(whole: Mapping[str, Any]) -> list[Grant]:
    """Every grant of every role, used or not."""
    found: list[Grant] = []
    for logical, role in whole["roles"].items():
        calls = _requests(whole, role, policy.ALLOWED)
        for statement in role["identity"]:
            body = statement["body"]
            if body["Effect"] != "Allow":
                continue
            own = [request for request in calls if policy.matching([policy.Statement("", 0, body)], request)]
            for action, resource in _pairs(body):
                used = any(
                    policy.like(action, request.action, True)
                    and policy.like(policy.filled(resource, request.context) or "", request.resource)
                    for request in own
                )
                found.append(Grant(logical, action, resource, used, reason(role, action, resource, used)))
    return found


def _pairs(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Actions and resources that belong together: an action acts on ARNs of its own service alone."""
    for action in policy.listed(body.get("Action", [])):
        for resource in policy.listed(body.get("Resource", [])):
            service = resource.split(":")[2] if resource.count(":") > 2 else "*"
            if service in ("*", _service(action)):
                yield action, resource


def _service(action: str) -> str:
    return action.partition(":")[0]


def reason(role: Mapping[str, Any], action: str, resource: str, used: bool) -> str:
    """What the template says of a grant: why nothing used it, or why it is as wide as it is."""
    for given in role["reasons"]:
        if action in policy.listed(given["actions"]) and resource in policy.listed(given["resources"]):
            text = given.get("why", "") if used else given.get("unused", "")
            if text:
                return str(text)
    return ""


def _requests(whole: Mapping[str, Any], role: Mapping[str, Any], *decisions: str) -> list[policy.Request]:
    """The recorded calls of a role; of these decisions alone, where some are given."""
    return [
        policy.Request(role["arn"], call["action"], call["resource"], {**role["context"], **call["context"]})
        for call in whole["calls"]
        if call.get("role") == role["name"] and "action" in call and (not decisions or call["decision"] in decisions)
    ]


def denied(whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls that the policies did not allow."""
    return [call for call in whole["calls"] if call.get("decision", "") != policy.ALLOWED]


def survivors(whole: Mapping[str, Any]) -> tuple[int, list[Survivor]]:
    """How many statements of all roles were taken away one by one, and those that no recorded call misses."""
    count, found = 0, []
    for logical, role in whole["roles"].items():
        statements = [policy.Statement(**one) for one in role["identity"]]
        calls = [(request, _resource(whole, request.resource)) for request in _requests(whole, role)]
        boundary = None if role["boundary"] is None else [policy.Statement(**one) for one in role["boundary"]]
        for gone in statements:
            count += 1
            left = [one for one in statements if one is not gone]
            if not _missed(left, boundary, calls, gone):
                found.append(_survivor(logical, role, gone))
    return count, found


def _missed(
    left: list[policy.Statement],
    boundary: list[policy.Statement] | None,
    calls: Iterable[tuple[policy.Request, list[policy.Statement]]],
    gone: policy.Statement,
) -> bool:
    """Whether one of the calls would be decided otherwise."""
    for request, resource in calls:
        if not policy.matching([gone], request):
            continue
        both = request.action.startswith("kms:")
        before, after = (
            policy.decide(policy.Policies(identity, boundary, resource, both), request)
            for identity in ([*left, gone], left)
        )
        if before.allowed != after.allowed:
            return True
    return False


def _resource(whole: Mapping[str, Any], arn: str) -> list[policy.Statement]:
    return [policy.Statement("resource", place, body) for place, body in enumerate(whole["resources"].get(arn, []))]


def _survivor(logical: str, role: Mapping[str, Any], gone: policy.Statement) -> Survivor:
    pairs = list(_pairs(gone.body))
    reasons = [reason(role, action, resource, used=False) for action, resource in pairs]
    actions = policy.listed(gone.body.get("Action", []))
    return Survivor(logical, gone.name, actions, all(reasons), sorted({text for text in reasons if text}))
