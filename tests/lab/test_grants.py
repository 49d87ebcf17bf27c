"""What a role was granted is told from what it used, and each grant without use must say why."""

import json
from pathlib import Path
from typing import Any

import pytest

from lab import grants
from lab.errors import LabError
from lab.home import Home

ROLE = "arn:aws:iam::123456789012:role/lab-Train-0"
BUCKET = "arn:aws:s3:::data"


def whole(*statements: dict[str, Any], calls: list[dict[str, Any]], reasons: list[dict[str, Any]] | None = None) -> Any:
    rows = [{"policy": "work", "place": place, "body": body} for place, body in enumerate(statements, 1)]
    role = {
        "name": "lab-Train-0", "arn": ROLE, "identity": rows, "boundary": None, "context": {}, "reasons": reasons or [],
    }  # fmt: skip
    return {"roles": {"Train": role}, "resources": {}, "calls": calls}


def allow(*actions: str, on: str | list[str] = f"{BUCKET}/*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": on}


def call(action: str, resource: str = f"{BUCKET}/x", decision: str = "allowed") -> dict[str, Any]:
    return {"role": "lab-Train-0", "action": action, "resource": resource, "context": {}, "decision": decision}


def test_a_grant_is_used_when_a_recorded_call_needed_it() -> None:
    found = grants.grants(whole(allow("s3:GetObject", "s3:PutObject"), calls=[call("s3:GetObject")]))
    assert [(one.action, one.used) for one in found] == [("s3:GetObject", True), ("s3:PutObject", False)]


def test_each_resource_of_a_statement_is_a_grant_of_its_own() -> None:
    rows = whole(allow("s3:GetObject", on=[f"{BUCKET}/x", f"{BUCKET}/y"]), calls=[call("s3:GetObject")])
    assert [(one.resource[-1], one.used) for one in grants.grants(rows)] == [("x", True), ("y", False)]


def test_an_action_on_another_services_resource_is_no_grant() -> None:
    rows = whole(allow("iot:DescribeJob", "s3:GetObject", on=[f"{BUCKET}/*", "arn:aws:iot:a:1:job/*"]), calls=[])
    assert {(one.action, one.resource.split(":")[2]) for one in grants.grants(rows)} == {
        ("iot:DescribeJob", "iot"),
        ("s3:GetObject", "s3"),
    }


def test_a_reason_for_the_width_of_a_grant_does_not_defend_that_nothing_uses_it() -> None:
    about = {"actions": ["s3:PutObject"], "resources": [f"{BUCKET}/*"]}
    wide, spare = {**about, "why": "names are made later"}, {**about, "unused": "for a broken upload"}
    statement = allow("s3:PutObject")
    assert [one.reason for one in grants.grants(whole(statement, calls=[], reasons=[wide]))] == [""]
    assert [one.reason for one in grants.grants(whole(statement, calls=[], reasons=[wide, spare]))] == [
        "for a broken upload"
    ]
    used = grants.grants(whole(statement, calls=[call("s3:PutObject")], reasons=[wide, spare]))
    assert [one.reason for one in used] == ["names are made later"]


def test_a_statement_that_no_call_misses_survives_and_one_that_a_call_needs_does_not() -> None:
    needed, spare = allow("s3:GetObject"), allow("s3:PutObject")
    count, left = grants.survivors(whole(needed, spare, calls=[call("s3:GetObject")]))
    assert count == 2 and [(one.statement, one.explained) for one in left] == [("work[2]", False)]


def test_of_two_statements_that_allow_the_same_both_survive() -> None:
    count, left = grants.survivors(whole(allow("s3:GetObject"), allow("s3:Get*"), calls=[call("s3:GetObject")]))
    assert count == 2 and len(left) == 2


def test_a_deny_without_which_nothing_changes_survives() -> None:
    forbid = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": f"{BUCKET}/raw/*"}
    rows = whole(allow("s3:PutObject"), forbid, calls=[call("s3:PutObject")])
    assert [one.statement for one in grants.survivors(rows)[1]] == ["work[2]"]
    tried = [call("s3:PutObject"), call("s3:PutObject", f"{BUCKET}/raw/x", "explicitDeny")]
    assert not grants.survivors(whole(allow("s3:PutObject"), forbid, calls=tried))[1]


def test_what_was_denied_is_told() -> None:
    rows = whole(calls=[call("s3:GetObject"), call("s3:PutObject", decision="implicitDeny")])
    assert [one["action"] for one in grants.denied(rows)] == ["s3:PutObject"]


def test_the_calls_of_all_runs_count_for_the_newest_runs_policies(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path / ".lab", tmp_path / "lab.toml")
    with pytest.raises(LabError, match="no run is recorded"):
        grants.of_runs(home)
    for name, used in (("one", "s3:GetObject"), ("two", "s3:PutObject")):
        folder = home.runs / name
        folder.mkdir(parents=True)
        rows = whole(allow("s3:GetObject", "s3:PutObject"), calls=[call(used)])
        (folder / "access.json").write_text(json.dumps(rows))
    assert all(one.used for one in grants.grants(grants.of_runs(home)))
