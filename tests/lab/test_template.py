"""What a template may hold: every refusal names the resource, its type and what is wrong with it."""

from typing import Any

import pytest

from lab.resources import KINDS
from lab.template import as_text, needs, order, refusals


def template(**resources: Any) -> dict[str, Any]:
    return {"Resources": resources}


def bucket(**properties: Any) -> dict[str, Any]:
    return {"Type": "AWS::S3::Bucket", "Properties": properties}


def test_a_covered_template_is_not_refused() -> None:
    whole = template(A=bucket(), B=bucket(BucketName={"Fn::Sub": "${A}-b"}))
    whole["Outputs"] = {"Arn": {"Value": {"Fn::GetAtt": ["A", "Arn"]}}}
    assert refusals(whole, KINDS) == []


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        ({"Type": "AWS::Lunar::Base"}, "resource A: the type AWS::Lunar::Base is not covered"),
        ({"Type": "Custom::Thing"}, "resource A: the type Custom::Thing is not covered"),
        (bucket(ReplicationConfiguration={}), "resource A (AWS::S3::Bucket): the property ReplicationConfiguration"),
        ({**bucket(), "CreationPolicy": {}}, "resource A (AWS::S3::Bucket): CreationPolicy is not covered"),
        (bucket(BucketName={"Fn::Cidr": []}), "resource A: the function Fn::Cidr is not covered"),
        (bucket(BucketName={"Ref": "Nobody"}), "resource A: refers to Nobody, which is not in the template"),
        (bucket(BucketName={"Fn::Sub": "${Nobody}"}), "resource A: refers to Nobody"),
        (bucket(BucketName={"Fn::GetAtt": ["B", "Colour"]}), "resource A: the attribute Colour of B (AWS::S3::Bucket)"),
        (bucket(BucketName={"Ref": "B"}), "circular dependency: A -> B -> A"),
    ],
)
def test_what_is_not_covered_is_named(resource: dict[str, Any], said: str) -> None:
    whole = template(A=resource, B=bucket(BucketName={"Fn::Join": ["", [{"Ref": "A"}, "b"]]}))
    assert any(said in line for line in refusals(whole, KINDS)), refusals(whole, KINDS)


@pytest.mark.parametrize("section", ["Transform", "Hooks"])
def test_a_section_that_nothing_reads_is_refused(section: str) -> None:
    whole = {**template(A=bucket()), section: "AWS::Serverless-2016-10-31"}
    assert refusals(whole, KINDS) == [f"section {section} is not covered"]


def test_an_empty_template_is_refused() -> None:
    assert refusals({"Resources": {}}, KINDS) == ["there are no resources"]


def test_variables_of_a_service_in_plain_text_are_no_references() -> None:
    policy = {"Statement": [{"Resource": "arn:aws:iot:::client/${iot:Connection.Thing.ThingName}"}]}
    resource = {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": policy}}
    assert refusals(template(A=resource), KINDS) == []


def test_resources_come_after_what_they_need() -> None:
    resources = {"A": {**bucket(BucketName={"Ref": "C"}), "DependsOn": "B"}, "B": bucket(), "C": bucket()}
    assert needs(resources["A"]) == ["B", "C"]
    assert order(resources) == ["B", "C", "A"]


def test_every_kind_says_how_it_is_covered_and_what_has_no_effect() -> None:
    for kind in KINDS.values():
        assert kind.how in ("executed", "emulated")
        assert set(kind.inert) <= kind.properties, kind.type


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("plain", "plain"),
        (7, "7"),
        ({"Ref": "B"}, "<B>"),
        ({"Fn::Join": ["-", ["a", {"Ref": "B"}, {"Fn::Join": ["/", ["c", "d"]]}]]}, "a-<B>-c/d"),
        ({"Fn::Sub": "x-${B}-${C.Arn}-${!kept}"}, "x-<B>-<C.Arn>-${kept}"),
        ({"Fn::Sub": ["${own}/${B}", {"own": {"Fn::Join": ["", ["q", 7]]}}]}, "q7/<B>"),
        ({"Fn::Select": [0, []]}, "<Fn::Select>"),
    ],
)
def test_a_value_is_told_as_text_with_its_references_as_the_caller_says(value: Any, said: str) -> None:
    def told(other: Any) -> str:
        return f"<{other.get('Ref') or '.'.join(other.get('Fn::GetAtt', other))}>"

    assert as_text(value, told) == said
