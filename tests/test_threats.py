"""docs/security.md: every mitigation names tests, which exist, and every service that takes a role is told of."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LETTERS = (
    "Spoofing",
    "Tampering",
    "Repudiation",
    "Information disclosure",
    "Denial of service",
    "Elevation of privilege",
)


def threats(letter: str) -> list[list[str]]:
    """Rows of a letter's table: threat, mitigation, tests."""
    section = PAGE.partition(f"### {letter}\n")[2].partition("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


@pytest.mark.parametrize("letter", LETTERS)
def test_every_mitigation_names_a_test_that_exists(letter: str) -> None:
    found = threats(letter)
    assert len(found) >= 3
    for threat, mitigation, tests in found:
        assert mitigation and NAMED.findall(tests), f"{threat}: no test holds it"
        assert not NAMED.sub("", tests).strip(" ,"), f"{threat}: what is not a test's name?"
        for path, name in NAMED.findall(tests):
            tree = ast.parse((ROOT / path).read_text("utf-8"))
            there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in there, f"{threat}: {path} has no {name}"


@pytest.mark.slow
def test_every_service_that_takes_a_role_is_on_the_page(project: Any) -> None:
    project.edit("lab.toml", lambda text: f'{text}\n[security]\nnetwork = "vpc"\n\n[serving]\nserverless = false\n')
    assert project.lab("synth").returncode == 0
    template = json.loads((project.root / "cdk.out" / "ml-lab-dev.template.json").read_text("utf-8"))
    roles = [row["Properties"] for row in template["Resources"].values() if row["Type"] == "AWS::IAM::Role"]
    told = set(re.findall(r"\| ([a-z.-]+\.amazonaws\.com) \|", PAGE))
    assert {role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"] for role in roles} == told
