"""Permissions: what is wide says why, and the reason is tied to that one finding."""

import os

import pytest

from infra.app import use_own_node

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def node() -> None:
    use_own_node(os.environ)


@pytest.mark.parametrize(
    ("actions", "on"), [(["s3:Get*"], ["arn:aws:s3:::b/k"]), (["s3:GetObject"], ["arn:aws:s3:::b/*"]), (["x:Y"], ["*"])]
)
def test_a_wildcard_without_a_reason_is_refused(actions: list[str], on: list[str]) -> None:
    from infra.permissions import Allow, WidePermission

    with pytest.raises(WidePermission, match="a wildcard needs its reason"):
        Allow(actions=actions, on=on)
    assert Allow(actions=actions, on=on, why="the object's name is chosen by the service").statement()


def test_a_narrow_statement_needs_no_reason() -> None:
    from infra.permissions import Allow

    assert Allow(actions=["s3:GetObject"], on=["arn:aws:s3:::b/k"]).why == ""


def test_a_finding_is_written_as_cdk_nag_writes_it() -> None:
    from infra.permissions import finding

    joined = {
        "Fn::Join": ["", ["arn:", {"Ref": "AWS::Partition"}, ":s3:::", {"Fn::GetAtt": ["Data", "Arn"]}, "/raw/*"]]
    }
    assert finding(joined) == "arn:<AWS::Partition>:s3:::<Data.Arn>/raw/*"
    assert finding("arn:aws:s3:::b/${aws:username}/*") == "arn:aws:s3:::b/<aws:username>/*"
