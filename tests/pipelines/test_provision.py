"""Who may join: a thing that its owner registered, once."""

from typing import Any

import boto3
import pytest

from pipelines.functions import provision

THING = "ml-lab-dev-line-3"


@pytest.fixture
def iot(aws: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    client = boto3.client("iot")
    for group in ("ml-lab-dev-core", "others"):
        client.create_thing_group(thingGroupName=group)
    monkeypatch.setenv("CORE_GROUP", "ml-lab-dev-core")
    provision.runtime.cache_clear()
    return client


def register(iot: Any, group: str = "ml-lab-dev-core") -> None:
    iot.create_thing(thingName=THING)
    iot.add_thing_to_thing_group(thingName=THING, thingGroupName=group)


def asked(event: Any, **parameters: str) -> bool:
    answer = provision.handler({**event("provision"), "parameters": {"ThingName": THING, **parameters}}, None)
    return bool(answer["allowProvisioning"])


def test_a_registered_thing_without_a_certificate_joins(iot: Any, event: Any) -> None:
    register(iot)
    assert asked(event)


def test_a_thing_that_nobody_registered_does_not(iot: Any, event: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert not asked(event)
    assert f"no thing {THING} was registered" in caplog.text


def test_a_thing_of_someone_else_s_does_not(iot: Any, event: Any) -> None:
    register(iot, "others")
    assert not asked(event)


def test_a_name_is_taken_once(iot: Any, event: Any, caplog: pytest.LogCaptureFixture) -> None:
    register(iot)
    made = iot.create_keys_and_certificate(setAsActive=True)
    iot.attach_thing_principal(thingName=THING, principal=made["certificateArn"])
    assert not asked(event)
    assert "detach it" in caplog.text
    iot.detach_thing_principal(thingName=THING, principal=made["certificateArn"])
    assert asked(event)


def test_a_device_that_does_not_say_who_it_is_does_not(iot: Any, event: Any) -> None:
    assert not asked(event, ThingName="")
