"""docs/fidelity.md against what the lab really ships: nothing in the synthesized template is missing from the page."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lab.coverage import ACTIONS, EMULATED, EXECUTED, NOT_COVERED, granted, page
from lab.definition import of_resource
from lab.resources import KINDS

# Methods of a client that are no API of their own.
NO_API = {"downloadfile", "downloadfileobj", "getpaginator", "uploadfileobj"}
REPO = Path(__file__).parents[2]
PAGE = REPO / "docs" / "fidelity.md"


@pytest.fixture(scope="module", params=["none", "vpc"])
def template(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The lab's template, in either network."""
    path: Path = request.getfixturevalue("synthesized" if request.param == "none" else "synthesized_private")
    lab = json.loads((path / "lab.json").read_text())
    found: dict[str, Any] = json.loads((path / lab["template"]).read_text())
    return found


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m lab.coverage > docs/fidelity.md"


@pytest.mark.slow
def test_every_resource_type_of_the_template_is_on_the_page(template: dict[str, Any]) -> None:
    text = PAGE.read_text("utf-8")
    for type_ in {resource["Type"] for resource in template["Resources"].values()}:
        assert f"| `{type_}` | {KINDS[type_].how} |" in text


@pytest.mark.slow
def test_every_property_of_the_template_is_read_back_or_named_as_without_effect(template: dict[str, Any]) -> None:
    text = PAGE.read_text("utf-8")
    for resource in template["Resources"].values():
        kind = KINDS[resource["Type"]]
        for name in resource.get("Properties", {}):
            assert name in kind.properties
            assert name not in kind.inert or f"{name}: {kind.inert[name]}" in text


@pytest.mark.slow
def test_every_task_of_the_machines_is_on_the_page(template: dict[str, Any]) -> None:
    text = PAGE.read_text("utf-8")
    machines = [row for row in template["Resources"].values() if row["Type"] == "AWS::StepFunctions::StateMachine"]
    assert len(machines) == 2
    for machine in machines:
        for resource in re.findall(
            r'"Resource": "arn:aws:states:::([^"]+)"', json.dumps(of_resource(machine["Properties"]))
        ):
            assert f"`{resource}`" in text


@pytest.mark.slow
def test_every_action_that_a_role_is_granted_is_on_the_page(template: dict[str, Any]) -> None:
    missing = sorted(granted(template) - set(ACTIONS))
    assert not missing, f"lab/coverage.py says nothing of {missing}"


def test_every_api_that_our_code_calls_is_on_the_page() -> None:
    """Calls of clients in jobs and functions: `s3.put_object(` stands for s3:PutObject."""
    known = {name.partition(":")[2].lower() for name in ACTIONS}
    aliases = {"invoke": "invokefunction", "listobjectsv2": "listbucket", "uploadfile": "putobject"}
    calls = re.compile(r"\b(?:s3|sagemaker|dynamodb|greengrass|cloudwatch)\)?\.([a-z]+_[a-z_0-9]+)\(")
    for path in sorted((REPO / "pipelines").rglob("*.py")):
        for name in calls.findall(path.read_text("utf-8")):
            api = name.replace("_", "")
            assert aliases.get(api, api) in known | NO_API, f"{path.relative_to(REPO)} calls {name}"


def test_a_row_says_one_of_three_things() -> None:
    assert {how for how, _ in ACTIONS.values()} <= {EXECUTED, EMULATED, NOT_COVERED}
