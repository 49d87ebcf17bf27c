"""Every role has the boundary; it cuts nothing that a role needs, and admits nothing that an attacker wants."""

import fnmatch
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.slow

# What would let a role widen itself, hide, reach further, or stay.
NEVER = (
    "iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:DeleteRolePermissionsBoundary",
    "iam:CreatePolicyVersion", "iam:CreateAccessKey", "sts:AssumeRole", "organizations:LeaveOrganization",
    "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "s3:PutBucketPolicy", "s3:DeleteBucket",
    "s3:PutBucketPublicAccessBlock", "cloudtrail:StopLogging", "cloudtrail:DeleteTrail", "logs:DeleteLogGroup",
    "logs:DeleteLogStream",
    "lambda:UpdateFunctionCode", "lambda:AddPermission", "lambda:CreateFunctionUrlConfig", "ec2:RunInstances",
    "ec2:CreateInternetGateway", "ec2:AuthorizeSecurityGroupIngress", "sagemaker:CreateNotebookInstance",
    "sagemaker:CreateDomain", "iot:CreatePolicyVersion", "ecr:SetRepositoryPolicy", "events:PutPermission",
)  # fmt: skip


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def limits(assembly: Any) -> list[dict[str, Any]]:
    (policy,) = assembly.of_type("AWS::IAM::ManagedPolicy").values()
    return policy["PolicyDocument"]["Statement"]


def grants(assembly: Any) -> Iterator[tuple[str, str, str]]:
    """Role, action and resource of all that is allowed."""
    for name, role in assembly.of_type("AWS::IAM::Role").items():
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement["Effect"] == "Allow":
                    for action in listed(statement["Action"]):
                        for resource in listed(statement["Resource"]):
                            yield name, action, resolved(assembly, resource)


ACCOUNT = "123456789012"
# How the ARN of what a role names is made from the property that names it.
ARNS = {
    "AWS::S3::Bucket": ("BucketName", "arn:aws:s3:::{}"),
    "AWS::DynamoDB::Table": ("TableName", f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/{{}}"),
    "AWS::Lambda::Function": ("FunctionName", f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{{}}"),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", f"arn:aws:states:us-east-1:{ACCOUNT}:stateMachine:{{}}"),
}


def resolved(assembly: Any, value: Any) -> str:
    """A template's value in account 123456789012."""
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    if function == "Fn::Join":
        return str(argument[0]).join(resolved(assembly, part) for part in argument[1])
    if function == "Fn::Sub":
        return str(argument).replace("${AWS::AccountId}", ACCOUNT)
    if function == "Ref" and argument.startswith("AWS::"):
        return {"AWS::Partition": "aws", "AWS::AccountId": ACCOUNT}[argument]
    logical = argument if isinstance(argument, str) else argument[0]
    row = assembly.template["Resources"][logical]
    if row["Type"] == "AWS::IAM::Role":  # CloudFormation names it after stack and logical id
        return f"arn:aws:iam::{ACCOUNT}:role/ml-lab-dev-{logical}"
    if row["Type"] in ARNS:
        property, pattern = ARNS[row["Type"]]
        return pattern.format(resolved(assembly, row["Properties"][property]))
    return f"arn:aws:service:us-east-1:{ACCOUNT}:{logical}"


def within(assembly: Any, action: str, resource: str) -> bool:
    """Whether some statement of the boundary admits an action on a resource, which may itself be a pattern."""
    return any(
        any(fnmatch.fnmatchcase(action, wide) for wide in listed(limit["Action"]))
        and any(fnmatch.fnmatchcase(resource, resolved(assembly, wide)) for wide in listed(limit["Resource"]))
        for limit in limits(assembly)
    )


def test_every_role_has_the_boundary(assembly: Any) -> None:
    (policy,) = assembly.of_type("AWS::IAM::ManagedPolicy")
    for name, role in assembly.of_type("AWS::IAM::Role").items():
        assert role.get("PermissionsBoundary") == {"Ref": policy}, name


@pytest.mark.parametrize("which", ["assembly", "private"])
def test_the_boundary_cuts_nothing_that_a_role_needs(which: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(which)
    for role, action, resource in grants(made):
        assert within(made, action, resource), f"{role}: {action} on {resource}"


def test_the_boundary_admits_nothing_that_widens_hides_or_stays(assembly: Any) -> None:
    for action in NEVER:
        assert not [
            limit for limit in limits(assembly) if any(fnmatch.fnmatchcase(action, a) for a in listed(limit["Action"]))
        ], action


def test_the_boundary_ends_at_the_stack_s_names_and_region(assembly: Any) -> None:
    for limit in limits(assembly):
        places = [assembly.text(place) for place in listed(limit["Resource"])]
        if places == ["*"]:
            assert limit["Condition"] == {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}
            continue
        own = ("ml-lab-dev-*", ":s3:::cdk-*-assets-<AWS::AccountId>-us-east-1*", "/aws-service-role/")
        assert all(any(part in place for part in own) for place in places), places


def test_the_boundary_fits_into_a_managed_policy(assembly: Any) -> None:
    """6,144 characters, white space not counted. Source: IAM and STS quotas."""
    (policy,) = assembly.of_type("AWS::IAM::ManagedPolicy").values()
    document = json.dumps(policy["PolicyDocument"], separators=(",", ":"))
    assert len(document) < 6_144
