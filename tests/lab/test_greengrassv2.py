"""The Greengrass v2 control plane, through boto3."""

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lab import greengrassv2
from lab.engine import Engine

BUCKET = "artifacts"


@pytest.fixture
def cloud(desk: Engine) -> Iterator[Engine]:
    greengrassv2.install(desk)
    desk.client("s3").create_bucket(Bucket=BUCKET)
    desk.client("s3").put_object(Bucket=BUCKET, Key="a/code.zip", Body=b"zip")
    yield desk
    greengrassv2.stop()


def recipe(name: str = "lab.Thing", version: str = "1.0.0", **changes: Any) -> bytes:
    manifest = {
        "Platform": {"os": "linux", "runtime": "*"},
        "Lifecycle": {"run": {"Script": "exit 0"}},
        "Artifacts": [{"Uri": f"s3://{BUCKET}/a/code.zip"}],
    }
    whole = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": name,
        "ComponentVersion": version,
        "ComponentDescription": "for tests",
        "ComponentPublisher": "lab",
        "Manifests": [manifest],
    }
    return json.dumps({**whole, **changes}).encode()


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_a_component_is_created_described_listed_and_deleted(cloud: Engine) -> None:
    client = cloud.client("greengrassv2")
    made = client.create_component_version(inlineRecipe=recipe(), tags={"lab": "yes"})
    arn = made["arn"]
    assert arn == "arn:aws:greengrass:us-east-1:123456789012:components:lab.Thing:versions:1.0.0"
    client.create_component_version(inlineRecipe=recipe(version="1.0.10"))
    described = client.describe_component(arn=arn)
    assert described["status"]["componentState"] == "DEPLOYABLE"
    assert (described["description"], described["publisher"], described["tags"]) == ("for tests", "lab", {"lab": "yes"})
    listed = client.list_components()["components"]
    assert [one["latestVersion"]["componentVersion"] for one in listed] == ["1.0.10"]
    versions = client.list_component_versions(arn=listed[0]["arn"])["componentVersions"]
    assert [one["componentVersion"] for one in versions] == ["1.0.10", "1.0.0"]
    client.delete_component(arn=arn)
    with pytest.raises(ClientError) as error:
        client.describe_component(arn=arn)
    assert code(error) == "ResourceNotFoundException"


def test_the_service_adds_each_artifacts_digest_to_the_recipe(cloud: Engine) -> None:
    client = cloud.client("greengrassv2")
    arn = client.create_component_version(inlineRecipe=recipe())["arn"]
    answer = client.get_component(arn=arn)
    artifact = json.loads(answer["recipe"])["Manifests"][0]["Artifacts"][0]
    assert artifact["Algorithm"] == "SHA-256"
    assert base64.b64decode(artifact["Digest"]) == hashlib.sha256(b"zip").digest()


def test_a_version_is_immutable_unless_the_same_request_is_repeated(cloud: Engine) -> None:
    client = cloud.client("greengrassv2")
    first = client.create_component_version(inlineRecipe=recipe(), clientToken="t")
    assert client.create_component_version(inlineRecipe=recipe(), clientToken="t")["arn"] == first["arn"]
    for request in ({"inlineRecipe": recipe()}, {"inlineRecipe": recipe(Manifests=[]), "clientToken": "t"}):
        with pytest.raises(ClientError) as error:
            client.create_component_version(**request)
        assert code(error) in ("ConflictException", "ValidationException")
    with pytest.raises(ClientError, match="already exists with state: \\[DEPLOYABLE\\]") as error:
        client.create_component_version(inlineRecipe=recipe())
    assert (code(error), error.value.response["ResponseMetadata"]["HTTPStatusCode"]) == ("ConflictException", 409)


