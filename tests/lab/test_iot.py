"""Topic rules: what the desk evaluates, what it refuses, and that a Lambda action really runs."""

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.core.exceptions import JsonRESTError
from moto.iot.models import IoTBackend
from moto.iotdata.models import IoTDataPlaneBackend

from lab import awslambda, iot
from lab.engine import Engine
from lab.topics import matches

HANDLER = """
import json, os, pathlib
def handler(event, context):
    pathlib.Path(os.environ["TARGET"]).write_text(json.dumps(event))
"""


@pytest.fixture
def cloud(desk: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    # install() replaces these for the life of the process; the tests give them back.
    monkeypatch.setattr(IoTBackend, "create_topic_rule", IoTBackend.create_topic_rule)
    monkeypatch.setattr(IoTDataPlaneBackend, "publish", IoTDataPlaneBackend.publish)
    iot.install(desk)
    yield desk


def rule(cloud: Engine, sql: str, arn: str = "arn:aws:lambda:us-east-1:123456789012:function:f", **more: Any) -> None:
    payload = {"sql": sql, "actions": [{"lambda": {"functionArn": arn}}], **more}
    cloud.client("iot").create_topic_rule(ruleName="rule", topicRulePayload=payload)


def test_a_message_selects_its_rule_and_the_lambda_action_runs(
    cloud: Engine, role: Callable[..., str], tmp_path: Path
) -> None:
    awslambda.install(cloud)
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as opened:
        opened.writestr("entry.py", HANDLER)
    target = tmp_path / "event.json"
    made = cloud.client("lambda").create_function(
        FunctionName="feedback",
        Runtime="python3.11",
        Role=role("feedback", "lambda"),
        Handler="entry.handler",
        Code={"ZipFile": code.getvalue()},
        Environment={"Variables": {"TARGET": str(target)}},
    )
    cloud.client("lambda").add_permission(
        FunctionName="feedback", StatementId="rule", Action="lambda:InvokeFunction", Principal="iot.amazonaws.com"
    )
    rule(cloud, "SELECT *, topic(2) AS thing FROM 'lab/+/telemetry'", made["FunctionArn"])
    cloud.client("iot-data").publish(topic="lab/desk-1/other", payload=b'{"count": 0}')
    cloud.client("iot-data").publish(topic="lab/desk-1/telemetry", payload=b'{"count": 3}')
    deadline = time.monotonic() + 20
    while not target.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.1)
    assert json.loads(target.read_text()) == {"count": 3, "thing": "desk-1"}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT temperature FROM 'a/b'",
        "SELECT * FROM 'a/b' WHERE x > 1",
        "SELECT *, upper(x) AS y FROM 'a/b'",
        "SELECT *, timestamp(3) AS y FROM 'a/b'",
        "nonsense",
    ],
)
def test_sql_that_the_desk_does_not_evaluate_is_refused_at_creation(cloud: Engine, sql: str) -> None:
    with pytest.raises(ClientError) as error:
        rule(cloud, sql)
    assert error.value.response["Error"]["Code"] == "SqlParseException"
    assert cloud.client("iot").list_topic_rules()["rules"] == []


def test_an_action_that_the_desk_does_not_run_is_refused_at_creation(cloud: Engine) -> None:
    with pytest.raises(ClientError, match="not \\['sqs'\\]"):
        rule(
            cloud, "SELECT * FROM 'a'", actions=[{"sqs": {"queueUrl": "https://q", "roleArn": "arn:aws:iam::1:role/r"}}]
        )


def test_terms_join_the_payload() -> None:
    statement = iot.parse("SELECT *, topic() AS topic, topic(1) AS first, timestamp() AS at FROM 'a/#'")
    event = statement.select("a/b/c", b'{"x": 1}')
    assert (event["x"], event["topic"], event["first"]) == (1, "a/b/c", "a")
    assert abs(event["at"] / 1000 - time.time()) < 5
    with pytest.raises(JsonRESTError):
        iot.parse("SELECT * FROM unquoted")


def test_a_disabled_rule_and_a_message_that_is_no_json_run_nothing(
    cloud: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    invoked: list[Any] = []
    monkeypatch.setattr(iot, "_invoke", lambda *given: invoked.append(given))
    rule(cloud, "SELECT * FROM 'a'", ruleDisabled=True)
    iot.publish(cloud, "a", b"{}")
    cloud.client("iot").enable_topic_rule(ruleName="rule")
    iot.publish(cloud, "a", b"\xff")
    assert invoked == []
    iot.publish(cloud, "a", b"{}")
    assert len(invoked) == 1


@pytest.mark.parametrize(
    ("pattern", "topic", "selected"),
    [
        ("a/b", "a/b", True),
        ("a/+/c", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("#", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
    ],
)
def test_topic_filters(pattern: str, topic: str, selected: bool) -> None:
    assert matches(pattern, topic) is selected


def test_a_message_reaches_whoever_subscribed_at_the_broker_until_they_leave(cloud: Engine) -> None:
    heard: list[tuple[str, bytes]] = []

    def hear(topic: str, payload: bytes) -> None:
        heard.append((topic, payload))

    iot.subscribe(hear)
    cloud.client("iot-data").publish(topic="lab/desk-1/command", payload=b"go")
    iot.unsubscribe(hear)
    cloud.client("iot-data").publish(topic="lab/desk-1/command", payload=b"stop")
    assert heard == [("lab/desk-1/command", b"go")]
