"""What each IPC operation does: its arguments checked, its answer, its error, as nucleus lite has them.

Every function takes the connection, the request and the stream, and gives the response. Arguments that do not fit are a
ServiceError, of UpdateConfiguration an InvalidArgumentsError. Source: aws-greengrass-lite, modules/ggipcd/src/services.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lab.recipe import leaves
from lab.topics import matches

if TYPE_CHECKING:
    from lab.ipc import Connection, Registration

# UpdateState takes all of them; on lite only RUNNING has an effect that a component can count on.
STATES = ("NEW", "INSTALLED", "STARTING", "RUNNING", "ERRORED", "BROKEN", "STOPPING", "FINISHED")
INVALID = "Received invalid parameters."
RESERVED = "accessControl"


class IpcError(Exception):
    """An error that goes back to the client as `aws.greengrass#<code>`."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


Request = Mapping[str, Any]
Response = dict[str, Any]


def get_configuration(connection: Connection, request: Request, stream: int) -> Response:
    """The whole configuration, a map in it, or `{last key: value}`; of any component of the device."""
    name, path, value = _configuration(connection, request)
    if connection.server.faults.strings:
        value = as_text(value)
    if not isinstance(value, dict):
        value = {path[-1]: value}
    return {"componentName": name, "value": value}


def update_configuration(connection: Connection, request: Request, stream: int) -> Response:
    """Merges into the caller's own configuration, where no value was written after the request's timestamp."""
    path = request.get("keyPath") or []
    # A float, as the SDK writes it; lite refuses a whole number.
    if not _texts(path) or "valueToMerge" not in request or not isinstance(request.get("timestamp"), float):
        raise IpcError("InvalidArgumentsError", INVALID)
    value = request["valueToMerge"]
    if RESERVED in (path[:1] or (value if isinstance(value, dict) else [])):
        raise IpcError("InvalidArgumentsError", f"Config update is not allowed for following field [{RESERVED}]")
    connection.server.configure(connection.component, path, value, request["timestamp"])
    return {}


def subscribe_to_configuration_update(connection: Connection, request: Request, stream: int) -> Response:
    """Events for each value below a path that changes."""
    name, path, _ = _configuration(connection, request)
    connection.configuration[stream] = (name, path)
    return {}


def update_state(connection: Connection, request: Request, stream: int) -> Response:
    state = _text(request, "state")
    if state not in STATES:
        raise IpcError("ServiceError", "Failed to update the lifecycle state.")
    connection.component.on_state(state)
    return {}


def publish_to_topic(connection: Connection, request: Request, stream: int) -> Response:
    topic, message = _text(request, "topic"), request.get("publishMessage")
    kinds = {"jsonMessage", "binaryMessage"} & set(message) if isinstance(message, dict) else set()
    if len(kinds) != 1 or not isinstance(message, dict):
        raise IpcError("ServiceError", INVALID)
    [kind] = kinds
    body = message[kind]
    if not isinstance(body, dict) or not isinstance(body.get("message"), str if kind == "binaryMessage" else object):
        raise IpcError("ServiceError", INVALID)
    _authorize(connection, "aws.greengrass.ipc.pubsub", "PublishToTopic", topic)
    connection.server.local(topic, {kind: {"message": body["message"]}})
    return {}


def subscribe_to_topic(connection: Connection, request: Request, stream: int) -> Response:
    topic = _text(request, "topic")
    _authorize(connection, "aws.greengrass.ipc.pubsub", "SubscribeToTopic", topic)
    connection.local[stream] = topic
    return {}


