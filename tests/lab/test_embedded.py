"""Log lines in CloudWatch's embedded metric format become metrics; any other line is a line."""

import json
import time
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


def test_a_line_that_reaches_the_logs_becomes_metrics(desk: Engine) -> None:
    joblog.to_cloudwatch(desk, "/aws/sagemaker/Endpoints/e", "live/1", ["plain", json.dumps(line())])
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
