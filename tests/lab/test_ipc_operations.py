"""The IPC server's operations on the wire: what the client of the SDK does not let through, or does not show."""

import threading
from typing import Any

import pytest
from wire import Core, body, error

from lab.eventstream import Frame, Kind
from lab.ipc import Registration


@pytest.mark.parametrize(
    ("operation", "request_", "code", "message"),
    [
        ("GetConfiguration", {"keyPath": "nested"}, "ServiceError", "Received invalid parameters."),
        ("GetConfiguration", {"keyPath": ["no"]}, "ResourceNotFoundError", "Key not found."),
        ("SubscribeToConfigurationUpdate", {"keyPath": ["no"]}, "ResourceNotFoundError", "Key not found."),
        ("UpdateConfiguration", {"valueToMerge": {"a": 1}}, "InvalidArgumentsError", "Received invalid parameters."),
        (
            "UpdateConfiguration",
            {"valueToMerge": {"a": 1}, "timestamp": 1_700_000_000},
            "InvalidArgumentsError",
            "Received invalid parameters.",
        ),
        (
            "UpdateConfiguration",
            {"valueToMerge": {"accessControl": {}}, "timestamp": 1.5},
            "InvalidArgumentsError",
            "Config update is not allowed for following field [accessControl]",
        ),
        (
            "UpdateConfiguration",
            {"keyPath": ["nested"], "valueToMerge": 5, "timestamp": 1.5},
            "ServiceError",
            "Failed to update the configuration.",
        ),
        ("UpdateState", {"state": "HAPPY"}, "ServiceError", "Failed to update the lifecycle state."),
        ("UpdateState", {}, "ServiceError", "Received invalid parameters."),
        ("PublishToTopic", {"topic": "local/a"}, "ServiceError", "Received invalid parameters."),
        (
            "PublishToTopic",
            {"topic": "local/a", "publishMessage": {"jsonMessage": {"message": {}}, "binaryMessage": {"message": ""}}},
            "ServiceError",
            "Received invalid parameters.",
        ),
        (
            "PublishToTopic",
            {"topic": "far/a", "publishMessage": {"jsonMessage": {"message": {}}}},
            "UnauthorizedError",
            "IPC Operation not authorized.",
        ),
        ("SubscribeToTopic", {"topic": "local/a"}, "UnauthorizedError", "IPC Operation not authorized."),
        ("PublishToIoTCore", {"topicName": "lab/desk-1/x", "qos": 3}, "ServiceError", "'qos' not a valid value."),
        (
            "PublishToIoTCore",
            {"topicName": "lab/desk-1/x", "payload": "%"},
            "ServiceError",
            "'payload' is not valid base64.",
        ),
        ("PublishToIoTCore", {"topicName": "lab/desk-2/x"}, "UnauthorizedError", "IPC Operation not authorized."),
        ("SubscribeToIoTCore", {"topicName": "lab/+/x"}, "UnauthorizedError", "IPC Operation not authorized."),
        (
            "ValidateAuthorizationToken",
            {"token": "x"},
            "UnauthorizedError",
            "Component does not have access to token verification IPC command.",
        ),
    ],
)
def test_each_wrong_request_has_its_own_error(
    core: Core, operation: str, request_: dict[str, Any], code: str, message: str
) -> None:
    assert error(core.wire().ask(operation, request_)) == (code, message)


def test_every_state_is_taken_and_told_to_the_device(core: Core) -> None:
    wire = core.wire()
    for state in ("RUNNING", "ERRORED", "STOPPING"):
        assert wire.ask("UpdateState", {"state": state}).kind == Kind.MESSAGE
    assert core.states == ["RUNNING", "ERRORED", "STOPPING"]


def test_an_update_older_than_what_stands_is_taken_and_changes_nothing(core: Core) -> None:
    wire = core.wire()
    wire.ask("UpdateConfiguration", {"keyPath": ["nested"], "valueToMerge": {"deep": 2}, "timestamp": 200.0})
    older = {"keyPath": ["nested"], "valueToMerge": {"deep": 3, "wide": 4}, "timestamp": 100.0}
    assert wire.ask("UpdateConfiguration", older).kind == Kind.MESSAGE
    assert body(wire.ask("GetConfiguration", {"keyPath": ["nested"]}))["value"] == {"deep": 2, "wide": 4}


