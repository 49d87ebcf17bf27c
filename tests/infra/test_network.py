"""The private network: nothing leaves it but through doors of AWS services, and everything that runs stands in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import assembly as assemblies

pytestmark = pytest.mark.slow

JOBS = ("Train", "Evaluate", "Export")
# What a service does on behalf of a role, from its own network: Lambda and SageMaker write logs, SageMaker pulls
# images, S3 and DynamoDB ask KMS, interfaces are made by whoever attaches them.
BY_THE_SERVICE = {"ec2", "ecr", "kms", "logs"}
DOOR = {"cloudwatch": "monitoring", "iot": "iot.api", "sagemaker": "sagemaker.api"}


def kinds(assembly: Any) -> set[str]:
    return {row["Type"] for row in assembly.template["Resources"].values()}


def doors(assembly: Any) -> dict[str, dict[str, Any]]:
    """Endpoints by the service that they lead to."""
    return {row["ServiceName"]: row for row in assembly.of_type("AWS::EC2::VPCEndpoint").values()}


def granted(assembly: Any, logical: str) -> Iterator[str]:
    """Service prefixes of what a role may do."""
    for policy in assembly.of_type("AWS::IAM::Role")[logical]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            actions = statement["Action"]
            yield from (action.partition(":")[0] for action in ([actions] if isinstance(actions, str) else actions))


def test_the_default_stack_has_no_network_of_its_own(assembly: Any) -> None:
    assert not [kind for kind in kinds(assembly) if kind.startswith("AWS::EC2::")]
    assert not [row for row in assembly.of_type("AWS::Lambda::Function").values() if "VpcConfig" in row]
    states = assembly.machine("ml-lab-dev-flow")["States"]
    assert all("VpcConfig" not in json.dumps(states[name]) for name in JOBS)


def test_no_route_leaves_the_private_network(private: Any) -> None:
    leading_out = ("InternetGateway", "NatGateway", "EIP", "::Route", "TransitGateway", "Peering", "VPCGateway", "VPN")
    found = [kind for kind in kinds(private) if kind.startswith("AWS::EC2::") and kind.endswith(leading_out)]
    assert not found
    subnets = private.of_type("AWS::EC2::Subnet")
    assert len(subnets) == 2 and not any(subnet["MapPublicIpOnLaunch"] for subnet in subnets.values())
    routed = {row["SubnetId"]["Ref"] for row in private.of_type("AWS::EC2::SubnetRouteTableAssociation").values()}
    assert routed == set(subnets)


def test_every_function_job_and_model_stands_in_the_private_subnets(private: Any) -> None:
    subnets = set(private.of_type("AWS::EC2::Subnet"))
    for function in private.of_type("AWS::Lambda::Function").values():
        assert {row["Ref"] for row in function["VpcConfig"]["SubnetIds"]} == subnets
    states = private.machine("ml-lab-dev-flow")["States"]
    placed = [states["Train"]["Parameters"], *(states[name]["Parameters"]["NetworkConfig"] for name in JOBS[1:])]
    placed.append(private.machine("ml-lab-dev-release")["States"]["CreateModel"]["Parameters"])
    for request in placed:
        assert request["VpcConfig"]["Subnets"] == [f"<{subnet}>" for subnet in private.of_type("AWS::EC2::Subnet")]
    (connection,) = private.of_type("AWS::Glue::Connection").values()
    (job,) = private.of_type("AWS::Glue::Job").values()
    assert job["Connections"]["Connections"] == [connection["ConnectionInput"]["Name"]]
    assert connection["ConnectionInput"]["PhysicalConnectionRequirements"]["SubnetId"]["Ref"] in subnets


def test_every_service_that_functions_and_jobs_call_has_a_door(private: Any) -> None:
    there = {name.partition("us-east-1.")[2] for name in doors(private)}
    roles = [row["Role"]["Fn::GetAtt"][0] for row in private.of_type("AWS::Lambda::Function").values()]
    roles += [name for name in private.of_type("AWS::IAM::Role") if name.startswith(("TrainingJobRole", "ServingRole"))]
    assert len(roles) == len(private.of_type("AWS::Lambda::Function")) + 2
    for role in roles:
        for service in set(granted(private, role)) - BY_THE_SERVICE:
            assert DOOR.get(service, service) in there, f"{role} calls {service}"


def test_a_door_serves_this_account_alone_and_no_bucket_or_table_of_another(private: Any) -> None:
    own = {"Ref": "AWS::AccountId"}
    for name, door in doors(private).items():
        if name.endswith(".iot.api"):  # the one without a policy of its own: infra/network.py says why
            continue
        (statement,) = door["PolicyDocument"]["Statement"]
        wanted = {"aws:PrincipalAccount": own}
        if door["VpcEndpointType"] == "Gateway":
            wanted["aws:ResourceAccount"] = own
        assert statement["Condition"] == {"StringEquals": wanted}, name


def test_only_the_lab_s_own_work_is_heard_and_only_over_https(private: Any) -> None:
    groups = private.of_type("AWS::EC2::SecurityGroup")
    work, doors = (next(name for name in groups if name.startswith(f"Network{word}")) for word in ("Work", "Doors"))
    assert not [group for group in groups.values() if "SecurityGroupIngress" in group]
    heard = private.of_type("AWS::EC2::SecurityGroupIngress").values()
    assert all(row["SourceSecurityGroupId"]["Fn::GetAtt"][0] == work and "CidrIp" not in row for row in heard)
    (at_the_doors,) = [row for row in heard if row["GroupId"]["Fn::GetAtt"][0] == doors]
    assert (at_the_doors["FromPort"], at_the_doors["ToPort"]) == (443, 443)
    for group in groups.values():
        assert [(row["FromPort"], row["ToPort"]) for row in group["SecurityGroupEgress"]] == [(443, 443)]


def test_who_spoke_to_whom_is_recorded_encrypted_and_for_a_time(private: Any) -> None:
    (flow,) = private.of_type("AWS::EC2::FlowLog").values()
    assert (flow["ResourceType"], flow["TrafficType"]) == ("VPC", "ALL")
    group = private.named("AWS::Logs::LogGroup", "LogGroupName", "/ml-lab-dev/flow-logs")
    assert group["KmsKeyId"] and group["RetentionInDays"]


@pytest.mark.parametrize("which", ["assembly", "private"])
def test_jobs_and_models_that_call_nothing_have_no_network(which: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(which)
    states = made.machine("ml-lab-dev-flow")["States"]
    assert states["Train"]["Parameters"]["EnableNetworkIsolation"] is True
    assert states["Export"]["Parameters"]["NetworkConfig"]["EnableNetworkIsolation"] is True
    # It asks the model registry for the champion.
    assert states["Evaluate"]["Parameters"]["NetworkConfig"]["EnableNetworkIsolation"] is False
    model = made.machine("ml-lab-dev-release")["States"]["CreateModel"]["Parameters"]
    # A serverless endpoint takes neither setting.
    assert model.get("EnableNetworkIsolation", False) is (which == "private")


def test_what_tracks_keeps_its_network_and_several_hosts_encrypt_what_they_say(synthesize: Any, tmp_path: Path) -> None:
    app = "arn:aws:sagemaker:us-east-1:123456789012:mlflow-app/app-1"
    asked = {"security": {"network": "vpc"}, "serving": {"serverless": False}, "train": {"mlflow": app, "instances": 2}}
    made = synthesize(tmp_path / "cdk.out", LAB_OVERRIDES=json.dumps(asked))
    train = made.machine("ml-lab-dev-flow")["States"]["Train"]["Parameters"]
    assert train["EnableNetworkIsolation"] is False
    assert train["EnableInterContainerTrafficEncryption"] is True
    assert "aws.sagemaker.us-east-1.experiments" in doors(made)


def test_glue_installs_wheels_that_the_image_build_fetched(private: Any, assembly: Any) -> None:
    def build(made: Any) -> tuple[str, list[str], dict[str, Any]]:
        buildspec = made.file_of_image("job", "buildspec.yml")
        project = made.named("AWS::CodeBuild::Project", "Name", "ml-lab-dev-job-image")
        (job,) = made.of_type("AWS::Glue::Job").values()
        variables = [row["Name"] for row in project["Environment"]["EnvironmentVariables"]]
        return buildspec, variables, job["DefaultArguments"]

    buildspec, variables, arguments = build(private)
    assert "pip download" in buildspec and "WHEELS" in variables
    assert buildspec.index("aws s3 cp wheels.zip") < buildspec.index("docker push")
    assert private.text(arguments["--additional-python-modules"]).endswith(".gluewheels.zip")
    assert arguments["--python-modules-installer-option"] == "--no-index"
    assert "numpy==" in private.file_of_image("job", "glue-requirements.txt")
    buildspec, variables, arguments = build(assembly)
    assert "pip download" not in buildspec and "WHEELS" not in variables
    assert arguments["--additional-python-modules"].startswith("numpy==")
    with pytest.raises(KeyError):
        assembly.file_of_image("job", "glue-requirements.txt")


def test_the_desk_covers_the_private_network(private: Any) -> None:
    assemblies.load(private.path).check()
