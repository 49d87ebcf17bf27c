"""Assemblies: read whole or not at all, checked before anything runs, deployed once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import assembly
from lab.assembly import AssemblyError
from lab.engine import Engine
from lab.resources import KINDS


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Path]:
    """Writes an assembly of these resources and gives its folder."""

    def write(**resources: Any) -> Path:
        path = tmp_path / "cdk.out"
        path.mkdir(exist_ok=True)
        lab = {"schema": 1, "stack": "small", "template": "small.template.json", "region": "us-east-1"}
        destination = {"bucketName": "cdk-small-assets-${AWS::AccountId}-${AWS::Region}", "objectKey": "t.json"}
        asset = {"source": {"path": "small.template.json", "packaging": "file"}, "destinations": {"here": destination}}
        outputs = {name: {"Value": {"Ref": name}} for name in resources}
        (path / "lab.json").write_text(json.dumps(lab))
        (path / "small.template.json").write_text(json.dumps({"Resources": resources, "Outputs": outputs}))
        (path / "small.assets.json").write_text(json.dumps({"files": {"t": asset}, "dockerImages": {}}))
        return path

    return write


def parameter(value: str) -> dict[str, Any]:
    return {"Type": "AWS::SSM::Parameter", "Properties": {"Name": "/small/one", "Type": "String", "Value": value}}


@pytest.mark.parametrize("name", ["lab.json", "small.template.json", "small.assets.json"])
def test_a_missing_file_is_named(small: Callable[..., Path], name: str) -> None:
    path = small(One=parameter("1"))
    (path / name).unlink()
    with pytest.raises(AssemblyError, match=f"{name} is missing"):
        assembly.load(path)


def test_a_broken_file_and_another_schema_are_refused(small: Callable[..., Path]) -> None:
    path = small(One=parameter("1"))
    (path / "small.template.json").write_text("{")
    with pytest.raises(AssemblyError, match="cannot be read"):
        assembly.load(path)
    (path / "lab.json").write_text('{"schema": 2}')
    with pytest.raises(AssemblyError, match="has schema 2"):
        assembly.load(path)


def test_all_that_is_not_covered_is_named_with_the_file(small: Callable[..., Path]) -> None:
    path = small(Moon={"Type": "AWS::Lunar::Base"}, One={**parameter("1"), "CreationPolicy": {}})
    with pytest.raises(AssemblyError) as refused:
        assembly.load(path).check()
    message = refused.value.message
    assert "small.template.json" in message and "resource Moon: the type AWS::Lunar::Base" in message
    assert "resource One (AWS::SSM::Parameter): CreationPolicy" in message and refused.value.hint


def test_assets_that_are_missing_folders_or_container_images_are_refused(small: Callable[..., Path]) -> None:
    path = small(One=parameter("1"))
    manifest = json.loads((path / "small.assets.json").read_text())
    manifest["files"]["f"] = {"source": {"path": "folder", "packaging": "zip"}, "destinations": {}}
    manifest["files"]["m"] = {"source": {"path": "nowhere.zip"}, "destinations": {}}
    manifest["dockerImages"]["i"] = {}
    (path / "small.assets.json").write_text(json.dumps(manifest))
    said = assembly.load(path).refusals()
    assert said == [
        "container image asset i: build images with CodeBuild",
        "asset folder: a folder; stage an archive",
        "asset nowhere.zip is missing",
    ]


def test_an_assembly_is_deployed_once_and_again_when_it_changed(engine: Engine, small: Callable[..., Path]) -> None:
    steps: list[str] = []
    first = assembly.load(small(One=parameter("1")))
    assert assembly.deploy(engine, first, steps.append) == {"One": "/small/one"}
    assert steps == ["assets", "stack"]
    assert engine.settings()["stack"] == "small"
    assert assembly.deploy(engine, first, steps.append) == {"One": "/small/one"}
    assert steps == ["assets", "stack"], "the same assembly was deployed twice"
    changed = assembly.load(small(One=parameter("2")))
    assembly.deploy(engine, changed, steps.append)
    assert engine.client("ssm").get_parameter(Name="/small/one")["Parameter"]["Value"] == "2"
    shutil.rmtree(first.path)
    engine.client("cloudformation").delete_stack(StackName="small")


def test_a_refused_assembly_touches_nothing(engine: Engine, small: Callable[..., Path]) -> None:
    with pytest.raises(AssemblyError):
        assembly.deploy(engine, assembly.load(small(Moon={"Type": "AWS::Lunar::Base"})))
    names = {stack["StackName"] for stack in engine.client("cloudformation").describe_stacks()["Stacks"]}
    assert "small" not in names


@pytest.mark.slow
def test_the_labs_own_stack_stands_whole(engine: Engine, synthesized: Path) -> None:
    """Every resource of the template, made and read back; then the stack's own outputs name real things."""
    whole = assembly.load(synthesized)
    outputs = assembly.deploy(engine, whole)
    rows = engine.client("cloudformation").describe_stack_resources(StackName=whole.stack)["StackResources"]
    assert {row["LogicalResourceId"]: row["ResourceType"] for row in rows} == {
        name: resource["Type"] for name, resource in whole.template["Resources"].items()
    }
    assert all(row["PhysicalResourceId"] and "None" not in row["PhysicalResourceId"] for row in rows)
    assert {row["ResourceType"] for row in rows} <= set(KINDS)
    machine = engine.client("stepfunctions").describe_state_machine(stateMachineArn=outputs["FlowArn"])
    assert "None" not in machine["definition"] and json.loads(machine["definition"])["StartAt"] == "ReadManifest"
    found = engine.client("dynamodb").describe_table(TableName=outputs["RunsTable"])["Table"]
    assert found["SSEDescription"]["KMSMasterKeyArn"] == outputs["KeyArn"]
    versions = engine.client("s3").get_bucket_versioning(Bucket=outputs["DataBucket"])
    assert versions["Status"] == "Enabled"
    assembly.deploy(engine, whole)
