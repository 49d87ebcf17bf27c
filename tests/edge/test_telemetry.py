"""What a device reports: bounded, complete, and counted once."""

import json

import pytest

from edge.drift import Reading
from edge.switch import Event
from edge.telemetry import BUCKETS, EVENTS, Telemetry, bucket


def test_a_message_never_exceeds_two_kilobytes_and_keeps_the_newest_events() -> None:
    telemetry = Telemetry("t" * 128)
    for number in range(40):
        telemetry.happened(Event("reject", f"1.0.{number}", "signature", "x" * 500))
    for number in range(5_000):
        telemetry.predicted(float(number), 0.5, 0.5, 1.0)
        telemetry.staged(queue=123456.789, pre=123456.789, infer=123456.789, post=123456.789)
    reading = Reading(3.2, 0.9, 100, {f"a column with a long name {number}" * 9: [3.2, 0.9] for number in range(3)})
    message = telemetry.report(None, reading, {f"class {number}": 10**9 for number in range(9)}, budget_ms=12.5)
    read = json.loads(message)
    assert len(message) <= 2_048 and read["events"][-1]["version"] == "1.0.39" and len(read["events"]) <= EVENTS
    assert read["psi"] == 3.2 and read["window"] == 100


def test_a_report_says_what_happened_since_the_one_before() -> None:
    telemetry = Telemetry("desk-1")
    for number in range(100):
        telemetry.predicted(float(number), 0.5, 0.25, budget_ms=89.0)
    telemetry.failed()
    telemetry.unreadable()
    read = json.loads(telemetry.report(None, None, {"late": 2, "queue": 0}))
    assert (read["count"], read["p50_ms"], read["p95_ms"], read["p99_ms"]) == (100, 50.0, 95.0, 99.0)
    assert (read["errors"], read["corrupt"], read["over_budget"]) == (1, 1, 10)
    assert (read["confidence_mean"], read["entropy_mean"], read["drops"]) == (0.5, 0.25, {"late": 2})
    assert sum(read["latency"]) == 100
    again = json.loads(telemetry.report(None, None, {}))
    assert (again["count"], again["events"], again["p50_ms"], sum(again["latency"])) == (0, [], None, 0)


@pytest.mark.parametrize(("ms", "place"), [(0.0, 0), (0.25, 0), (0.26, 1), (0.5, 1), (1.0, 2), (1.01, 3), (1e9, 11)])
def test_a_latency_falls_into_the_first_bucket_that_holds_it(ms: float, place: int) -> None:
    assert bucket(ms) == place and place < BUCKETS
