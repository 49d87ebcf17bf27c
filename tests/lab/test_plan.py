"""What a deployment changes, as people read it: resources, and every permission."""

from typing import Any

from lab.plan import permissions, plan


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def role(action: str, on: str = "*") -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": on}
    trust = {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda"}}]}
    inline = {"PolicyName": "work", "PolicyDocument": {"Statement": [statement]}}
    return resource("AWS::IAM::Role", AssumeRolePolicyDocument=trust, Policies=[inline])


def template(**resources: Any) -> dict[str, Any]:
    return {"Resources": resources}


def test_a_first_deployment_adds_everything_and_says_how_many_of_each_type() -> None:
    found = plan({}, template(A=resource("AWS::SQS::Queue"), B=resource("AWS::SQS::Queue"), C=role("s3:GetObject")))
    assert set(found.added) == {"A", "B", "C"} and not found.changed and not found.removed
    assert next(found.lines()) == "3 resources are made: 1 IAM::Role, 2 SQS::Queue"


def test_what_is_changed_and_removed_is_named_with_its_type() -> None:
    old = template(A=resource("AWS::SQS::Queue", QueueName="a"), B=resource("AWS::SNS::Topic"))
    found = plan(old, template(A=resource("AWS::SQS::Queue", QueueName="z")))
    lines = list(found.lines())
    assert "~ A (AWS::SQS::Queue)" in lines and "- B (AWS::SNS::Topic)" in lines


def test_the_same_template_again_changes_nothing() -> None:
    same = template(A=resource("AWS::SQS::Queue"), C=role("s3:GetObject"))
    assert plan(same, same).nothing and list(plan(same, same).lines()) == ["no resource changes"]


def test_a_permission_that_a_role_gains_and_one_that_it_loses_stand_as_lines() -> None:
    found = plan(template(C=role("s3:GetObject", "a")), template(C=role("s3:PutObject", "a")))
    assert found.permissions_added == ("C: Allow s3:PutObject on a",)
    assert found.permissions_removed == ("C: Allow s3:GetObject on a",)
    assert "+ C: Allow s3:PutObject on a" in list(found.lines())


def test_trust_boundary_conditions_and_references_are_part_of_what_is_shown() -> None:
    statement = {
        "Effect": "Deny",
        "NotAction": ["s3:Get*", "s3:List*"],
        "Resource": [{"Fn::Join": ["", [{"Fn::GetAtt": ["Data", "Arn"]}, "/*"]]}],
        "Principal": {"AWS": "*"},
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    made = {
        "C": {**role("a:b"), "Properties": {**role("a:b")["Properties"], "PermissionsBoundary": {"Ref": "Boundary"}}},
        "P": resource("AWS::S3::BucketPolicy", PolicyDocument={"Statement": [statement]}),
        "L": resource(
            "AWS::Lambda::Permission", Action="lambda:InvokeFunction", FunctionName={"Ref": "F"}, Principal="sns"
        ),
    }
    lines = list(permissions(template(**made)))
    assert "C: PermissionsBoundary <Boundary>" in lines
    assert any("sts:AssumeRole by" in line for line in lines)
    assert "sns may lambda:InvokeFunction <F>" in lines
    (policy,) = [line for line in lines if line.startswith("P:")]
    assert policy.startswith("P: Deny all but s3:Get*, s3:List* on <Data.Arn>/* by") and "aws:SecureTransport" in policy
