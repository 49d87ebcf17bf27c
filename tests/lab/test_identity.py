"""A service assumes a role only as the role's trust policy says."""

import json
from typing import Any

import pytest

from lab import identity
from lab.engine import Engine

ALLOW = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "sagemaker.amazonaws.com"}}
OF = "aws:SourceAccount"


@pytest.mark.parametrize(
    ("statements", "trusted"),
    [
        ([ALLOW], True),
        ([{**ALLOW, "Principal": {"Service": "glue.amazonaws.com"}}], False),
        ([{**ALLOW, "Condition": {"StringEquals": {OF: "123456789012"}}}], True),
        ([{**ALLOW, "Condition": {"StringEquals": {OF: "999999999999"}}}], False),
        ([ALLOW, {**ALLOW, "Effect": "Deny"}], False),
        ([{**ALLOW, "Action": "sts:TagSession"}], False),
    ],
)
def test_the_trust_policy_decides_with_its_conditions(desk: Engine, statements: list[Any], trusted: bool) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    made = desk.client("iam").create_role(RoleName="job", AssumeRolePolicyDocument=document)
    if trusted:
        identity.require(desk, made["Role"]["Arn"], "sagemaker")
        return
    with pytest.raises(identity.RoleError, match=r"allows principal 'sagemaker\.amazonaws\.com'"):
        identity.require(desk, made["Role"]["Arn"], "sagemaker")


def test_a_role_that_is_not_there_is_trusted_by_no_one(desk: Engine) -> None:
    with pytest.raises(identity.RoleError, match="Could not assume role"):
        identity.require(desk, "arn:aws:iam::123456789012:role/none", "sagemaker")
