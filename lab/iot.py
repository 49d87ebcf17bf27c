"""AWS IoT Core's broker and rules engine: a message reaches who subscribed to its topic and the rules that select it.

Covers: delivery to the subscriptions of every core device, the publisher's own included (MQTT has no other way);
    rules whose SQL is `SELECT * [, topic(n) AS name, topic() AS name, timestamp() AS name] FROM 'topic filter'`,
    with Lambda actions; publishing over IPC from the desk's cores and with the `iot-data` API; rules that are disabled.
Does not cover: MQTT clients other than the cores, retained messages, queues for a core that is offline; every other
    clause, function and action, refused with SqlParseException or InvalidRequestException when the rule is created,
    before anything runs. An error action is kept and not run.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.iot.models import FakeRule, IoTBackend, iot_backends
from moto.iotdata.models import IoTDataPlaneBackend

from lab import access
from lab.engine import Engine
from lab.needs import Need
from lab.topics import matches

_log = logging.getLogger(__name__)
_subscribers: list[Callable[[str, bytes], None]] = []
_SQL = re.compile(
    r"\s*SELECT\s+\*\s*(?P<more>(?:,[^,]+)*?)\s+FROM\s+'(?P<filter>[^']+)'\s*;?\s*", re.IGNORECASE | re.DOTALL
)
_TERM = re.compile(r"\s*(?P<function>topic|timestamp)\((?P<argument>\d*)\)\s+AS\s+(?P<name>\w+)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """A rule's SQL: the topic filter, and the terms that join the payload as name -> (function, argument)."""

    topic_filter: str
    terms: tuple[tuple[str, str, int | None], ...]

    def select(self, topic: str, payload: bytes) -> Any:
        """The event that the action gets; the payload as it is when it is no JSON object and no term is asked for."""
        event = json.loads(payload)
        if not isinstance(event, dict):
            return event
        levels = topic.split("/")
        for name, function, argument in self.terms:
            if function == "timestamp":
                event[name] = int(time.time() * 1000)
            elif argument is None:
                event[name] = topic
            else:
                event[name] = levels[argument - 1] if argument <= len(levels) else None
        return event


def parse(sql: str) -> Statement:
    """The statement that `sql` is. Raises SqlParseException for all that the desk does not evaluate."""
    found = _SQL.fullmatch(sql)
    if found is None:
        raise _refused(f"the desk evaluates SELECT * [, topic(n) AS name] FROM 'topic filter', not {sql!r}")
    terms = []
    for text in filter(str.strip, found["more"].split(",")):
        term = _TERM.fullmatch(text)
        if term is None or (term["function"].lower() == "timestamp" and term["argument"]):
            raise _refused(f"the desk evaluates topic(n) and timestamp() in a rule, not {text.strip()!r}")
        terms.append((term["name"], term["function"].lower(), int(term["argument"]) if term["argument"] else None))
    return Statement(found["filter"], tuple(terms))


def _refused(message: str) -> JsonRESTError:
    return JsonRESTError("SqlParseException", message)


def install(engine: Engine) -> None:
    """Checks rules when they are created, and evaluates them for every message."""
    create = IoTBackend.create_topic_rule
    publish_only = IoTDataPlaneBackend.publish

    @functools.wraps(create)
    def checked(self: IoTBackend, rule_name: str, sql: str, **kwargs: Any) -> None:
        parse(sql)
        for action in kwargs.get("actions") or []:
            if set(action) != {"lambda"}:
                raise JsonRESTError(
                    "InvalidRequestException", f"rule {rule_name}: the desk runs lambda actions, not {sorted(action)}"
                )
        create(self, rule_name, sql, **kwargs)

    @functools.wraps(publish_only)
    def published(self: IoTDataPlaneBackend, topic: str, payload: bytes) -> None:
        publish_only(self, topic, payload)
        publish(engine, topic, payload)

    IoTBackend.create_topic_rule = checked
    IoTDataPlaneBackend.publish = published


def subscribe(deliver: Callable[[str, bytes], None]) -> None:
    """From now on `deliver` gets every message, topic and payload; what it wants of them is its own business."""
    _subscribers.append(deliver)


def unsubscribe(deliver: Callable[[str, bytes], None]) -> None:
    _subscribers.remove(deliver)


def publish(engine: Engine, topic: str, payload: bytes) -> None:
    """Delivers a message, and runs the actions of every rule that selects `topic`.

    An action that fails is logged, the others still run.
    """
    for deliver in list(_subscribers):
        deliver(topic, payload)
    rules: list[FakeRule] = list(iot_backends[engine.account][engine.region].rules.values())
    for rule in rules:
        statement = parse(rule.sql)
        if rule.rule_disabled or not matches(statement.topic_filter, topic):
            continue
        try:
            event = statement.select(topic, payload)
        except ValueError:
            _log.warning("rule %s: the message on %s is no JSON", rule.rule_name, topic)
            continue
        for action in rule.actions:
            _invoke(engine, rule, action["lambda"]["functionArn"], event)


def _invoke(engine: Engine, rule: FakeRule, function: str, event: Any) -> None:
    try:
        source = f"arn:aws:iot:{engine.region}:{engine.account}:rule/{rule.rule_name}"
        access.require_service(engine, "iot", Need("lambda:InvokeFunction", function), source)
        engine.client("lambda").invoke(
            FunctionName=function, InvocationType="Event", Payload=json.dumps(event).encode()
        )
    except Exception as error:
        _log.warning("rule %s: %s was not invoked: %s", rule.rule_name, function, error)
