"""Schedules fall due to the minute, reach their targets, and no event of the bus starts them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from moto.events.models import EventsBackend, Rule

from lab import events, schedules
from lab.engine import Engine

Until = Callable[[Callable[[], Any]], Any]
SATURDAY = datetime(2026, 11, 28, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("cron(0 20 * * ? *)", True),
        ("cron(1 20 * * ? *)", False),
        ("cron(0 8-22/4 * * ? *)", True),
        ("cron(0 8-22/5 * * ? *)", False),
        ("cron(0/15 * * NOV SAT 2026)", True),
        ("cron(0 20 ? * MON-FRI *)", False),
        ("cron(0 20 ? * 7 *)", True),
        ("cron(0 20 28,29 * ? *)", True),
        ("cron(0 20 * * ? 2025)", False),
    ],
)
def test_cron_is_due_in_its_minute_and_in_no_other(expression: str, due: bool) -> None:
    assert schedules.parse(expression)(SATURDAY, SATURDAY) is due


def test_a_rate_counts_from_when_its_rule_was_there() -> None:
    due = schedules.parse("rate(2 hours)")
    at = [hour for hour in range(6) if due(SATURDAY.replace(hour=10 + hour), SATURDAY.replace(hour=10))]
    assert at == [2, 4]


@pytest.mark.parametrize(
    "expression",
    ["cron(0 20 L * ? *)", "cron(0 20 ? * MON#1 *)", "cron(0 25 * * ? *)", "cron(0 20 * * ?)", "rate(0 days)"],
)
def test_what_the_desk_cannot_keep_is_refused_in_one_line(expression: str) -> None:
    with pytest.raises(ValueError, match=r"cron|rate") as refused:
        schedules.parse(expression)
    assert "\n" not in str(refused.value)


def test_a_rule_that_is_due_sends_the_event_of_aws_to_its_target_and_only_then(
    desk: Engine, itself: Callable[..., None], until: Until
) -> None:
    itself(EventsBackend, Rule)
    events.install(desk)
    url = desk.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    client = desk.client("events")
    rule = client.put_rule(Name="evening", ScheduleExpression="cron(0 20 * * ? *)")["RuleArn"]
    client.put_targets(Rule="evening", Targets=[{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:123456789012:q"}])
    client.put_events(Entries=[{"Source": "x", "DetailType": "d", "Detail": "{}"}])
    seen: dict[str, datetime] = {}
    schedules.tick(desk, SATURDAY.replace(minute=1), seen)
    schedules.tick(desk, SATURDAY.replace(second=7), seen)
    [message] = until(lambda: desk.client("sqs").receive_message(QueueUrl=url).get("Messages"))
    event = json.loads(message["Body"])
    assert (event["source"], event["detail-type"], event["resources"]) == ("aws.events", "Scheduled Event", [rule])
    assert event["time"] == "2026-11-28T20:00:00Z"
    counts = desk.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert int(counts["ApproximateNumberOfMessages"]) == 0, "neither the other minute nor an event of the bus sends one"
