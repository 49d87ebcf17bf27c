"""EventBridge: events in AWS's shape reach their targets, and what cannot be delivered is refused or heard of."""

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lab import events
from lab.engine import Engine

Until = Callable[[Callable[[], Any]], Any]


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def inbox(engine: Engine, name: str, until: Until) -> Callable[[], Any]:
    """A queue; gives the next message in it, parsed."""
    client = engine.client("sqs")
    url = client.create_queue(QueueName=name)["QueueUrl"]

    def ask() -> Any:
        found = client.receive_message(QueueUrl=url, MaxNumberOfMessages=1).get("Messages", [])
        for message in found:
            client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in found]

    return lambda: until(ask)[0]


@pytest.fixture
def rule(engine: Engine, name: str) -> Iterator[Callable[..., None]]:
    """Sends events of a pattern to the test's queue."""
    client = engine.client("events")
    targets: list[dict[str, Any]] = []

    def make(pattern: dict[str, Any], **target: Any) -> None:
        client.put_rule(Name=name, EventPattern=json.dumps(pattern))
        arn = f"arn:aws:sqs:{engine.region}:{engine.account}:{name}"
        targets.append({"Id": "one", "Arn": arn, **target})
        client.put_targets(Rule=name, Targets=targets)

    yield make
    client.remove_targets(Rule=name, Ids=[target["Id"] for target in targets])
    client.delete_rule(Name=name)


def send(engine: Engine, source: str, **detail: Any) -> str:
    entry = {"Source": source, "DetailType": "Said", "Detail": json.dumps(detail)}
    return str(engine.client("events").put_events(Entries=[entry])["Entries"][0]["EventId"])


def test_a_new_object_is_told_in_the_shape_that_s3_sends(
    engine: Engine, name: str, rule: Callable[..., None], inbox: Callable[[], Any]
) -> None:
    s3 = engine.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}})
    key = [{"wildcard": "raw/*/_manifest.json"}]
    rule({"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {"object": {"key": key}}})
    s3.put_object(Bucket=name, Key="raw/digits/0.png", Body=b"not this one")
    made = s3.put_object(Bucket=name, Key="raw/digits/_manifest.json", Body=b"{}")
    event = inbox()
    assert event["account"] == engine.account and event["region"] == engine.region
    assert event["resources"] == [f"arn:aws:s3:::{name}"] and event["time"].endswith("Z")
    detail = event["detail"]
    assert detail["bucket"] == {"name": name} and detail["reason"] == "PutObject"
    assert detail["object"]["key"] == "raw/digits/_manifest.json" and detail["object"]["size"] == 2
    assert detail["object"]["version-id"] == made["VersionId"]
    assert detail["object"]["etag"] == made["ETag"].strip('"') and detail["object"]["sequencer"]


def test_a_transformer_fills_its_template(
    engine: Engine, name: str, rule: Callable[..., None], inbox: Callable[[], Any]
) -> None:
    paths = {"who": "$.detail.who", "all": "$.detail.list", "none": "$.detail.nothing"}
    template = '{"who": <who>, "all": <all>, "text": "for <who>, <aws.events.rule-name>", "none": <none>, "id": <id>}'
    rule({"source": [name]}, InputTransformer={"InputPathsMap": {**paths, "id": "$.id"}, "InputTemplate": template})
    sent = send(engine, name, who='the "one"', list=[1, 2])
    assert inbox() == {"who": 'the "one"', "all": [1, 2], "text": f'for the "one", {name}', "none": "", "id": sent}


def test_a_constant_input_and_a_part_of_the_event(
    engine: Engine, name: str, rule: Callable[..., None], inbox: Callable[[], Any]
) -> None:
    rule({"source": [name]}, InputPath="$.detail.part")
    send(engine, name, part={"a": 1})
    assert inbox() == {"a": 1}


def test_an_event_starts_a_machine_under_a_name_of_both_ids(
    engine: Engine, name: str, rule: Callable[..., None], trusting: Callable[[str], str], until: Until
) -> None:
    machines = engine.client("stepfunctions")
    definition = {"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}
    role = trusting("states")
    arn = machines.create_state_machine(name=name, definition=json.dumps(definition), roleArn=role)["stateMachineArn"]
    rule({"source": [name]}, Id="machine", Arn=arn, RoleArn=trusting("events"), Input='{"constant": true}')
    sent = send(engine, name)
    [execution] = until(lambda: machines.list_executions(stateMachineArn=arn)["executions"])
    assert execution["name"].startswith(f"{sent}_") and len(execution["name"]) == 73
    found = until(lambda: _ended(machines.describe_execution(executionArn=execution["executionArn"])))
    assert found["status"] == "SUCCEEDED" and json.loads(found["input"]) == {"constant": True}


def _ended(found: dict[str, Any]) -> dict[str, Any] | None:
    return found if found["status"] != "RUNNING" else None


def test_an_alarm_that_changes_its_state_is_told_once(
    engine: Engine, name: str, rule: Callable[..., None], inbox: Callable[[], Any]
) -> None:
    cloudwatch = engine.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=name, MetricName="m", Namespace="n", Period=60, EvaluationPeriods=1, Threshold=1.0,
        Statistic="Sum", ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    rule({"source": ["aws.cloudwatch"], "detail": {"alarmName": [name], "state": {"value": ["ALARM"]}}})
    for _ in range(2):
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="because")
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="over")
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="again")
    first, second = inbox(), inbox()
    assert {first["detail"]["state"]["reason"], second["detail"]["state"]["reason"]} == {"because", "again"}
    assert first["detail-type"] == "CloudWatch Alarm State Change" and first["resources"][0].endswith(f":alarm:{name}")


