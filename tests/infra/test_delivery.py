"""Who may deploy: one repository in one environment, without a key; or a pipeline that asks before prod."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import config
from infra.config import ConfigError
from lab import assembly as assemblies

ROOT = Path(__file__).parents[2]
CONNECTION = "arn:aws:codeconnections:us-east-1:123456789012:connection/0123"
ISSUER = "token.actions.githubusercontent.com"


@pytest.fixture(scope="module")
def made(synthesize: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """The assembly of an environment with a `[delivery]` table; both stand in cdk-nag's sight."""
    folder = tmp_path_factory.mktemp("delivery")

    def make(environment: str, **delivery: str) -> Any:
        out = folder / f"{environment}-{'-'.join(delivery) or 'none'}"
        over = {"lab": {"environment": environment}, "delivery": delivery}
        return synthesize(out, LAB_OVERRIDES=json.dumps(over))

    return make


@pytest.fixture(scope="module")
def github(made: Callable[..., Any]) -> Any:
    return made("dev", github="acme/defects")


@pytest.fixture(scope="module")
def pipeline(made: Callable[..., Any]) -> Any:
    return made("prod", connection=CONNECTION, repository="acme/defects")


def roles(assembly: Any, principal: str) -> Iterator[dict[str, Any]]:
    for role in assembly.of_type("AWS::IAM::Role").values():
        if principal in json.dumps(role["AssumeRolePolicyDocument"]):
            yield role


def actions(role: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for statement in role["Policies"][0]["PolicyDocument"]["Statement"]:
        given = statement["Action"]
        found |= {given} if isinstance(given, str) else set(given)
    return found


@pytest.mark.slow
def test_a_workflow_of_one_repository_in_one_environment_takes_the_role_and_no_other(github: Any) -> None:
    (provider,) = github.of_type("AWS::IAM::OIDCProvider").values()
    assert (provider["Url"], provider["ClientIdList"]) == (f"https://{ISSUER}", ["sts.amazonaws.com"])
    (role,) = roles(github, "AssumeRoleWithWebIdentity")
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Condition"] == {
        "StringEquals": {f"{ISSUER}:aud": "sts.amazonaws.com", f"{ISSUER}:sub": "repo:acme/defects:environment:dev"}
    }
    assert trust["Action"] == "sts:AssumeRoleWithWebIdentity" and list(trust["Principal"]) == ["Federated"]


@pytest.mark.slow
def test_the_role_asks_cloudformation_to_change_this_stack_and_holds_no_right_over_services(github: Any) -> None:
    (role,) = roles(github, "AssumeRoleWithWebIdentity")
    assert {action.partition(":")[0] for action in actions(role)} == {
        *("cloudformation", "ec2", "iam", "s3", "servicequotas", "ssm")
    }
    said = role["Policies"][0]["PolicyDocument"]["Statement"]
    (passed,) = [one for one in said if one["Action"] == "iam:PassRole"]
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}
    assert ":role/cdk-hnb659fds-cfn-exec-role-" in github.text(passed["Resource"])
    (stack,) = [one for one in said if "cloudformation:ExecuteChangeSet" in one["Action"]]
    assert github.text(stack["Resource"]).endswith(":stack/ml-lab-dev/*")
    (objects,) = [one for one in said if "s3:PutObject" in one["Action"]]
    assert ":::cdk-hnb659fds-assets-" in github.text(objects["Resource"])


