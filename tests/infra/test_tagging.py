"""Whatever takes tags bears the stack's; synthesis fails for what does not, and says which."""

import json
from typing import Any

import pytest

pytestmark = pytest.mark.slow
WANTED = {"lab": "ml-lab-dev", "environment": "dev"}


def pairs(tags: Any) -> dict[str, str]:
    return tags if isinstance(tags, dict) else {row["Key"]: row["Value"] for row in tags}


@pytest.mark.parametrize("which", ["assembly", "private"])
def test_what_takes_tags_bears_them(which: str, request: pytest.FixtureRequest) -> None:
    rows = request.getfixturevalue(which).template["Resources"]
    kinds = {row["Type"] for row in rows.values() if "Tags" in row.get("Properties", {})}
    assert kinds >= {"AWS::S3::Bucket", "AWS::KMS::Key", "AWS::IAM::Role", "AWS::Lambda::Function", "AWS::Glue::Job"}
    for name, row in rows.items():
        if row["Type"] in kinds:
            assert pairs(row["Properties"].get("Tags", {})).items() >= WANTED.items(), name


def test_what_the_flows_make_bears_them_too(assembly: Any) -> None:
    states = {**assembly.machine("ml-lab-dev-flow")["States"], **assembly.machine("ml-lab-dev-release")["States"]}
    for name in ("Train", "Evaluate", "Export", "CreateModel", "CreateEndpointConfig", "CreateEndpoint"):
        assert pairs(states[name]["Parameters"]["Tags"]) == WANTED, name


def test_an_untagged_resource_ends_synthesis_in_one_line(project: Any) -> None:
    project.edit(
        "infra/app.py",
        lambda text: text.replace(
            "    tagged = ", '    aws_cdk.Tags.of(stack.node.find_child("Lake")).remove("environment")\n    tagged = '
        ),
    )
    done = project.lab("synth")
    assert done.returncode == 1
    assert "ml-lab-dev/Lake/" in done.stderr and "lacks the tag environment (and " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_search_hands_its_tags_to_its_trials(synthesize: Any, tmp_path: Any) -> None:
    made = synthesize(tmp_path / "cdk.out", LAB_OVERRIDES=json.dumps({"train": {"trials": 2}}))
    states = made.machine("ml-lab-dev-flow")["States"].values()
    (search,) = [row["Parameters"] for row in states if "HyperParameterTuningJobName.$" in row.get("Parameters", {})]
    assert pairs(search["Tags"]) == WANTED and "Tags" not in search["TrainingJobDefinition"]
