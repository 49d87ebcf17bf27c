"""EventBridge: rules whose targets really run, and the events that AWS services put on the default bus.

Covers: rules with moto's pattern matching, on the default bus · targets Step Functions and Lambda, with Input,
    InputPath and InputTransformer · events of S3 objects, model packages and alarms whose state was set · PutEvents.
Does not cover: retries and dead-letter queues of a target (a failed delivery is written to events.jsonl and to the
    server's log) · schedules · archives · any other target, which is refused when it is put.

Delivery is at least once, as in AWS: an event of events.jsonl put again with PutEvents is delivered again.
"""

from __future__ import annotations

import datetime
import functools
import json
import logging
import queue
import re
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from moto.cloudwatch.models import CloudWatchBackend
from moto.core.exceptions import JsonRESTError
from moto.events.models import EventsBackend, Rule, events_backends

from lab.engine import Engine

log = logging.getLogger(__name__)
TARGETS = ("states", "lambda")
PLACEHOLDER = re.compile(r"<([A-Za-z0-9_.-]+)>")


class Bus:
    """The default event bus of one engine: matches rules and delivers in the background, one event after another."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue()
        self._writing = threading.Lock()
        threading.Thread(target=self._deliver_all, name="events", daemon=True).start()

    def put(self, source: str, detail_type: str, detail: Mapping[str, Any], resources: list[str] | None = None) -> str:
        """Puts an event on the bus; returns its id. Delivery follows in the background."""
        now = datetime.datetime.now(datetime.UTC)
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": detail_type,
            "source": source,
            "account": self._engine.account,
            "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": self._engine.region,
            "resources": resources or [],
            "detail": dict(detail),
        }
        self._waiting.put(event)
        return str(event["id"])

    def _deliver_all(self) -> None:
        while True:
            event = self._waiting.get()
            rules = events_backends[self._engine.account][self._engine.region].event_buses["default"].rules
            for rule in list(rules.values()):
                if rule.state == "ENABLED" and rule.event_pattern.matches_event(event):
                    for target in list(rule.targets):
                        self._deliver(event, rule, target)

    def _deliver(self, event: Mapping[str, Any], rule: Rule, target: Mapping[str, Any]) -> None:
        """Calls one target; a failure is loud in the log, and stops no other target."""
        said: dict[str, Any] = {"event": event, "rule": rule.name, "target": target["Arn"]}
        try:
            said["started"] = self._call(event, target)
        except Exception as error:
            said["error"] = str(error)
            log.exception("rule %s could not reach its target %s", rule.name, target["Arn"])
        with self._writing, (self._engine.root / "events.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(said) + "\n")

    def _call(self, event: Mapping[str, Any], target: Mapping[str, Any]) -> str:
        given = json.dumps(target_input(event, target))
        service = str(target["Arn"]).split(":")[2]
        if service == "states":
            # EventBridge names executions so; a flow that wants a short name takes a part of it.
            name = f"{event['id']}_{uuid.uuid4()}"
            started = self._engine.client("stepfunctions").start_execution(
                stateMachineArn=target["Arn"], name=name, input=given
            )
            return str(started["executionArn"])
        self._engine.client("lambda").invoke(FunctionName=target["Arn"], InvocationType="Event", Payload=given.encode())
        return str(event["id"])


_buses: dict[str, Bus] = {}


def install(engine: Engine) -> None:
    """Takes over rule delivery, and puts alarm changes on the bus."""
    bus = _buses[engine.endpoint] = Bus(engine)
    _refuse_other_targets()

    def send(self: Rule, original_event: dict[str, Any], transform_input: bool = True) -> None:
        """moto hands an event to each rule by itself; ours go to all rules once, through PutEvents below."""

    def put_events(self: EventsBackend, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [_accepted(bus, event) for event in events]

    Rule.send_to_targets = send
    EventsBackend.put_events = put_events
    _announce_alarms(bus)


def put(
    engine: Engine, source: str, detail_type: str, detail: Mapping[str, Any], resources: list[str] | None = None
) -> str:
    """Puts an event of an AWS service on the default bus; returns its id."""
    return _buses[engine.endpoint].put(source, detail_type, detail, resources)


def target_input(event: Mapping[str, Any], target: Mapping[str, Any]) -> Any:
    """What a target receives: the event, a part of it, a constant, or the transformer's template filled in."""
    if target.get("Input"):
        return json.loads(target["Input"])
    if target.get("InputPath"):
        return _at(event, target["InputPath"])
    if target.get("InputTransformer"):
        transformer = target["InputTransformer"]
        values = {name: _at(event, path) for name, path in (transformer.get("InputPathsMap") or {}).items()}
        return json.loads(_filled(transformer["InputTemplate"], values))
    return event


