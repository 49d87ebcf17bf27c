"""The app: one line and exit 1 for what is wrong, the same files twice for what is right."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import assembly

ROOT = Path(__file__).parents[2]


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def test_a_wrong_setting_ends_with_one_line_before_anything_is_written(app: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text('[train]\nsize = "huge"\n', "utf-8")
    done = app(tmp_path / "out", LAB_CONFIG=str(tmp_path / "lab.toml"))
    assert done.returncode == 1
    assert done.stderr == "lab.toml: [train] size = 'huge' is not allowed; allowed: tiny, base\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_second_synthesis_is_equal_to_the_byte_without_network_or_credentials(
    synthesize: Callable[..., Any], assembly: Any, tmp_path: Path
) -> None:
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    again = synthesize(tmp_path / "again", **nowhere)
    assert hashes(again.path) == hashes(assembly.path)


@pytest.mark.slow
def test_another_data_set_changes_settings_and_what_is_derived_from_them_only(
    synthesize: Callable[..., Any], assembly: Any, tmp_path: Path
) -> None:
    other = synthesize(tmp_path / "other", LAB_OVERRIDES=json.dumps({"data": {"dataset": "surface-defects"}}))
    assert {path.name for path in other.asset("")} == {path.name for path in assembly.asset("")}
    assert other.lab["settings"]["data"] == {**assembly.lab["settings"]["data"], "dataset": "surface-defects"}
    claims = [made.machine("ml-lab-dev-flow")["States"]["ReadManifest"]["ResultSelector"] for made in (assembly, other)]
    template = json.dumps(assembly.template)
    for place in ("raw/{}/", "raw/{}-device/", '"DATASET": "{}"'):
        template = template.replace(place.format("digits"), place.format("surface-defects"))
    asked = (made.lab["settings"]["gate"]["accuracy"] for made in (assembly, other))
    old, new = (json.dumps(json.dumps({"accuracy": value}))[2:-2] for value in asked)
    assert old in template
    template = template.replace(old, new)
    codes = [claim["claim.$"].split("#")[1] for claim in claims]
    assert codes[0] != codes[1]
    assert template.replace(codes[0], codes[1]) == json.dumps(other.template)


@pytest.mark.slow
def test_lab_json_says_what_the_desk_must_know(assembly: Any) -> None:
    facts = assembly.lab
    assert (facts["schema"], facts["stack"], facts["prefix"], facts["region"]) == (
        1,
        "ml-lab-dev",
        "ml-lab-dev",
        "us-east-1",
    )
    assert facts["template"] == "ml-lab-dev.template.json"
    assert set(facts["runtimes"]) == {"lambda", "glue", "job", "serve", "edge"}
    assert facts["settings"]["gate"]["accuracy"] == 0.95
    for name, image in facts["images"].items():
        project = assembly.named("AWS::CodeBuild::Project", "Name", image["project"])
        (uri,) = [row["Value"] for row in project["Environment"]["EnvironmentVariables"] if row["Name"] == "IMAGE"]
        assert json.dumps(uri).endswith(f'/{image["repository"]}:{image["tag"]}"]]}}'), name


@pytest.mark.slow
def test_an_instance_endpoint_is_one_setting_away(synthesize: Callable[..., Any], tmp_path: Path) -> None:
    made = synthesize(tmp_path / "out", LAB_OVERRIDES=json.dumps({"serving": {"serverless": False}}))
    config = made.machine("ml-lab-dev-release")["States"]["CreateEndpointConfig"]["Parameters"]
    assert config["ProductionVariants"][0]["InstanceType"] == "ml.m5.large"
    assert config["KmsKeyId"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "count", "torchrun"),
    [({"instances": 3}, 3, "true"), ({"instance": "ml.g5.12xlarge"}, 1, "true")],
)
def test_instances_of_the_training_are_one_setting_away_and_meet_through_torchrun(
    synthesize: Callable[..., Any], tmp_path: Path, asked: dict[str, Any], count: int, torchrun: str
) -> None:
    made = synthesize(tmp_path / "out", LAB_OVERRIDES=json.dumps({"train": asked}))
    job = made.machine("ml-lab-dev-flow")["States"]["Train"]["Parameters"]
    assert job["ResourceConfig"]["InstanceCount"] == count
    assert job["HyperParameters"].get("sagemaker_torch_distributed_enabled") == torchrun


@pytest.mark.slow
def test_scaling_capture_and_batch_are_settings_and_the_desk_takes_them(
    synthesize: Callable[..., Any], tmp_path: Path
) -> None:
    asked = {"serverless": False, "max_instances": 4, "capture_percent": 25, "batch": True}
    made = synthesize(tmp_path / "out", LAB_OVERRIDES=json.dumps({"serving": asked}))
    states = made.machine("ml-lab-dev-release")["States"]
    capture = states["CreateEndpointConfig"]["Parameters"]["DataCaptureConfig"]
    assert (capture["InitialSamplingPercentage"], capture["DestinationS3Uri"][-8:]) == (25, "/capture")
    assert states["ScaleEndpoint"]["Parameters"]["MaxCapacity"] == 4
    policies = json.dumps(made.of_type("AWS::IAM::Role"))
    for part in ("/capture/*", "/batch/input/*", "/batch/output/*", "application-autoscaling:PutScalingPolicy"):
        assert part in policies
    assembly.load(made.path).check()


@pytest.mark.slow
def test_a_region_without_training_images_is_refused_in_one_line(app: Callable[..., Any], tmp_path: Path) -> None:
    done = app(tmp_path / "out", LAB_OVERRIDES=json.dumps({"lab": {"region": "xx-nowhere-1"}}))
    assert done.returncode == 1
    assert done.stderr.startswith("lab.toml: [lab] region = 'xx-nowhere-1' is not allowed; AWS publishes no training")
    assert done.stderr.count("\n") == 1


def test_the_cli_finds_the_app() -> None:
    assert json.loads((ROOT / "cdk.json").read_text("utf-8"))["app"] == "python3 -m infra.app"


@pytest.mark.slow
def test_the_wheelhouse_travels_with_the_runtime_component(project: Any) -> None:
    (project.root / "wheelhouse").mkdir()
    (project.root / "wheelhouse" / "wheels-aarch64-cp311.zip").write_bytes(b"wheels")
    done = project.lab("synth")
    assert done.returncode == 0, done.stderr
    made = json.loads((project.root / "cdk.out" / "ml-lab-dev.template.json").read_text("utf-8"))["Resources"]
    (component,) = [row for row in made.values() if row["Type"] == "AWS::GreengrassV2::ComponentVersion"]
    parts = component["Properties"]["InlineRecipe"]["Fn::Join"][1]
    recipe = json.loads("".join(part if isinstance(part, str) else "name" for part in parts))
    artifacts = [artifact["Uri"] for artifact in recipe["Manifests"][0]["Artifacts"]]
    wheels = artifacts[1].rpartition("/")[2]
    assert len(artifacts) == 2 and (project.root / "cdk.out" / f"asset.{wheels}").read_bytes() == b"wheels"
    roles = [row for row in made.values() if row["Type"].startswith("AWS::IAM::") and wheels in json.dumps(row)]
    assert roles, "the device may fetch it"
