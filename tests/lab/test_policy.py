"""Policies decide as IAM's documentation says they do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import policy

ROLE = "arn:aws:iam::123456789012:role/train"
OBJECT = "arn:aws:s3:::data/runs/1/model"
READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/*"}
DENY = {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::data/runs/*"}


def decide(
    *identity: dict[str, Any],
    boundary: list[dict[str, Any]] | None = None,
    resource: list[dict[str, Any]] | None = None,
    both: bool = False,
    action: str = "s3:GetObject",
    on: str = OBJECT,
    who: str = ROLE,
    **context: list[str],
) -> policy.Decision:
    def read(found: list[dict[str, Any]], name: str) -> list[policy.Statement]:
        return policy.statements({"Statement": found}, name)

    fence = None if boundary is None else read(boundary, "boundary")
    policies = policy.Policies(read(list(identity), "work"), fence, read(resource or [], "bucket"), both)
    keys = {key.replace("__", ":").lower(): value for key, value in context.items()}
    return policy.decide(policies, policy.Request(who, action, on, keys))


def test_nothing_is_allowed_that_no_statement_allows() -> None:
    assert decide().kind == policy.SILENT
    assert decide(READ, action="s3:PutObject").kind == policy.SILENT
    assert decide(READ, on="arn:aws:s3:::other/x").lacks == "an identity policy"


def test_a_deny_wins_over_every_allow_and_is_named() -> None:
    found = decide(READ, DENY)
    assert found.kind == policy.DENIED and [one.name for one in found.by] == ["work[2]"]
    assert decide(READ, resource=[{**DENY, "Principal": "*"}]).kind == policy.DENIED


@pytest.mark.parametrize(
    ("boundary", "allowed"),
    [([READ], True), ([{**READ, "Action": "s3:PutObject"}], False), ([READ, DENY], False), ([], False)],
)
def test_a_boundary_must_allow_what_the_role_is_allowed(boundary: list[dict[str, Any]], allowed: bool) -> None:
    assert decide(READ, boundary=boundary).allowed is allowed


def test_a_boundary_alone_allows_nothing() -> None:
    assert not decide(boundary=[READ]).allowed


def test_what_a_resources_policy_gives_to_a_role_stays_within_its_boundary() -> None:
    given = [{**READ, "Principal": {"AWS": ROLE}}]
    assert decide(resource=given, boundary=[READ]).allowed
    refused = decide(resource=given, boundary=[{**READ, "Action": "s3:PutObject"}])
    assert (refused.kind, refused.lacks) == ("implicitDeny", "the permissions boundary")


def test_a_resources_policy_that_names_the_role_allows_by_itself_and_one_that_names_the_account_does_not() -> None:
    assert decide(resource=[{**READ, "Principal": {"AWS": ROLE}}]).allowed
    assert not decide(resource=[{**READ, "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}]).allowed
    assert not decide(resource=[{**READ, "Principal": {"AWS": "arn:aws:iam::999999999999:role/train"}}]).allowed


def test_a_key_wants_its_own_policy_and_the_roles() -> None:
    use = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}
    account = {**use, "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}
    about: dict[str, Any] = {"action": "kms:Decrypt", "on": "arn:aws:kms:us-east-1:123456789012:key/k", "both": True}
    assert decide(use, resource=[account], **about).allowed
    assert not decide(use, **about).allowed
    assert not decide(resource=[account], **about).allowed


def test_a_service_is_allowed_by_the_resources_policy_for_its_source_alone() -> None:
    source = {"ArnLike": {"aws:SourceArn": "arn:aws:iot:*:*:rule/mine"}}
    own = {
        "Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*",
        "Principal": {"Service": "iot.amazonaws.com"}, "Condition": source,
    }  # fmt: skip
    about: dict[str, Any] = {"resource": [own], "action": "lambda:InvokeFunction", "who": "iot.amazonaws.com"}
    assert decide(**about, aws__SourceArn=["arn:aws:iot:us-east-1:1:rule/mine"]).allowed
    assert not decide(**about, aws__SourceArn=["arn:aws:iot:us-east-1:1:rule/theirs"]).allowed
    assert not decide(**{**about, "who": "events.amazonaws.com"}, aws__SourceArn=["arn:aws:iot:a:1:rule/mine"]).allowed


def test_a_policy_variable_is_filled_from_the_context_and_matches_nothing_without_it() -> None:
    own = {**READ, "Resource": "arn:aws:s3:::data/raw/${credentials-iot:ThingName}/*"}
    path = "arn:aws:s3:::data/raw/desk-1/x"
    assert decide(own, on=path, **{"credentials-iot__ThingName": ["desk-1"]}).allowed
    assert not decide(own, on=path, **{"credentials-iot__ThingName": ["desk-2"]}).allowed
    assert not decide(own, on=path).allowed


@pytest.mark.parametrize(
    ("condition", "values", "met"),
    [
        ({"StringEquals": {"s3:prefix": ["a", "b"]}}, ["b"], True),
        ({"StringEquals": {"s3:prefix": "a"}}, None, False),
        ({"StringEqualsIfExists": {"s3:prefix": "a"}}, None, True),
        ({"StringNotEquals": {"s3:prefix": "a"}}, ["a"], False),
        ({"StringNotEquals": {"s3:prefix": "a"}}, None, True),
        ({"StringLike": {"s3:prefix": "raw/*"}}, ["raw/digits"], True),
        ({"ForAllValues:StringLike": {"s3:prefix": "raw/*"}}, ["raw/a", "x"], False),
        ({"ForAnyValue:StringLike": {"s3:prefix": "raw/*"}}, ["raw/a", "x"], True),
        ({"Null": {"s3:prefix": "true"}}, None, True),
        ({"Null": {"s3:prefix": True}}, ["a"], False),
        ({"NumericLessThan": {"s3:prefix": 1.2}}, ["1.3"], False),
        ({"Bool": {"s3:prefix": True}}, ["true"], True),
    ],
)
def test_conditions_hold_as_documented(condition: dict[str, Any], values: list[str] | None, met: bool) -> None:
    context = {} if values is None else {"s3__prefix": values}
    assert decide({**READ, "Condition": condition}, **context).allowed is met


def test_an_operator_that_is_not_covered_is_refused_by_name() -> None:
    with pytest.raises(policy.Unevaluable, match="DateLessThan"):
        decide({**READ, "Condition": {"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}})


def test_notaction_and_notresource_mean_everything_else() -> None:
    others = {"Effect": "Allow", "NotAction": "s3:Delete*", "NotResource": "arn:aws:s3:::data/raw/*"}
    assert decide(others).allowed
    assert not decide(others, action="s3:DeleteObject").allowed
    assert not decide(others, on="arn:aws:s3:::data/raw/x").allowed


@given(st.text(alphabet="ab*?", max_size=6), st.text(alphabet="ab", max_size=6))
def test_wildcards_match_as_a_slow_reading_of_them_does(pattern: str, value: str) -> None:
    def slow(pattern: str, value: str) -> bool:
        if not pattern:
            return not value
        if pattern[0] == "*":
            return slow(pattern[1:], value) or (bool(value) and slow(pattern, value[1:]))
        return bool(value) and pattern[0] in ("?", value[0]) and slow(pattern[1:], value[1:])

    assert policy.like(pattern, value) is slow(pattern, value)