def _filled(template: str, values: Mapping[str, Any]) -> str:
    """`<name>` inside a JSON string becomes text, outside of one a JSON value; so says EventBridge's user guide."""
    result, inside, at = [], False, 0
    while at < len(template):
        found = PLACEHOLDER.match(template, at)
        if found:
            value = values.get(found.group(1))
            text = json.dumps(value)
            result.append((text[1:-1] if isinstance(value, str) else text.replace('"', '\\"')) if inside else text)
            at = found.end()
            continue
        if template[at] == '"' and (at == 0 or template[at - 1] != "\\"):
            inside = not inside
        result.append(template[at])
        at += 1
    return "".join(result)


def _at(event: Mapping[str, Any], path: str) -> Any:
    """The value at `$.a.b` of an event; None where there is none."""
    value: Any = event
    for part in path.removeprefix("$").strip(".").split("."):
        if part:
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _accepted(bus: Bus, event: Mapping[str, Any]) -> dict[str, Any]:
    missing = [name for name in ("Source", "DetailType", "Detail") if not event.get(name)]
    if missing:
        return {"ErrorCode": "InvalidArgument", "ErrorMessage": f"Parameter {missing[0]} is not valid."}
    if event.get("EventBusName", "default").rpartition("/")[2] != "default":
        return {"ErrorCode": "InvalidArgument", "ErrorMessage": "The desk delivers from the default bus alone."}
    try:
        detail = json.loads(event["Detail"])
    except ValueError:
        return {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."}
    return {"EventId": bus.put(event["Source"], event["DetailType"], detail, event.get("Resources"))}


def _refuse_other_targets() -> None:
    stock = Rule.put_targets

    @functools.wraps(stock)
    def checked(self: Rule, targets: list[dict[str, Any]]) -> None:
        for target in targets:
            if str(target["Arn"]).split(":")[2] not in TARGETS:
                message = f"rule {self.name}: the desk delivers to {' and '.join(TARGETS)}, not to {target['Arn']}"
                raise JsonRESTError("ValidationException", message)
        stock(self, targets)

    Rule.put_targets = checked


def _announce_alarms(bus: Bus) -> None:
    """SetAlarmState puts "CloudWatch Alarm State Change" on the bus; moto evaluates no metric against an alarm."""
    stock = CloudWatchBackend.set_alarm_state

    @functools.wraps(stock)
    def announced(self: CloudWatchBackend, alarm_name: str, reason: str, reason_data: str, state_value: str) -> None:
        before = self.alarms[alarm_name].state_value if alarm_name in self.alarms else "INSUFFICIENT_DATA"
        stock(self, alarm_name, reason, reason_data, state_value)
        if before != state_value:
            detail = {
                "alarmName": alarm_name,
                "state": {"value": state_value, "reason": reason},
                "previousState": {"value": before},
            }
            bus.put("aws.cloudwatch", "CloudWatch Alarm State Change", detail, [self.alarms[alarm_name].alarm_arn])

    CloudWatchBackend.set_alarm_state = announced