@pytest.mark.slow
def test_a_role_that_deploys_has_a_boundary_of_its_own_and_no_other_role_may_ever_deploy(
    github: Any, pipeline: Any, assembly: Any
) -> None:
    for made in (github, pipeline):
        policies = made.of_type("AWS::IAM::ManagedPolicy")
        deploys = {name for name, policy in policies.items() if "ExecuteChangeSet" in json.dumps(policy)}
        bounded = [
            role for role in made.of_type("AWS::IAM::Role").values() if role["PermissionsBoundary"]["Ref"] in deploys
        ]
        assert len(bounded) == 1 and "cloudformation:ExecuteChangeSet" in actions(bounded[0])
        # IAM's limit of a managed policy, white space aside.
        assert all(len(re.sub(r"\s", "", json.dumps(policy))) < 6144 for policy in policies.values())
    assert "ExecuteChangeSet" not in json.dumps(assembly.template)
    assert CONNECTION in json.dumps(pipeline.of_type("AWS::IAM::ManagedPolicy"))


@pytest.mark.slow
def test_a_second_stack_of_the_account_uses_the_provider_that_is_there(made: Callable[..., Any]) -> None:
    second = made("prod", github="acme/defects", provider="existing")
    assert second.of_type("AWS::IAM::OIDCProvider") == {}
    (role,) = roles(second, "AssumeRoleWithWebIdentity")
    trust = json.dumps(role["AssumeRolePolicyDocument"])
    assert f"oidc-provider/{ISSUER}" in trust and "repo:acme/defects:environment:prod" in trust


@pytest.mark.slow
def test_without_github_a_pipeline_checks_asks_and_deploys(pipeline: Any, made: Callable[..., Any]) -> None:
    (row,) = pipeline.of_type("AWS::CodePipeline::Pipeline").values()
    assert [stage["Name"] for stage in row["Stages"]] == ["Source", "Check", "Approve", "Deploy"]
    (approval,) = row["Stages"][2]["Actions"]
    assert approval["ActionTypeId"]["Provider"] == "Manual"
    (source,) = row["Stages"][0]["Actions"]
    assert source["Configuration"]["FullRepositoryId"] == "acme/defects"
    ran = {
        project["Name"]: json.loads(project["Source"]["BuildSpec"])["phases"]["build"]["commands"][-1]
        for project in pipeline.of_type("AWS::CodeBuild::Project").values()
        if project["Source"]["Type"] == "CODEPIPELINE"
    }
    assert ran == {
        "ml-lab-prod-delivery-check": "make check",
        "ml-lab-prod-delivery-deploy": ".venv/bin/lab deploy --yes",
    }


@pytest.mark.slow
def test_of_the_pipeline_s_roles_only_the_one_that_deploys_may_deploy(pipeline: Any) -> None:
    may = [
        role["Description"]
        for role in pipeline.of_type("AWS::IAM::Role").values()
        if "iam:PassRole" in actions(role) and "codebuild" in json.dumps(role["AssumeRolePolicyDocument"])
    ]
    assert may == ["Runs deploy of the delivery"]


@pytest.mark.slow
def test_the_desk_covers_both_cfn_lint_finds_nothing_and_a_stack_that_nobody_delivers_has_neither(
    github: Any, pipeline: Any, assembly: Any
) -> None:
    for one in (github, pipeline):
        assemblies.load(one.path).check()
        assert one.lint() == ""
    kinds = {row["Type"] for row in assembly.template["Resources"].values()}
    assert not kinds & {"AWS::IAM::OIDCProvider", "AWS::CodePipeline::Pipeline"}
    assert list(roles(assembly, "AssumeRoleWithWebIdentity")) == []


@pytest.mark.parametrize(
    ("delivery", "said"),
    [
        ({"github": "acme"}, "[delivery] github = 'acme' is not allowed"),
        ({"github": "acme/*"}, "[delivery] github = 'acme/*' is not allowed"),
        ({"github": "a/b", "connection": CONNECTION, "repository": "a/b"}, "one of them deploys"),
        ({"connection": CONNECTION}, "connection and repository come together"),
        ({"connection": "arn:aws:iam::1:x", "repository": "a/b"}, "[delivery] connection = "),
    ],
)
def test_a_delivery_that_cannot_be_is_refused(delivery: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse({"delivery": delivery})
    assert said in str(caught.value)
