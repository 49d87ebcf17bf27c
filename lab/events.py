"""EventBridge: events reach their targets, each in its own time, as often as it takes.

Covers: PutEvents, events of our stand-ins, patterns, Input, InputPath and InputTransformer, targets that are state
    machines, Lambda functions, SQS queues, SNS topics and log groups, three attempts per target, archives and replays
    (a replay is the way to deliver an event twice); schedules are schedules.py's.
Does not cover, and refuses when a rule or target is made: a rule with a schedule and a pattern, other targets,
    dead-letter queues, API destinations, pipes.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from moto.cloudwatch.models import CloudWatchBackend
from moto.core.exceptions import JsonRESTError
from moto.events.models import EventsBackend, Rule, events_backends

from lab import access, identity, schedules
from lab.engine import Engine
from lab.needs import Need

LOG = logging.getLogger(__name__)
ATTEMPTS = 3
PAUSE_SECONDS = 0.2
ENTRIES_MOST = 10
TARGET_PARTS = {"Id", "Arn", "RoleArn", "Input", "InputPath", "InputTransformer", "RetryPolicy", "SqsParameters"}
PLACEHOLDER = re.compile(r"<([\w.-]+)>")

Event = dict[str, Any]


def install(engine: Engine) -> None:
    """Takes over sending and delivery from moto, and sends the event of an alarm's change of state."""

    def put_events(self: EventsBackend, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return _put_events(engine, events)

    def send_to_targets(self: Rule, original_event: Event, transform_input: bool = True) -> None:
        _offer(engine, self, original_event)

    EventsBackend.put_events = put_events
    Rule.send_to_targets = send_to_targets
    _refuse_early()
    _tell_of_alarms(engine)


def put(
    engine: Engine,
    source: str,
    detail_type: str,
    detail: Mapping[str, Any],
    resources: Iterable[str] = (),
    bus: str = "default",
) -> str:
    """Sends one event to the bus and returns its id; delivery goes on in the background."""
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": source,
        "account": engine.account,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": engine.region,
        "resources": list(resources),
        "detail": json.loads(json.dumps(detail, default=_text)),
    }
    send(engine, event, bus)
    return str(event["id"])


def send(engine: Engine, event: Event, bus: str = "default") -> None:
    """Offers a whole event to every rule of the bus. The same event again is a second delivery, as AWS may make one."""
    backend = events_backends[engine.account][engine.region]
    for rule in list(backend.describe_event_bus(bus).rules.values()):
        _offer(engine, rule, event)


def _text(value: Any) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else str(value)


