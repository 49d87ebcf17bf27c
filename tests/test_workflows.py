"""The workflows: pinned by digest, least permissions, no key of AWS, nothing of a stranger's in a shell."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from lab.cli import lab

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PIN = re.compile(r"uses: [A-Za-z0-9-]+/[A-Za-z0-9_-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return found


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in loaded(path)["jobs"].items():
            yield f"{path.name}: {name}", job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for where, job in jobs():
        for step in job.get("steps", []):
            yield where, step


def test_every_action_is_pinned_by_its_commit_with_its_version_beside_it() -> None:
    found = [line.strip().removeprefix("- ") for path in WORKFLOWS for line in path.read_text("utf-8").splitlines()]
    used = [line for line in found if line.startswith("uses: ") and not line.startswith("uses: ./.github/")]
    assert len(used) >= 10
    assert [line for line in used if not PIN.fullmatch(line)] == []
    assert len({line.partition("@")[0] for line in used}) == len(set(used)), "one action, one version"


def test_a_workflow_may_read_and_only_what_takes_a_role_may_sign() -> None:
    for path in WORKFLOWS:
        assert loaded(path)["permissions"] == {"contents": "read"}, path.name
    for where, job in jobs():
        if "permissions" in job:
            assert job["permissions"] == {"contents": "read", "id-token": "write"}, where
            assert "environment" in job or job["uses"] == "./.github/workflows/deploy-one.yml", where


def test_no_workflow_knows_a_key_or_a_secret() -> None:
    for path in WORKFLOWS:
        text = path.read_text("utf-8")
        assert not re.search(r"secrets|access-key|AKIA|pull_request_target|workflow_run", text), path.name


def test_a_stranger_s_text_never_reaches_a_shell_unquoted() -> None:
    for where, step in steps():
        assert "${{" not in step.get("run", ""), f"{where}: pass it by env"


def test_every_job_ends_by_itself_and_leaves_no_token_in_the_clone() -> None:
    for where, job in jobs():
        assert "uses" in job or 0 < job["timeout-minutes"] <= 120, where
    for where, step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, where


def test_environments_are_those_of_lab_toml_and_prod_comes_last() -> None:
    known = list(tomllib.loads((ROOT / "lab.toml").read_text("utf-8"))["environments"])
    deployed = loaded(ROOT / ".github" / "workflows" / "deploy.yml")["jobs"]
    assert [job["with"]["environment"] for job in deployed.values()] == known == ["dev", "staging", "prod"]
    assert (deployed["staging"]["needs"], deployed["prod"]["needs"]) == ("dev", "staging")
    # YAML reads the key `on` as true.
    taken = loaded(ROOT / ".github" / "workflows" / "promote.yml")[True]["workflow_dispatch"]["inputs"]
    assert taken["environment"]["options"] == known[1:]


def test_what_takes_a_role_runs_in_the_environment_that_the_role_trusts() -> None:
    for where, job in jobs():
        used = [step.get("uses", "") for step in job.get("steps", [])]
        if any(one.startswith("aws-actions/") for one in used):
            assert job["environment"] == job["env"]["LAB_ENVIRONMENT"] == "${{ inputs.environment }}", where


def test_every_command_of_the_lab_that_a_workflow_runs_exists() -> None:
    with click.Context(lab) as context:
        known = set(lab.list_commands(context))
    ran = [command for _, step in steps() for command in re.findall(r"bin/lab (\w+)", step.get("run", ""))]
    assert set(ran) >= {"deploy", "promote", "doctor"} and set(ran) <= known


@pytest.mark.parametrize("manager", ["pip_requirements"])
def test_newer_versions_are_proposed_for_the_lock_and_the_actions(manager: str) -> None:
    settings = json.loads((ROOT / "renovate.json").read_text("utf-8"))
    (pattern,) = settings[manager]["managerFilePatterns"]
    assert re.search(pattern.strip("/"), "requirements.lock")
    assert "helpers:pinGitHubActionDigests" in settings["extends"]