def test_a_replayed_archive_delivers_an_event_a_second_time(
    engine: Engine, name: str, rule: Callable[..., None], inbox: Callable[[], Any], until: Until
) -> None:
    client = engine.client("events")
    bus = client.describe_event_bus(Name="default")["Arn"]
    archive = client.create_archive(ArchiveName=name, EventSourceArn=bus, EventPattern=json.dumps({"source": [name]}))[
        "ArchiveArn"
    ]
    rule({"source": [name]})
    send(engine, name, n=1)
    first = inbox()
    until(lambda: client.describe_archive(ArchiveName=name)["EventCount"] == 1)
    now = datetime.now(UTC)
    client.start_replay(
        ReplayName=name, EventSourceArn=archive, EventStartTime=now - timedelta(hours=1), EventEndTime=now,
        Destination={"Arn": bus},
    )  # fmt: skip
    again = inbox()
    assert again["detail"] == first["detail"] and again["replay-name"] == name
    client.delete_archive(ArchiveName=name)


def test_a_target_that_fails_is_named_in_the_log_and_holds_up_no_other(
    engine: Engine, name: str, rule: Callable[..., None], inbox: Callable[[], Any], until: Until
) -> None:
    missing = f"arn:aws:lambda:{engine.region}:{engine.account}:function:nobody-{name}"
    rule({"source": [name]}, Id="bad", Arn=missing)
    rule({"source": [name]})
    send(engine, name, n=1)
    assert inbox()["detail"] == {"n": 1}
    log = engine.root / "server.log"
    until(lambda: f"did not reach {missing}, attempt {events.ATTEMPTS}" in log.read_text())


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"Arn": "arn:aws:ecs:us-east-1:123456789012:cluster/c"}, "is not covered"),
        ({"DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:123456789012:q"}}, "DeadLetterConfig of a target"),
    ],
)
def test_a_target_that_no_one_would_deliver_to_is_refused(
    engine: Engine, name: str, target: dict[str, Any], words: str
) -> None:
    client = engine.client("events")
    client.put_rule(Name=name, EventPattern='{"source": ["x"]}')
    given = {"Id": "1", "Arn": "arn:aws:sqs:us-east-1:123456789012:q", **target}
    with pytest.raises(ClientError, match=words):
        client.put_targets(Rule=name, Targets=[given])
    client.delete_rule(Name=name)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ScheduleExpression": "cron(0 20 L * ? *)"}, "L in cron is not covered"),
        ({"ScheduleExpression": "rate(1 hour)", "EventPattern": '{"source": ["x"]}'}, "a schedule with a pattern"),
    ],
)
def test_a_schedule_that_the_desk_cannot_keep_is_refused(
    engine: Engine, name: str, given: dict[str, str], words: str
) -> None:
    with pytest.raises(ClientError, match=words):
        engine.client("events").put_rule(Name=name, **given)


def test_an_entry_without_a_source_or_with_a_broken_detail_is_not_sent(engine: Engine) -> None:
    entries = [{"DetailType": "d", "Detail": "{}"}, {"Source": "s", "DetailType": "d", "Detail": "["}]
    answer = engine.client("events").put_events(Entries=entries)
    assert [row["ErrorCode"] for row in answer["Entries"]] == ["InvalidArgument", "MalformedDetail"]
    assert answer["FailedEntryCount"] == 2


def test_a_path_reads_names_and_indices() -> None:
    event = {"detail": {"a": [{"b-c": 1}]}}
    assert events.at(event, "$.detail.a[0].b-c") == 1
    assert events.at(event, "$.detail.x.y") is None and events.at(event, "$") == event