MANIFEST: dict[str, Any] = {"Platform": {"os": "linux", "runtime": "*"}, "Lifecycle": {"run": "exit 0"}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"RecipeFormatVersion": "2019"}, "RecipeFormatVersion"),
        ({"ComponentVersion": "1.0"}, "not semantic"),
        ({"ComponentName": "a b"}, "no name"),
        ({"ComponentName": "aws.greengrass.Mine"}, "AWS's own"),
        ({"Extra": 1}, "unknown keys"),
        ({"Manifests": []}, "missing or empty"),
        ({"Manifests": [{"Platform": {"os": "linux"}, "Lifecycle": {}}]}, "without runtime"),
        ({"Manifests": [{**MANIFEST, "Lifecycle": {"Run": "exit 0"}}]}, "lower case"),
        ({"Manifests": [{**MANIFEST, "Artifacts": [{"Uri": "https://x/y"}]}]}, "not s3://"),
        ({"Manifests": [{**MANIFEST, "Artifacts": [{"Uri": "s3://b/k", "Unarchive": "TAR"}]}]}, "NONE or ZIP"),
        ({"ComponentDependencies": {"x": {"VersionRequirement": "latest"}}}, "not understood"),
        ({"ComponentDescription": "x" * 17_000}, "bytes"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused_by_name(cloud: Engine, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ClientError, match=says) as error:
        cloud.client("greengrassv2").create_component_version(inlineRecipe=recipe(**changes))
    assert code(error) == "ValidationException"


def test_a_component_whose_artifact_is_missing_is_not_deployable(cloud: Engine) -> None:
    client = cloud.client("greengrassv2")
    manifest = {**MANIFEST, "Artifacts": [{"Uri": f"s3://{BUCKET}/nowhere.zip"}]}
    arn = client.create_component_version(inlineRecipe=recipe(Manifests=[manifest]))["arn"]
    status = client.describe_component(arn=arn)["status"]
    assert (status["componentState"], list(status["errors"])) == ("FAILED", [f"s3://{BUCKET}/nowhere.zip"])
    with pytest.raises(ClientError, match="is FAILED"):
        deploy(cloud, group(cloud, "g"), {"lab.Thing": {"componentVersion": "1.0.0"}})


def group(cloud: Engine, name: str) -> str:
    return str(cloud.client("iot").create_thing_group(thingGroupName=name)["thingGroupArn"])


def deploy(cloud: Engine, target: str, components: dict[str, Any], **more: Any) -> str:
    answer = cloud.client("greengrassv2").create_deployment(targetArn=target, components=components, **more)
    return str(answer["deploymentId"])


def test_a_deployment_to_a_group_without_our_core_stays_active_until_it_is_replaced(cloud: Engine) -> None:
    client = cloud.client("greengrassv2")
    client.create_component_version(inlineRecipe=recipe())
    target, components = group(cloud, "others"), {"lab.Thing": {"componentVersion": "1.0.0"}}
    first = deploy(cloud, target, components, deploymentName="one", tags={"a": "b"})
    got = client.get_deployment(deploymentId=first)
    assert (got["deploymentStatus"], got["revisionId"], got["tags"]) == ("ACTIVE", "1", {"a": "b"})
    assert got["components"]["lab.Thing"]["componentVersion"] == "1.0.0"
    second = deploy(cloud, target, components)
    assert client.get_deployment(deploymentId=first)["deploymentStatus"] == "INACTIVE"
    assert [one["deploymentId"] for one in client.list_deployments()["deployments"]] == [second]
    assert len(client.list_deployments(historyFilter="ALL", targetArn=target)["deployments"]) == 2
    client.cancel_deployment(deploymentId=second)
    assert client.get_deployment(deploymentId=second)["deploymentStatus"] == "CANCELED"
    assert client.list_core_devices()["coreDevices"] == []


def test_a_deployment_is_an_iot_job(cloud: Engine) -> None:
    cloud.client("greengrassv2").create_component_version(inlineRecipe=recipe())
    identity = deploy(cloud, group(cloud, "others"), {"lab.Thing": {"componentVersion": "1.0.0"}})
    job = cloud.client("greengrassv2").get_deployment(deploymentId=identity)["iotJobId"]
    described = cloud.client("iot").describe_job(jobId=job)["job"]
    assert (described["status"], described["jobProcessDetails"]["numberOfQueuedThings"]) == ("IN_PROGRESS", 0)


@pytest.mark.parametrize(
    ("target", "components", "wanted"),
    [
        ("arn:aws:iot:us-east-1:123456789012:thinggroup/nowhere", {}, "ResourceNotFoundException"),
        ("group", {"lab.Nothing": {"componentVersion": "1.0.0"}}, "ResourceNotFoundException"),
        ("group", {"aws.greengrass.StreamManager": {"componentVersion": "2.0.0"}}, "ValidationException"),
        ("not-an-arn", {}, "ValidationException"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused(
    cloud: Engine, target: str, components: dict[str, Any], wanted: str
) -> None:
    where = group(cloud, "g") if target == "group" else target
    with pytest.raises(ClientError) as error:
        deploy(cloud, where, components)
    assert code(error) == wanted


def test_tags_are_kept_and_removed(cloud: Engine) -> None:
    client = cloud.client("greengrassv2")
    arn = client.create_component_version(inlineRecipe=recipe(), tags={"a": "1"})["arn"]
    client.tag_resource(resourceArn=arn, tags={"b": "2"})
    client.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}


def test_what_is_not_covered_says_so_by_name(cloud: Engine) -> None:
    with pytest.raises(ClientError, match="ResolveComponentCandidates is not covered"):
        cloud.client("greengrassv2").resolve_component_candidates(componentCandidates=[])


def test_lists_come_in_pages(cloud: Engine) -> None:
    client = cloud.client("greengrassv2")
    for number in range(3):
        client.create_component_version(inlineRecipe=recipe(version=f"1.0.{number}"))
    pages = client.get_paginator("list_component_versions").paginate(
        arn="arn:aws:greengrass:us-east-1:123456789012:components:lab.Thing", PaginationConfig={"PageSize": 2}
    )
    assert [len(page["componentVersions"]) for page in pages] == [2, 1]


def test_greengrass_version_one_still_answers(cloud: Engine) -> None:
    assert cloud.client("greengrass").list_core_definitions()["Definitions"] == []
