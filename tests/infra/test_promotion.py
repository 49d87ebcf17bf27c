"""Environments in accounts of their own: who may read what of whom, and nothing where there is one account."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import assembly as assemblies

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ARN = "arn:<AWS::Partition>"
DEV, PROD, EU = "111111111111", "222222222222", "333333333333"
TABLES = f"""
[environments.dev]
account = "{DEV}"
[environments.prod]
account = "{PROD}"
region = "eu-west-1"
promote_from = "dev"
[environments.lonely]
account = "{EU}"
"""


@pytest.fixture(scope="module")
def both(synthesize: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The stacks of the source and of the one that takes models from it."""
    folder = tmp_path_factory.mktemp("environments")
    settings = folder / "lab.toml"
    settings.write_text((ROOT / "tests" / "lab.toml").read_text("utf-8") + TABLES, "utf-8")
    given = {"LAB_CONFIG": str(settings)}
    return {name: synthesize(folder / name, LAB_ENVIRONMENT=name, **given) for name in ("dev", "prod")}


def shared(assembly: Any) -> list[dict[str, Any]]:
    """Every statement of a resource's policy that speaks of other environments."""
    policies = [row["PolicyDocument"] for row in assembly.of_type("AWS::S3::BucketPolicy").values()]
    policies += [row["KeyPolicy"] for row in assembly.of_type("AWS::KMS::Key").values()]
    groups = assembly.of_type("AWS::SageMaker::ModelPackageGroup").values()
    policies += [row["ModelPackageGroupPolicy"] for row in groups if "ModelPackageGroupPolicy" in row]
    every = [statement for policy in policies for statement in policy["Statement"]]
    return [one for one in every if str(one.get("Sid", "")).startswith("OtherEnvironments")]


def test_the_source_lets_one_role_of_the_named_account_read_and_nobody_else(both: dict[str, Any]) -> None:
    found = shared(both["dev"])
    assert {one["Sid"]: one["Action"] for one in found} == {
        "OtherEnvironmentsTakeReleases": "s3:GetObject",
        "OtherEnvironmentsDecryptReleases": "kms:Decrypt",
        "OtherEnvironmentsLook": ["sagemaker:DescribeModelPackage", "sagemaker:ListModelPackages"],
    }
    for one in found:
        said = json.dumps(one)
        assert PROD in said and EU not in said and DEV not in said and one["Principal"] != "*"
        (role,) = one["Condition"]["ArnEquals"]["aws:PrincipalArn"]
        assert both["dev"].text(role) == f"{ARN}:iam::{PROD}:role/ml-lab-prod-promote-role"


def test_it_shares_releases_and_checkpoints_and_no_data(both: dict[str, Any]) -> None:
    (read,) = [one for one in shared(both["dev"]) if one["Action"] == "s3:GetObject"]
    below = [both["dev"].text(one).partition("/")[2] for one in read["Resource"]]
    assert below == ["releases/*", "runs/*/train/*/output/model.tar.gz"]


def test_the_taker_reads_the_source_by_its_own_name_account_and_region(both: dict[str, Any]) -> None:
    function = both["prod"].named("AWS::Lambda::Function", "FunctionName", "ml-lab-prod-promote")
    told = function["Environment"]["Variables"]
    group = both["prod"].text(told["SOURCE_GROUP"])
    assert group == f"{ARN}:sagemaker:us-east-1:{DEV}:model-package-group/ml-lab-dev-models"
    assert told["SOURCE_REGION"] == "us-east-1" and told["PACKAGE_GROUP"] == "ml-lab-prod-models"
    role = both["prod"].named("AWS::IAM::Role", "RoleName", "ml-lab-prod-promote-role")
    there = [
        both["prod"].text(resource)
        for statement in role["Policies"][0]["PolicyDocument"]["Statement"]
        for resource in (
            [statement["Resource"]] if not isinstance(statement["Resource"], list) else statement["Resource"]
        )
        if DEV in json.dumps(resource)
    ]
    assert sorted(there) == [
        f"{ARN}:kms:us-east-1:{DEV}:key/*",
        f"{ARN}:s3:::ml-lab-dev-data-{DEV}-us-east-1/releases/*",
        f"{ARN}:s3:::ml-lab-dev-data-{DEV}-us-east-1/runs/*/train/*/output/model.tar.gz",
        f"{ARN}:sagemaker:us-east-1:{DEV}:model-package-group/ml-lab-dev-models",
        f"{ARN}:sagemaker:us-east-1:{DEV}:model-package/ml-lab-dev-models/*",
    ]


def test_the_boundary_of_the_taker_s_roles_reaches_as_far_and_that_of_others_does_not(
    both: dict[str, Any], assembly: Any
) -> None:
    def beyond(made: Any) -> set[str]:
        (policy,) = made.of_type("AWS::IAM::ManagedPolicy").values()
        said = policy["PolicyDocument"]["Statement"]
        found = [one for one in said if DEV in json.dumps(one["Resource"])]
        return {
            action for one in found for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
        }

    look = {"sagemaker:DescribeModelPackage", "sagemaker:ListModelPackages"}
    assert beyond(both["prod"]) == {*look, "s3:GetObject", "kms:Decrypt"}
    assert beyond(both["dev"]) == set() and beyond(assembly) == set()


def test_nothing_is_shared_by_who_is_asked_by_nobody(both: dict[str, Any], assembly: Any) -> None:
    assert shared(both["prod"]) == [] and shared(assembly) == []
    names = [row["FunctionName"] for row in assembly.of_type("AWS::Lambda::Function").values()]
    assert "ml-lab-dev-promote" not in names


def test_in_a_private_network_the_door_to_s3_shows_the_source_s_releases_and_nothing_more(
    synthesize: Callable[..., Any], tmp_path: Path
) -> None:
    settings = tmp_path / "lab.toml"
    private = TABLES.replace('region = "eu-west-1"\n', 'security.network = "vpc"\nserving.serverless = false\n')
    settings.write_text((ROOT / "tests" / "lab.toml").read_text("utf-8") + private, "utf-8")
    made = synthesize(tmp_path / "out", LAB_CONFIG=str(settings), LAB_ENVIRONMENT="prod")
    doors = made.of_type("AWS::EC2::VPCEndpoint").values()
    (door,) = [row for row in doors if made.text(row["ServiceName"]).endswith(".s3")]
    own, foreign = door["PolicyDocument"]["Statement"]
    assert own["Condition"]["StringEquals"]["aws:ResourceAccount"] == {"Ref": "AWS::AccountId"}
    assert foreign["Action"] in ("s3:GetObject", ["s3:GetObject"])
    read = [made.text(one) for one in foreign["Resource"]]
    bucket = f"{ARN}:s3:::ml-lab-dev-data-{DEV}-us-east-1"
    assert read == [f"{bucket}/releases/*", f"{bucket}/runs/*/train/*/output/model.tar.gz"]
    assert "aws:PrincipalAccount" in foreign["Condition"]["StringEquals"]


def test_the_desk_covers_both_stacks_and_cfn_lint_finds_nothing_in_them(both: dict[str, Any]) -> None:
    for made in both.values():
        assemblies.load(made.path).check()
        assert made.lint() == ""
