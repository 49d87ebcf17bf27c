"""What the release flow is told, published and recorded; nothing unapproved gets past the first step."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pipelines.functions import component, release
from pipelines.functions.registry import RegistryError
from pipelines.functions.runs import RowMissing

Event = Callable[[str], dict[str, Any]]
SIGNED = "A" * 86 + "=="


@pytest.fixture(autouse=True)
def environment(table: Any, sagemaker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ENDPOINT_NAME": "ml-lab-dev-endpoint",
        "MODEL_COMPONENT": "ml-lab-dev.Model",
        "RUNTIME_COMPONENT": "ml-lab-dev.Inference",
        "STAGER_ARTIFACT": "s3://assets/0123abcd.zip",
        "TABLE": "ml-lab-dev-runs",
        "PUBLIC_KEY": "",
        "GROUPS": '{"canary": "arn:canary", "fleet": "arn:fleet"}',
    }.items():
        monkeypatch.setenv(name, value)
    release.runtime.cache_clear()


@pytest.fixture
def endpoint(sagemaker: Any) -> Callable[[], None]:
    def create() -> None:
        sagemaker.create_model(ModelName="m", ExecutionRoleArn="arn:aws:iam::123456789012:role/r")
        sagemaker.create_endpoint_config(
            EndpointConfigName="c",
            ProductionVariants=[
                {"VariantName": "live", "ModelName": "m", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
            ],
        )
        sagemaker.create_endpoint(EndpointName="ml-lab-dev-endpoint", EndpointConfigName="c")

    return create


def test_prepare_names_everything_that_the_state_machine_needs(event: Event, package: Any, claim: Any) -> None:
    claim()
    arn = package()
    answer = release.handler({**event("release_prepare"), "model_package": arn}, None)
    name = answer.pop("model_name")
    assert name.startswith("ml-lab-dev-1-0-42-")
    assert len(name) <= 63
    assert answer == {
        "model_package": arn,
        "version": "1.0.42",
        "component_version": "1.0.42",
        "run": "run-1",
        "claim": "d1#c1#",
        "config_name": name,
        "endpoint_name": "ml-lab-dev-endpoint",
        "endpoint_exists": False,
        "image": "serve:1",
        "model_data_url": "s3://lake/releases/1.0.42/endpoint/model.tar.gz",
    }


def test_two_releases_of_one_package_do_not_collide_and_a_retry_of_one_does(
    event: Event, package: Any, claim: Any
) -> None:
    claim()
    asked = {**event("release_prepare"), "model_package": package()}
    first = release.handler(asked, None)["model_name"]
    assert release.handler(asked, None)["model_name"] == first
    assert release.handler({**asked, "execution": "another"}, None)["model_name"] != first


def test_prepare_sees_the_endpoint_that_is_there(event: Event, package: Any, claim: Any, endpoint: Any) -> None:
    claim()
    endpoint()
    assert release.handler({**event("release_prepare"), "model_package": package()}, None)["endpoint_exists"]


@pytest.mark.parametrize(
    ("status", "error"),
    [("Updating", release.EndpointBusy), ("Failed", release.ReleaseRefused)],
)
def test_an_endpoint_that_cannot_be_updated_stops_the_release(
    event: Event, package: Any, claim: Any, status: str, error: type[Exception]
) -> None:
    class Endpoint:
        def __getattr__(self, name: str) -> Any:
            return getattr(release.runtime().sagemaker, name)

        def describe_endpoint(self, **_: str) -> dict[str, str]:
            return {"EndpointStatus": status}

    claim()
    here = replace(release.runtime(), sagemaker=Endpoint())
    with pytest.raises(error, match=status):
        release.prepare({**event("release_prepare"), "model_package": package()}, here)


@pytest.mark.parametrize("approval", ["PendingManualApproval", "Rejected"])
def test_nothing_unapproved_is_prepared(event: Event, package: Any, claim: Any, approval: str) -> None:
    claim()
    with pytest.raises(release.ReleaseRefused, match=f"is {approval}; only an Approved package"):
        release.handler({**event("release_prepare"), "model_package": package(approval)}, None)


def test_a_package_that_the_flow_did_not_register_is_refused(event: Event, package: Any, sagemaker: Any) -> None:
    arn = sagemaker.create_model_package(ModelPackageGroupName="ml-lab-dev-models", ModelApprovalStatus="Approved")
    with pytest.raises(RegistryError, match="has no 'run'"):
        release.handler({**event("release_prepare"), "model_package": arn["ModelPackageArn"]}, None)


def test_the_component_points_to_this_release_and_to_the_stager(event: Event, package: Any, greengrass: Any) -> None:
    there = greengrass("REQUESTED", "DEPLOYABLE")
    here = replace(release.runtime(), greengrass=there)
    answer = release.publish({**event("release_component"), "model_package": package()}, here)
    recipe = there.recipes[answer["arn"]]
    assert (recipe["ComponentName"], recipe["ComponentVersion"]) == ("ml-lab-dev.Model", "1.0.42")
    assert list(recipe["ComponentDependencies"]) == ["ml-lab-dev.Inference"]
    assert [artifact["Uri"] for artifact in recipe["Manifests"][0]["Artifacts"]] == [
        "s3://lake/releases/1.0.42/edge-x86/model.zip",
        "s3://assets/0123abcd.zip",
    ]
    script = recipe["Manifests"][0]["Lifecycle"]["startup"]["Script"]
    assert "/0123abcd " in script
    assert "@" not in script


def test_where_devices_ask_for_a_signature_nothing_unsigned_is_prepared(
    event: Event, package: Any, claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim()
    asked = {**event("release_prepare"), "model_package": package()}
    assert release.handler(asked, None)["version"] == "1.0.42"
    monkeypatch.setenv("PUBLIC_KEY", "A" * 43 + "=")
    release.runtime.cache_clear()
    with pytest.raises(release.ReleaseRefused, match="was approved unsigned, and the devices take signed models only"):
        release.handler(asked, None)
    assert release.handler({**asked, "model_package": package(signature=SIGNED)}, None)["version"] == "1.0.42"


def test_a_signature_that_would_be_more_than_one_word_of_a_recipe_is_refused(
    event: Event, package: Any, claim: Any
) -> None:
    claim()
    with pytest.raises(release.ReleaseRefused, match="is not 64 bytes in base64"):
        release.handler({**event("release_prepare"), "model_package": package(signature="x --patience 0")}, None)


def test_the_component_carries_the_signature_to_the_stager(event: Event, package: Any, greengrass: Any) -> None:
    there = greengrass()
    asked = {**event("release_component"), "model_package": package(signature=SIGNED)}
    release.publish(asked, replace(release.runtime(), greengrass=there))
    (recipe,) = there.recipes.values()
    assert f" --signature={SIGNED} " in recipe["Manifests"][0]["Lifecycle"]["startup"]["Script"]


def test_a_component_that_is_there_is_taken_as_it_is(event: Event, package: Any, greengrass: Any) -> None:
    here = replace(release.runtime(), greengrass=greengrass())
    asked = {**event("release_component"), "model_package": package()}
    assert release.publish(asked, here) == release.publish(asked, here)


def test_a_component_that_the_service_refuses_fails_with_its_words(event: Event, package: Any, greengrass: Any) -> None:
    here = replace(release.runtime(), greengrass=greengrass("REQUESTED", "FAILED"))
    with pytest.raises(component.ComponentFailed, match="is FAILED: as the service says"):
        release.publish({**event("release_component"), "model_package": package()}, here)


@pytest.fixture
def groups(greengrass: Any) -> Any:
    """A Greengrass, and what a release of version 1.0.42 finds there to go back to."""
    there = greengrass()
    there.deploy("arn:other", **model("9.9.9"))
    return there


def last(there: Any, event: Event, package: Any) -> dict[str, Any]:
    here = replace(release.runtime(), greengrass=there)
    return release.last_good({**event("release_last_good"), "model_package": package()}, here)


def model(version: str) -> dict[str, str]:
    return {"ml-lab-dev.Model": version}


def test_the_last_good_version_is_what_each_group_has(event: Event, package: Any, groups: Any) -> None:
    groups.deploy("arn:canary", **model("1.0.40"))
    groups.deploy("arn:fleet", **model("1.0.39"))
    groups.deploy("arn:canary", **model("1.0.41"))
    found = last(groups, event, package)
    assert (found["canary"], found["fleet"]) == ("1.0.41", "1.0.39")
    assert datetime.fromisoformat(found["since"]) <= datetime.now(UTC)


def test_a_group_that_never_had_a_model_has_none_to_go_back_to(event: Event, package: Any, groups: Any) -> None:
    found = last(groups, event, package)
    assert (found["canary"], found["fleet"]) == ("", "")


def test_what_was_taken_back_is_no_version_to_go_back_to(event: Event, package: Any, groups: Any) -> None:
    for version in ("1.0.40", "1.0.41", "1.0.40"):  # deployed, refused, taken back
        groups.deploy("arn:canary", **model(version))
    assert last(groups, event, package)["canary"] == "1.0.40"
    groups.deploy("arn:fleet", **model("1.0.41"))
    groups.deploy("arn:fleet")
    assert last(groups, event, package)["fleet"] == ""


def test_asked_again_after_its_own_deployment_a_release_finds_the_same(event: Event, package: Any, groups: Any) -> None:
    groups.deploy("arn:canary", **model("1.0.41"))
    groups.deploy("arn:canary", **model("1.0.42"))
    assert last(groups, event, package)["canary"] == "1.0.41"


def test_a_released_version_stands_in_the_run_s_row(event: Event, package: Any, claim: Any, row: Any) -> None:
    claim(status="PENDING_APPROVAL")
    release.handler({**event("release_record"), "model_package": package()}, None)
    assert (row()["status"], row()["version"]) == ("RELEASED", "1.0.42")


def test_the_package_of_a_run_that_failed_after_it_registered_belongs_to_who_took_its_row(
    event: Event, package: Any, claim: Any, row: Any
) -> None:
    arn = package()
    claim(run="run-2", model_package=arn)
    assert release.handler({**event("release_prepare"), "model_package": arn}, None)["claim"] == "d1#c1#"
    release.handler({**event("release_record"), "model_package": arn}, None)
    assert row()["status"] == "RELEASED"


def test_a_release_of_an_unknown_run_is_an_error(event: Event, package: Any, claim: Any) -> None:
    claim(run="run-2")
    with pytest.raises(RowMissing, match="no row of run run-1"):
        release.handler({**event("release_record"), "model_package": package()}, None)


def test_an_unknown_action_is_refused_by_name() -> None:
    with pytest.raises(
        release.ReleaseRefused, match="'undo' is unknown; allowed: prepare, component, last_good, record"
    ):
        release.handler({"action": "undo", "model_package": "x"}, None)