def _put_events(engine: Engine, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(entries) > ENTRIES_MOST:
        raise JsonRESTError("ValidationException", f"entries must have length less than or equal to {ENTRIES_MOST}")
    return [_put_entry(engine, entry) for entry in entries]


def _put_entry(engine: Engine, entry: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("Source", "DetailType", "Detail"):
        if not entry.get(name):
            message = f"Parameter {name} is not valid. Reason: {name} is a required argument."
            return {"ErrorCode": "InvalidArgument", "ErrorMessage": message}
    try:
        detail = json.loads(entry["Detail"])
    except ValueError:
        detail = None
    if not isinstance(detail, dict):
        return {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."}
    bus = str(entry.get("EventBusName") or "default").rpartition("/")[2]
    sent = put(engine, entry["Source"], entry["DetailType"], detail, entry.get("Resources") or (), bus)
    return {"EventId": sent}


def _offer(engine: Engine, rule: Rule, event: Event) -> None:
    # moto takes a rule without a pattern for one that every event matches; a schedule has none.
    by_the_clock = bool(rule.scheduled_expression)
    if rule.state == "ENABLED" and not by_the_clock and rule.event_pattern.matches_event(event):
        deliver(engine, rule, event)


def deliver(engine: Engine, rule: Rule, event: Event) -> None:
    """Sends an event to every target of a rule, in the background."""
    for target in list(rule.targets):
        arguments = (engine, rule, copy.deepcopy(target), copy.deepcopy(event))
        threading.Thread(target=_deliver, args=arguments, name=f"event-{rule.name}", daemon=True).start()


def _deliver(engine: Engine, rule: Rule, target: dict[str, Any], event: Event) -> None:
    """At least once: a target that fails is tried again; one that goes on failing is named in the engine's log."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            kind = _kind(target["Arn"])
            _admit(engine, rule, target, kind)
            TARGETS[kind](engine, target, event, _input(target, event, rule))
            return
        except Exception:
            LOG.exception(
                "rule %s: event %s (%s) did not reach %s, attempt %d of %d",
                rule.name, event["id"], event["detail-type"], target["Arn"], attempt, ATTEMPTS,
            )  # fmt: skip
            time.sleep(PAUSE_SECONDS * attempt)


# What EventBridge does to a target that lets it by its own policy; a state machine is started with the target's role.
BY_POLICY = {"lambda": "lambda:InvokeFunction", "sns": "sns:Publish"}


def _admit(engine: Engine, rule: Rule, target: Mapping[str, Any], kind: str) -> None:
    """Raises LabError when EventBridge may not reach a target."""
    if kind == "states":
        role = str(target.get("RoleArn"))
        identity.require(engine, role, "events")
        access.require(engine, role, [Need("states:StartExecution", target["Arn"])], session=rule.name)
    elif kind in BY_POLICY:
        access.require_service(engine, "events", Need(BY_POLICY[kind], target["Arn"]), rule.arn)


def _kind(arn: str) -> str:
    """The key of TARGETS for a target's ARN: its service, with the resource's type where that matters."""
    parts = arn.split(":")
    service = parts[2] if len(parts) > 5 else ""
    if service == "events" and not parts[5].startswith(("rule/", "event-bus/", "api-destination/")):
        return "archive"
    return service


def _input(target: Mapping[str, Any], event: Event, rule: Rule) -> str:
    """What the target gets, as JSON text (an InputTemplate of bare text gives bare text)."""
    if "Input" in target:
        return str(target["Input"])
    if "InputPath" in target:
        return json.dumps(at(event, target["InputPath"]))
    if "InputTransformer" not in target:
        return json.dumps(event)
    paths = target["InputTransformer"].get("InputPathsMap") or {}
    values = {name: at(event, path) for name, path in paths.items()}
    values["aws.events.rule-arn"] = rule.arn
    values["aws.events.rule-name"] = rule.name
    values["aws.events.event.ingestion-time"] = event["time"]
    values["aws.events.event"] = {key: value for key, value in event.items() if key != "detail"}
    values["aws.events.event.json"] = event
    return filled(target["InputTransformer"]["InputTemplate"], values)


def at(event: Event, path: str) -> Any:
    """The value at a JSONPath of plain names and indices (`$.detail.object.key`); None when nothing is there."""
    value: Any = event
    for name, index in re.findall(r"\.([\w-]+)|\[(\d+)\]", path):
        if name and isinstance(value, dict):
            value = value.get(name)
        elif index and isinstance(value, list) and int(index) < len(value):
            value = value[int(index)]
        else:
            return None
    return value


def filled(template: str, values: Mapping[str, Any]) -> str:
    """An InputTemplate with its placeholders filled: as JSON values, or as bare text inside of a quoted string."""
    result, quoted, position = [], False, 0
    for found in PLACEHOLDER.finditer(template):
        between = template[position : found.start()]
        quoted ^= len(re.findall(r'(?<!\\)"', between)) % 2 == 1
        result.append(between)
        position = found.end()
        if found[1] not in values:
            result.append(found[0])
            continue
        value = values[found[1]]
        if quoted:
            text = value if isinstance(value, str) else json.dumps(value) if value is not None else ""
            result.append(json.dumps(text)[1:-1])
        else:
            result.append(json.dumps(value) if value is not None else '""')
    return "".join([*result, template[position:]])


def _to_machine(engine: Engine, target: Mapping[str, Any], event: Event, given: str) -> None:
    # AWS names the execution so too.
    name = f"{event['id']}_{uuid.uuid4()}"
    engine.client("stepfunctions").start_execution(stateMachineArn=target["Arn"], name=name, input=given)


def _to_function(engine: Engine, target: Mapping[str, Any], event: Event, given: str) -> None:
    engine.client("lambda").invoke(FunctionName=target["Arn"], InvocationType="Event", Payload=given.encode())


def _to_queue(engine: Engine, target: Mapping[str, Any], event: Event, given: str) -> None:
    client = engine.client("sqs")
    url = client.get_queue_url(QueueName=str(target["Arn"]).rpartition(":")[2])["QueueUrl"]
    group = (target.get("SqsParameters") or {}).get("MessageGroupId")
    client.send_message(QueueUrl=url, MessageBody=given, **({"MessageGroupId": group} if group else {}))


def _to_topic(engine: Engine, target: Mapping[str, Any], event: Event, given: str) -> None:
    engine.client("sns").publish(TopicArn=target["Arn"], Message=given)


def _to_logs(engine: Engine, target: Mapping[str, Any], event: Event, given: str) -> None:
    client, group = engine.client("logs"), str(target["Arn"]).split("log-group:")[1].removesuffix(":*")
    stream = str(uuid.uuid4())
    client.create_log_stream(logGroupName=group, logStreamName=stream)
    entry = {"timestamp": int(time.time() * 1000), "message": given}
    client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[entry])


def _to_archive(engine: Engine, target: Mapping[str, Any], event: Event, given: str) -> None:
    """The rule that CreateArchive makes: its InputTransformer carries the archive's ARN."""
    if "replay-name" in event:
        return
    archives = events_backends[engine.account][engine.region].archives
    name = json.loads(given)["archive-arn"].rpartition("/")[2].partition(":")[0]
    archives[name].events.append(event)


TARGETS: dict[str, Callable[[Engine, Mapping[str, Any], Event, str], None]] = {
    "states": _to_machine,
    "lambda": _to_function,
    "sqs": _to_queue,
    "sns": _to_topic,
    "logs": _to_logs,
    "archive": _to_archive,
}


def _refuse_early() -> None:
    """What no one would deliver is refused when it is asked for."""
    put_rule, put_targets = EventsBackend.put_rule, EventsBackend.put_targets

    def checked_rule(self: EventsBackend, *args: Any, **kwargs: Any) -> Any:
        if schedule := kwargs.get("scheduled_expression"):
            if kwargs.get("event_pattern"):
                raise JsonRESTError("ValidationException", "a schedule with a pattern is not covered on the desk")
            try:
                schedules.parse(schedule)
            except ValueError as error:
                raise JsonRESTError(
                    "ValidationException", f"Parameter ScheduleExpression is not valid: {error}"
                ) from None
        return put_rule(self, *args, **kwargs)

    def checked_targets(self: EventsBackend, name: str, bus: str | None, targets: list[dict[str, Any]]) -> Any:
        for target in targets:
            if _kind(target["Arn"]) not in TARGETS:
                raise JsonRESTError("ValidationException", f"the target {target['Arn']} is not covered on the desk")
            unknown = sorted(set(target) - TARGET_PARTS)
            if unknown:
                message = f"{', '.join(unknown)} of a target is not covered on the desk"
                raise JsonRESTError("ValidationException", message)
        return put_targets(self, name, bus, targets)

    EventsBackend.put_rule = checked_rule
    EventsBackend.put_targets = checked_targets


def _tell_of_alarms(engine: Engine) -> None:
    stock = CloudWatchBackend.set_alarm_state

    def set_alarm_state(
        self: CloudWatchBackend, alarm_name: str, reason: str, reason_data: str, state_value: str
    ) -> None:
        before = self.alarms[alarm_name].state_value if alarm_name in self.alarms else None
        stock(self, alarm_name, reason, reason_data, state_value)
        if before != state_value:
            put(engine, "aws.cloudwatch", "CloudWatch Alarm State Change", _alarm(self, alarm_name, before), [
                self.alarms[alarm_name].alarm_arn
            ])  # fmt: skip

    CloudWatchBackend.set_alarm_state = set_alarm_state


def _alarm(backend: CloudWatchBackend, name: str, before: str | None) -> dict[str, Any]:
    alarm = backend.alarms[name]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"
    return {
        "alarmName": name,
        "state": {"value": alarm.state_value, "reason": alarm.state_reason, "timestamp": now},
        "previousState": {"value": before},
        "configuration": {"description": alarm.description},
    }