def test_an_update_event_names_each_value_that_changed(core: Core) -> None:
    wire, other = core.wire(), core.wire()
    wire.ask("SubscribeToConfigurationUpdate", {"keyPath": ["nested"]})
    same = {"valueToMerge": {"nested": {"deep": 1.5, "new": {"a": 1}}, "interval_s": 61}, "timestamp": 300.0}
    other.ask("UpdateConfiguration", same)
    event = body(wire.read())["configurationUpdateEvent"]
    assert event == {"componentName": "lab.App", "keyPath": ["nested", "new", "a"]}
    assert wire.ask("GetConfiguration").stream == 2, "neither the value that stayed nor that beside the path is told"


def test_a_component_reads_what_another_is_configured_with(core: Core) -> None:
    core.server.register(Registration("lab.Other", {"word": "hello"}, core.states.append))
    answer = body(core.wire().ask("GetConfiguration", {"componentName": "lab.Other", "keyPath": ["word"]}))
    assert answer == {"componentName": "lab.Other", "value": {"word": "hello"}}


def test_of_a_yaml_recipe_numbers_and_booleans_are_texts(core: Core) -> None:
    core.server.faults.strings = True
    value = body(core.wire().ask("GetConfiguration"))["value"]
    assert (value["interval_s"], value["on"], value["nested"]) == ("60", "true", {"deep": "1.5"})


def test_an_answer_that_fits_no_frame_is_a_service_error(core: Core) -> None:
    core.component.configuration["large"] = "x" * 9_900
    assert error(core.wire().ask("GetConfiguration")) == ("ServiceError", "")


def test_a_message_to_iot_core_comes_back_to_whoever_subscribed_to_its_topic(core: Core) -> None:
    wire = core.wire()
    wire.ask("SubscribeToIoTCore", {"topicName": "lab/desk-1/ping", "qos": 1})
    published = wire.ask("PublishToIoTCore", {"topicName": "lab/desk-1/ping", "payload": "b2s="})
    frames = [published, wire.read()]
    [event] = [frame for frame in frames if frame is not None and frame.stream == 1]
    assert event.headers["service-model-type"] == "aws.greengrass#IoTCoreMessage"
    assert body(event) == {"message": {"topicName": "lab/desk-1/ping", "payload": "b2s="}}


def test_lost_subscriptions_make_no_sound_and_publishing_goes_on(core: Core) -> None:
    wire = core.wire()
    wire.ask("SubscribeToIoTCore", {"topicName": "lab/desk-1/ping", "qos": 1})
    core.server.drop_subscriptions()
    assert wire.ask("PublishToIoTCore", {"topicName": "lab/desk-1/ping", "payload": "b2s="}).stream == 2
    assert wire.ask("GetConfiguration").stream == 3 and core.cloud == [("lab/desk-1/ping", b"ok")]


def test_offline_a_core_hears_nothing_and_publishing_fails_at_once_without_words(core: Core) -> None:
    wire = core.wire()
    wire.ask("SubscribeToIoTCore", {"topicName": "lab/desk-1/x", "qos": 1})
    core.server.faults.offline = True
    core.server.deliver("lab/desk-1/x", b"1")
    assert error(wire.ask("PublishToIoTCore", {"topicName": "lab/desk-1/x"})) == ("ServiceError", "")
    core.server.faults.offline = False
    core.server.deliver("lab/desk-1/x", b"2")
    assert body(wire.read())["message"]["payload"] == "Mg=="


def test_a_local_message_carries_its_topic(core: Core) -> None:
    core.component.configuration["accessControl"]["aws.greengrass.ipc.pubsub"]["p2"]["operations"] = ["*"]
    wire = core.wire()
    wire.ask("SubscribeToTopic", {"topic": "local/+"})
    message = {"topic": "local/a", "publishMessage": {"binaryMessage": {"message": "b2s="}}}
    frames = [wire.ask("PublishToTopic", message), wire.read()]
    [event] = [frame for frame in frames if frame is not None and frame.stream == 1]
    assert event.headers["service-model-type"] == "aws.greengrass#SubscriptionResponseMessage"
    assert body(event) == {"binaryMessage": {"message": "b2s=", "context": {"topic": "local/a"}}}


def test_a_resource_of_mqtt_may_be_a_topic_filter(core: Core) -> None:
    assert core.wire().ask("SubscribeToIoTCore", {"topicName": "cmd/any/go"}).kind == Kind.MESSAGE


def test_two_clients_that_publish_at_once_both_get_their_answers(core: Core) -> None:
    answers: list[Frame] = []

    def work() -> None:
        wire = core.wire()
        answers.extend(wire.ask("PublishToIoTCore", {"topicName": "lab/desk-1/x"}) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 100 and len(core.cloud) == 100
