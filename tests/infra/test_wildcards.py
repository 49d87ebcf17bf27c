"""No role of the stack holds a wildcard that its template does not defend, and one more anywhere is noticed."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from infra.permissions import METADATA

pytestmark = pytest.mark.slow


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def roles(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for logical, body in template["Resources"].items():
        if body["Type"] == "AWS::IAM::Role":
            yield logical, body


def undefended(role: dict[str, Any]) -> list[str]:
    """Each wildcard of a role's statements that no reason of its own template speaks of."""
    reasons = (role.get("Metadata") or {}).get(METADATA, [])
    defended = {
        (action, json.dumps(resource, sort_keys=True))
        for reason in reasons
        if reason.get("why")
        for action in reason["actions"]
        for resource in reason["resources"]
    }
    found = []
    for policy in role["Properties"].get("Policies", []):
        for statement in policy["PolicyDocument"]["Statement"]:
            for action in listed(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    text = json.dumps(resource, sort_keys=True)
                    wide = "*" in action or "*" in text
                    if wide and (action, text) not in defended and _meet(action, text):
                        found.append(f"{action} on {text}")
    return found


def _meet(action: str, resource: str) -> bool:
    """Whether the action acts on resources of this service at all; a statement may hold several of both."""
    return (
        action == "*" or "arn:" not in resource or f":{action.partition(':')[0]}:" in resource or "GetAtt" in resource
    )


def test_every_wildcard_of_every_role_is_defended_in_the_template(assembly: Any) -> None:
    template = json.loads((assembly.path / assembly.lab["template"]).read_text())
    assert {logical: found for logical, role in roles(template) if (found := undefended(role))} == {}


def test_a_star_added_to_any_statement_is_noticed(assembly: Any) -> None:
    template = json.loads((assembly.path / assembly.lab["template"]).read_text())
    tried = 0
    for logical, role in roles(template):
        for place, policy in enumerate(role["Properties"].get("Policies", [])):
            for number, statement in enumerate(policy["PolicyDocument"]["Statement"]):
                for member in ("Action", "Resource"):
                    changed = copy.deepcopy(role)
                    inside = changed["Properties"]["Policies"][place]["PolicyDocument"]["Statement"][number]
                    if "*" in listed(statement[member]):
                        continue
                    inside[member] = [*listed(statement[member]), "*"]
                    assert undefended(changed), f"{logical}[{number}]: a star in {member} passes"
                    tried += 1
    assert tried > 150
