"""The policy simulator decides as IAM does."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.iam.responses import IamResponse

from lab import iam
from lab.engine import Engine


@pytest.fixture
def decide(desk: Engine, itself: Callable[..., None], role: Callable[..., str]) -> Callable[..., Any]:
    """Gives the decision on an action and a resource under the statements of one inline policy."""
    itself(IamResponse)
    iam.install(desk)
    arn = role("r", "sagemaker")

    def ask(statements: list[dict[str, Any]], action: str, resource: str, **context: str) -> Any:
        client = desk.client("iam")
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        client.put_role_policy(RoleName="r", PolicyName="work", PolicyDocument=document)
        entries = [
            {"ContextKeyName": key.replace("_", ":"), "ContextKeyValues": [value], "ContextKeyType": "string"}
            for key, value in context.items()
        ]
        found = client.simulate_principal_policy(
            PolicySourceArn=arn, ActionNames=[action], ResourceArns=[resource], ContextEntries=entries
        )
        return found["EvaluationResults"][0]

    return ask


OBJECT = "arn:aws:s3:::data/curated/x"
ALLOW = {"Effect": "Allow", "Action": ["s3:Get*", "s3:PutObject"], "Resource": "arn:aws:s3:::data/*"}


@pytest.mark.parametrize(
    ("statements", "action", "decision"),
    [
        ([ALLOW], "s3:GetObject", "allowed"),
        ([ALLOW], "S3:putobject", "allowed"),
        ([ALLOW], "s3:DeleteObject", "implicitDeny"),
        ([ALLOW, {"Effect": "Deny", "NotAction": "s3:PutObject", "Resource": "*"}], "s3:GetObject", "explicitDeny"),
        (
            [{"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::data/curated/?"}],
            "s3:GetObject",
            "implicitDeny",
        ),
        ([{**ALLOW, "Condition": {"StringEquals": {"aws:PrincipalTag": "a"}}}], "s3:GetObject", "implicitDeny"),
    ],
)
def test_a_decision_follows_the_statements(
    decide: Callable[..., Any], statements: list[dict[str, Any]], action: str, decision: str
) -> None:
    assert decide(statements, action, OBJECT)["EvalDecision"] == decision


def test_a_condition_is_met_by_the_context_and_missing_context_is_named(decide: Callable[..., Any]) -> None:
    statement = {
        **ALLOW,
        "Condition": {"StringLike": {"kms:ViaService": "s3.*"}, "Bool": {"aws:SecureTransport": True}},
    }
    found = decide([statement], "s3:GetObject", OBJECT, kms_ViaService="s3.us-east-1")
    assert (found["EvalDecision"], found["MissingContextValues"]) == ("implicitDeny", ["aws:SecureTransport"])
    context = {"kms_ViaService": "s3.us-east-1", "aws_SecureTransport": "true"}
    assert decide([statement], "s3:GetObject", OBJECT, **context)["EvalDecision"] == "allowed"


def test_an_operator_that_is_not_covered_is_refused_by_name(decide: Callable[..., Any]) -> None:
    with pytest.raises(ClientError, match="IpAddress is not covered"):
        decide([{**ALLOW, "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}], "s3:GetObject", OBJECT)