def publish_to_iot_core(connection: Connection, request: Request, stream: int) -> Response:
    topic = _text(request, "topicName")
    _quality(request)
    try:
        payload = base64.b64decode(request.get("payload") or "", validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise IpcError("ServiceError", "'payload' is not valid base64.") from error
    _authorize(connection, "aws.greengrass.ipc.mqttproxy", "PublishToIoTCore", topic)
    if connection.server.faults.offline:
        raise IpcError("ServiceError")
    connection.server.cloud(topic, payload)
    return {}


def subscribe_to_iot_core(connection: Connection, request: Request, stream: int) -> Response:
    topic = _text(request, "topicName")
    _quality(request)
    _authorize(connection, "aws.greengrass.ipc.mqttproxy", "SubscribeToIoTCore", topic)
    connection.core[stream] = topic
    return {}


def validate_authorization_token(connection: Connection, request: Request, stream: int) -> Response:
    """For stream manager alone, which the desk does not run."""
    raise IpcError("UnauthorizedError", "Component does not have access to token verification IPC command.")


OPERATIONS: dict[str, Callable[[Connection, Request, int], Response]] = {
    "GetConfiguration": get_configuration,
    "UpdateConfiguration": update_configuration,
    "SubscribeToConfigurationUpdate": subscribe_to_configuration_update,
    "UpdateState": update_state,
    "PublishToTopic": publish_to_topic,
    "SubscribeToTopic": subscribe_to_topic,
    "PublishToIoTCore": publish_to_iot_core,
    "SubscribeToIoTCore": subscribe_to_iot_core,
    "ValidateAuthorizationToken": validate_authorization_token,
}


def core_messages(streams: Mapping[int, str], topic: str, payload: bytes) -> Iterator[tuple[int, Response]]:
    """The event for each stream whose topic filter selects a message of AWS IoT Core."""
    for stream, wanted in list(streams.items()):
        if matches(wanted, topic):
            yield stream, {"message": {"topicName": topic, "payload": base64.b64encode(payload).decode()}}


def local_messages(streams: Mapping[int, str], topic: str, message: Request) -> Iterator[tuple[int, Response]]:
    """The event for each stream whose topic filter selects a local message."""
    for stream, wanted in list(streams.items()):
        if matches(wanted, topic):
            yield stream, {kind: {**body, "context": {"topic": topic}} for kind, body in message.items()}


def merge(registration: Registration, path: list[str], value: Any, when: float) -> list[tuple[str, ...]]:
    """Writes the values of `value` below `path`; the paths of those that are new or other than before.

    Raises IpcError where a map would take the place of a value, or a value that of a map.
    """
    changed = []
    for leaf, item in leaves(value, tuple(path)):
        target = registration.configuration
        for key in leaf[:-1]:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise IpcError("ServiceError", "Failed to update the configuration.")
        if not leaf or isinstance(target.get(leaf[-1]), dict):
            raise IpcError("ServiceError", "Failed to update the configuration.")
        if registration.written.get(leaf, when) > when:
            continue
        registration.written[leaf] = when
        if leaf[-1] not in target or target[leaf[-1]] != item:
            target[leaf[-1]] = copy.deepcopy(item)
            changed.append(leaf)
    return changed


def as_text(value: Any) -> Any:
    """Numbers and booleans as the text that stood in a YAML recipe."""
    if isinstance(value, dict):
        return {key: as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return value if isinstance(value, str) or value is None else json.dumps(value)


def admits(pattern: str, resource: str) -> bool:
    """Whether an accessControl resource admits a topic: `*` is any run of characters, `${*}` a literal star."""
    parts = re.split(r"(\$\{[*?$]\}|\*)", pattern)
    expression = "".join(".*" if part == "*" else re.escape(re.sub(r"^\$\{(.)\}$", r"\1", part)) for part in parts)
    return re.fullmatch(expression, resource, re.DOTALL) is not None


def _configuration(connection: Connection, request: Request) -> tuple[str, list[str], Any]:
    """Whose configuration a request means, the path in it, and what lies there."""
    name, path = request.get("componentName"), request.get("keyPath") or []
    if not _texts(path) or not isinstance(name, str | None):
        raise IpcError("ServiceError", INVALID)
    component = connection.server.named(name) if name else connection.component
    value: Any = component.configuration if component else None
    for key in path if component else ():
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        raise IpcError("ResourceNotFoundError", "Key not found.")
    return name or connection.component.name, path, value


def _authorize(connection: Connection, service: str, operation: str, resource: str) -> None:
    policies = (connection.component.configuration.get(RESERVED) or {}).get(service) or {}
    for policy in policies.values():
        operations = [str(one).removeprefix("aws.greengrass#") for one in policy.get("operations", [])]
        if not {"*", operation} & set(operations):
            continue
        for pattern in policy.get("resources", []):
            filled = str(pattern).replace("{iot:thingName}", connection.server.thing)
            # Of MQTT the resource may be a topic filter too.
            if admits(filled, resource) or ("mqttproxy" in service and matches(filled, resource)):
                return
    raise IpcError("UnauthorizedError", "IPC Operation not authorized.")


def _text(request: Request, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise IpcError("ServiceError", INVALID)
    return value


def _texts(path: Any) -> bool:
    return isinstance(path, list) and all(isinstance(key, str) for key in path)


def _quality(request: Request) -> None:
    """Refuses a quality of service other than 0, 1 and 2, as a number or as text."""
    if str(request.get("qos", 0)) not in ("0", "1", "2"):
        raise IpcError("ServiceError", "'qos' not a valid value.")
