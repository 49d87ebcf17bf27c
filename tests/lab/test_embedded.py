"""Log lines in CloudWatch's embedded metric format become metrics; any other line is a line."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from lab import embedded, joblog
from lab.engine import Engine


def line(**other: Any) -> dict[str, Any]:
    directive = {
        "Namespace": "lab/Endpoint",
        "Dimensions": [["EndpointName"]],
        "Metrics": [{"Name": "total_p95_ms", "Unit": "Milliseconds"}, {"Name": "requests", "Unit": "Count"}],
    }
    about = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    return {"_aws": about, "EndpointName": "e", "total_p95_ms": 1.5, "requests": 7, **other}


GROUP = "/aws/sagemaker/Endpoints/e"


def test_a_role_that_may_not_write_its_log_has_none(
    desk: Engine, role: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    nothing = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}}
    joblog.to_cloudwatch(desk, role("e", "sagemaker", may=nothing), GROUP, "live/1", ["plain"])
    assert desk.client("logs").describe_log_groups()["logGroups"] == []
    assert f"no log in {GROUP}" in caplog.text and "logs:CreateLogStream" in caplog.text


def test_a_line_that_reaches_the_logs_becomes_metrics(desk: Engine, role: Callable[..., str]) -> None:
    joblog.to_cloudwatch(desk, role("e", "sagemaker"), GROUP, "live/1", ["plain", json.dumps(line())])
    cloudwatch = desk.client("cloudwatch")
    found = cloudwatch.list_metrics(Namespace="lab/Endpoint")["Metrics"]
    assert sorted(each["MetricName"] for each in found) == ["requests", "total_p95_ms"]
    assert found[0]["Dimensions"] == [{"Name": "EndpointName", "Value": "e"}]
    statistics = cloudwatch.get_metric_statistics(
        Namespace="lab/Endpoint", MetricName="total_p95_ms", Dimensions=[{"Name": "EndpointName", "Value": "e"}],
        StartTime=time.time() - 600, EndTime=time.time() + 600, Period=3600, Statistics=["Maximum"],
    )  # fmt: skip
    assert [point["Maximum"] for point in statistics["Datapoints"]] == [1.5]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"_aws"',
        '{"_aws": 3}',
        json.dumps({"_aws": {"Timestamp": 1}}),
        json.dumps(line(requests="many")),
        json.dumps({key: value for key, value in line().items() if key != "EndpointName"}),
    ],
)
def test_a_line_that_is_no_metric_makes_none(desk: Engine, text: str) -> None:
    assert embedded.publish(desk, [text]) == 0
