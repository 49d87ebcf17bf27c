"""What a real device gets to join with, and the templates that the desk keeps."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.iot.responses import IoTResponse

from lab import provision, provisioning
from lab.engine import Engine
from lab.errors import LabError
from lab.stack import Stack

BODY = {
    "Parameters": {"ThingName": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
    "Resources": {
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}},
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}},
        },
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "p"}},
    },
}
OUTPUTS = {
    "CoreGroup": "lab-dev-core", "CanaryGroup": "lab-dev-canary", "FleetGroup": "lab-dev-fleet",
    "ProvisioningTemplate": "lab-dev-join",
}  # fmt: skip


@pytest.fixture
def stack(desk: Engine) -> Stack:
    return Stack(desk, "lab-dev", OUTPUTS, {})


def test_both_nuclei_get_template_alias_and_thing_and_no_endpoint_of_this_desk(stack: Stack, tmp_path: Path) -> None:
    found = provision.provision(stack, "line-3", "canary", tmp_path / "out")
    assert (found["thing"], found["groups"]) == ("lab-dev-line-3", "lab-dev-core lab-dev-canary")
    lite = json.loads((tmp_path / "out" / "config-lite.yaml.in").read_text())
    classic = json.loads((tmp_path / "out" / "config-classic.yaml.in").read_text())
    joining = lite["services"]["aws.greengrass.fleet_provisioning"]["configuration"]
    nucleus = lite["services"]["aws.greengrass.NucleusLite"]["configuration"]
    assert (joining["templateName"], joining["templateParams"]) == ("lab-dev-join", {"ThingName": "lab-dev-line-3"})
    # Filled in there, nucleus lite would not provision.
    assert nucleus["iotDataEndpoint"] == nucleus["iotCredEndpoint"] == lite["system"]["thingName"] == ""
    plugin = classic["services"]["aws.greengrass.FleetProvisioningByClaim"]["configuration"]
    assert (plugin["provisioningTemplate"], plugin["iotRoleAlias"]) == ("lab-dev-join", "lab-dev-device")
    assert "127.0.0.1" not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("script", ["register.sh", "join.sh"])
def test_the_scripts_are_what_a_shell_can_read(stack: Stack, tmp_path: Path, script: str) -> None:
    provision.provision(stack, "lab-dev-line-3", "fleet", tmp_path / "out")
    done = subprocess.run(["sh", "-n", str(tmp_path / "out" / script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / script).stat().st_mode & 0o111


def test_a_name_that_a_shell_would_take_apart_is_refused(stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is no name for a thing"):
        provision.provision(stack, "a; rm -rf /", "fleet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def iot(desk: Engine, itself: Callable[..., None]) -> Iterator[Any]:
    itself(IoTResponse)
    provisioning.install(desk)
    yield desk.client("iot")


def create(iot: Any, body: Any = BODY, **more: Any) -> None:
    role = "arn:aws:iam::123456789012:role/r"
    iot.create_provisioning_template(
        templateName="join", templateBody=json.dumps(body), provisioningRoleArn=role, enabled=True, **more
    )


def test_a_template_is_kept_changed_listed_and_deleted(iot: Any) -> None:
    hook = {"payloadVersion": "2020-04-01", "targetArn": "arn:aws:lambda:us-east-1:123456789012:function:f"}
    create(iot, preProvisioningHook=hook)
    found = iot.describe_provisioning_template(templateName="join")
    assert (json.loads(found["templateBody"]), found["preProvisioningHook"], found["enabled"]) == (BODY, hook, True)
    iot.update_provisioning_template(templateName="join", enabled=False, removePreProvisioningHook=True)
    found = iot.describe_provisioning_template(templateName="join")
    assert found["enabled"] is False and "preProvisioningHook" not in found
    assert [row["templateName"] for row in iot.list_provisioning_templates()["templates"]] == ["join"]
    with pytest.raises(ClientError, match="exists"):
        create(iot)
    iot.delete_provisioning_template(templateName="join")
    with pytest.raises(ClientError, match="there is no provisioning template join"):
        iot.describe_provisioning_template(templateName="join")


@pytest.mark.parametrize(
    ("resources", "says"),
    [
        ({**BODY["Resources"], "x": {"Type": "AWS::IoT::ThingGroup"}}, "the type AWS::IoT::ThingGroup"),
        ({"thing": BODY["Resources"]["thing"]}, "has no AWS::IoT::Certificate"),
        (
            {**BODY["Resources"], "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "X"}}}},
            "to X",
        ),
    ],
)
def test_a_body_that_aws_would_not_take_is_refused(iot: Any, resources: Any, says: str) -> None:
    with pytest.raises(ClientError, match=says):
        create(iot, {**BODY, "Resources": resources})
