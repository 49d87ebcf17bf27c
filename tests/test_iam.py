"""The whole flow under enforced permissions: nothing is denied, nothing granted in vain, nothing missing unseen."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from copies import Project, copy_project, end, small

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy in which one approved run was recorded."""
    project = copy_project(tmp_path_factory.mktemp("iam") / "lab")
    project.edit("lab.toml", small)
    done = project.lab("run", "--approve", timeout=800)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    yield project
    end(project)


@pytest.fixture(scope="module")
def said(ran: Project) -> dict[str, Any]:
    """What `lab iam` says of the run."""
    done = ran.lab("iam", "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0, [row for row in found["grants"] if not row["used"] and not row["reason"]]
    return found


def test_no_call_of_the_whole_flow_is_denied(said: dict[str, Any]) -> None:
    assert said["denied"] == []


def test_every_grant_is_used_or_says_when_it_is(said: dict[str, Any]) -> None:
    assert sum(row["used"] for row in said["grants"]) > 150
    assert [row for row in said["grants"] if not row["used"] and len(row["reason"].split()) < 4] == []


def test_every_statement_is_missed_by_a_call_or_says_when_it_is_needed(said: dict[str, Any]) -> None:
    spare = [row for row in said["spare"] if not row["explained"]]
    killed = said["statements"] - len(said["spare"])
    score = f"{said['statements']} statements, {killed} missed by a recorded call, {len(said['spare'])} explained"
    sys.stdout.write(score + "\n")
    assert spare == [] and killed > 80, score


def test_people_are_told_the_same(ran: Project) -> None:
    done = ran.lab("iam", "--unused")
    assert done.returncode == 0
    assert "unused with a reason, 0 unused without one" in done.stdout and "called when the data drift" in done.stdout


def _without(template: dict[str, Any], role: str, action: str) -> None:
    """Takes the statement with this action from a role."""
    [logical] = [name for name in template["Resources"] if name.startswith(role)]
    taken = 0
    for policy in template["Resources"][logical]["Properties"]["Policies"]:
        kept = [one for one in policy["PolicyDocument"]["Statement"] if action not in json.dumps(one["Action"])]
        taken += len(policy["PolicyDocument"]["Statement"]) - len(kept)
        nothing = {"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}
        policy["PolicyDocument"]["Statement"] = kept or [nothing]
    assert taken == 1


@pytest.mark.parametrize(
    ("role", "action", "state"),
    [
        ("WorkflowFlowRole", "iam:PassRole", "Train"),
        ("WorkflowFlowRole", "s3:GetObject", "ReadManifest"),
        ("LakeEtlRole", "s3:ListBucket", "Etl"),
        ("WorkflowFlowNewDataRole", "states:StartExecution", None),
    ],
)
def test_a_needed_statement_that_is_gone_is_denied_by_name(
    tmp_path: Path, role: str, action: str, state: str | None
) -> None:
    project = copy_project(tmp_path / "lab")
    project.edit("lab.toml", small)
    assert project.lab("synth").returncode == 0
    [path] = (project.root / "cdk.out").glob("*.template.json")
    template = json.loads(path.read_text())
    _without(template, role, action)
    path.write_text(json.dumps(template))
    done = project.lab("run", "--app", "cdk.out", timeout=600)
    left = end(project)
    words = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 1 and not left, words
    assert f"not authorized to perform: {action}" in words and role in words, words
    assert state is None or f"the state {state} failed" in words, words
