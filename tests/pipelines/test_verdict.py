"""The verdict on a canary: what passes, what waits, what fails, each in words that a person understands."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from scipy.stats import binom

from pipelines.functions import verdict
from pipelines.functions.verdict import FAIL, PASS, WAIT, Limits, Report, Verdict, Watched

NEW, OLD = "1.0.43", "1.0.42"
SINCE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LIMITS = Limits(watch_minutes=10, silent_minutes=5, watch_answers=20, error_percent=1.0, drift_psi=0.25)
Judged = Callable[..., Verdict]


@pytest.fixture
def said(event: Callable[[str], dict[str, Any]]) -> Callable[..., Report]:
    """Telemetry of the new version, or with `kind` an alert, `minute` minutes after the deployment."""

    def said(minute: float = 1, thing: str = "a", **more: Any) -> Report:
        name = "alert" if "kind" in more else "telemetry"
        figures = {"count": 60, "errors": 0, "psi": None, "ks": None, "window": 0} if name == "telemetry" else {}
        message = {**event(name), "thing": thing, "model_version": NEW, "version": NEW, **figures, **more}
        return Report(arrived=SINCE + timedelta(minutes=minute), message=message)

    return said


def judged(*reports: Report, minute: float = 10, canaries: tuple[str, ...] = ("a",), failed: int = 0) -> Verdict:
    watched = Watched(
        version=NEW,
        since=SINCE,
        began=SINCE,
        now=SINCE + timedelta(minutes=minute),
        canaries=canaries,
        reports=reports,
        failed=failed,
    )
    return verdict.judge(watched, LIMITS)


def test_a_canary_that_answers_for_the_whole_window_passes_with_its_figures(said: Any) -> None:
    found = judged(*(said(minute) for minute in range(1, 11)))
    assert found.answer == PASS
    assert found.reasons == ("1 canaries gave 600 answers: 0 errors, 0 over budget",)


def test_while_the_window_lasts_the_answer_is_wait(said: Any) -> None:
    found = judged(said(1), minute=2)
    assert found == Verdict(WAIT, ("480 s of the watch window are left",))


def test_silence_never_passes(said: Any) -> None:
    assert judged(minute=4).answer == WAIT
    for minute in (5.1, 10, 1000):
        found = judged(minute=minute)
        assert found.answer == FAIL
        assert found.reasons == (f"a sent no telemetry of version {NEW} for {minute:.1f} minutes",)


def test_a_canary_that_falls_silent_within_the_window_fails(said: Any) -> None:
    found = judged(said(1), said(2), minute=7.5)
    assert found == Verdict(FAIL, (f"a sent no telemetry of version {NEW} for 5.5 minutes",))


def test_every_canary_must_serve_the_version(said: Any) -> None:
    both = [said(minute) for minute in range(1, 11)]
    old = [said(minute, "b", model_version=OLD) for minute in range(1, 11)]
    assert judged(*both, minute=4, canaries=("a", "b")).answer == WAIT
    found = judged(*both, *old, canaries=("a", "b"))
    assert found == Verdict(FAIL, (f"b sent no telemetry of version {NEW} for 10.0 minutes",))


def test_a_canary_that_gives_no_answers_is_waited_for_and_then_fails(said: Any) -> None:
    assert judged(said(1, count=5), minute=4).reasons[-1] == "a gave 5 answers so far; 20 are asked for"
    found = judged(*(said(minute, count=1) for minute in range(1, 11)))
    assert found == Verdict(FAIL, ("a gave 10 answers in its whole window; 20 are asked for",))


@pytest.mark.parametrize(
    ("alert", "reason"),
    [
        (
            {"kind": "reject", "reason": "golden", "detail": "off by 0.2"},
            f"a rejected version {NEW}: golden: off by 0.2",
        ),
        ({"kind": "revert", "reason": "errors", "detail": ""}, f"a reverted version {NEW}: errors"),
        ({"kind": "degraded", "reason": "hang", "detail": ""}, "a is degraded: hang"),
    ],
)
def test_an_alert_about_the_version_fails_at_once(said: Any, alert: dict[str, Any], reason: str) -> None:
    assert judged(said(1), said(1.5, **alert), minute=2) == Verdict(FAIL, (reason,))


def test_alerts_of_another_version_another_device_or_another_time_do_not_count(said: Any) -> None:
    fine = [said(minute) for minute in range(1, 11)]
    reject = {"kind": "reject", "reason": "golden", "detail": ""}
    others = [
        said(2, version=OLD, **reject),
        said(2, thing="z", **reject),
        said(-1, **reject),
        said(2, kind="swap", reason="", detail=""),
    ]
    assert judged(*fine, *others).answer == PASS


def test_a_canary_that_went_back_by_itself_fails(said: Any) -> None:
    found = judged(said(1), said(2, model_version=OLD), minute=3)
    assert found == Verdict(FAIL, (f"a went back from version {NEW} to {OLD}",))


def test_a_canary_that_still_serves_the_version_before_is_waited_for(said: Any) -> None:
    assert judged(said(0.5, model_version=OLD), minute=1).answer == WAIT


def test_a_canary_that_calls_itself_degraded_fails(said: Any) -> None:
    assert judged(said(1, state="DEGRADED"), minute=2) == Verdict(FAIL, ("a says that it is degraded",))


def test_more_errors_than_chance_explains_fail_and_one_in_a_handful_does_not(said: Any) -> None:
    found = judged(said(1, count=590, errors=20), minute=2)
    assert found == Verdict(FAIL, ("20 errors in 610 answers; 1 % are allowed",))
    assert judged(said(1, count=29, errors=1), minute=2).answer == WAIT


def test_a_95th_percentile_over_the_budget_fails(said: Any) -> None:
    found = judged(said(1, count=200, over_budget=25), minute=2)
    assert found == Verdict(FAIL, ("25 of 200 answers took longer than the budget; 5 % may",))
    assert judged(said(1, count=200, over_budget=12), minute=2).answer == WAIT


def test_drift_needs_effect_and_significance(said: Any) -> None:
    moved = {"psi": 0.6, "ks": 0.4, "window": 100}
    assert judged(said(1, **moved), minute=2).reasons[0].startswith("inputs are unlike the training data")
    assert judged(said(1, **{**moved, "psi": 0.2}), minute=2).answer == WAIT
    assert judged(said(1, **{**moved, "ks": 0.1}), minute=2).answer == WAIT


def test_a_failed_deployment_waits_a_moment_for_its_reason(said: Any) -> None:
    assert judged(minute=0.1, failed=1).answer == WAIT
    reject = said(0.1, kind="reject", reason="golden", detail="off by 0.2")
    found = judged(reject, minute=0.1, failed=1)
    count = f"1 of 1 canaries did not take version {NEW}"
    assert found == Verdict(FAIL, (count, f"a rejected version {NEW}: golden: off by 0.2"))
    assert judged(minute=1, failed=1) == Verdict(FAIL, (count,))


def test_without_a_canary_there_is_nothing_to_pass() -> None:
    assert judged(canaries=()).answer == FAIL


@pytest.mark.parametrize(("count", "of", "share"), [(3, 20, 0.05), (40, 1000, 0.01), (1, 5, 0.01), (900, 60_000, 0.01)])
def test_the_tail_is_that_of_the_binomial_distribution(count: int, of: int, share: float) -> None:
    exact = float(binom.sf(count - 1, of, share))
    assert verdict.beyond_chance(count, of, share) is (exact < verdict.SURE)
    assert verdict._at_least(count, of, share) == pytest.approx(exact, rel=1e-6, abs=1e-300)


def test_no_error_is_allowed_where_none_is() -> None:
    assert verdict.beyond_chance(1, 1_000_000, 0.0)
    assert not verdict.beyond_chance(0, 0, 0.0)


@pytest.fixture
def fleet(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A canary group with one device, and the function's environment."""
    iot = boto3.client("iot")
    iot.create_thing_group(thingGroupName="p-canary")
    iot.create_thing(thingName="a")
    iot.add_thing_to_thing_group(thingGroupName="p-canary", thingName="a")
    monkeypatch.setenv("BUCKET", "lake")
    monkeypatch.setenv("CANARY_GROUP", "p-canary")
    limits = {"watch_minutes": 0.001, "silent_minutes": 5, "watch_answers": 1, "error_percent": 1, "drift_psi": 0.25}
    monkeypatch.setenv("LIMITS", json.dumps(limits))
    verdict.runtime.cache_clear()
    return iot


@pytest.fixture
def asked(event: Callable[[str], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The state machine's event of a moment after a deployment of the new version."""

    def asked(**more: Any) -> dict[str, Any]:
        now = datetime.now(UTC)
        times = {"since": (now - timedelta(seconds=5)).isoformat(), "began": (now - timedelta(seconds=2)).isoformat()}
        return {**event("verdict"), "version": NEW, **times, **more}

    return asked


def test_the_function_reads_what_the_canaries_sent(fleet: Any, asked: Any, put: Any, said: Any) -> None:
    day = datetime.now(UTC).date()
    assert verdict.handler(asked(), None)["answer"] == WAIT
    put(f"telemetry/a/{day}/1.json", said(1).message)
    put(f"telemetry/b/{day}/2.json", said(1, thing="b", count=0, errors=9).message)
    answer = verdict.handler(asked(), None)
    assert (answer["answer"], answer["cause"]) == (PASS, "1 canaries gave 60 answers: 0 errors, 0 over budget")
    put(f"telemetry/a/{day - timedelta(days=1)}/alert-3.json", said(1, kind="revert", reason="slow", detail="").message)
    answer = verdict.handler(asked(), None)
    assert answer == {
        "answer": FAIL,
        "reasons": [f"a reverted version {NEW}: slow"],
        "cause": f"a reverted version {NEW}: slow",
    }


def test_what_was_sent_before_the_deployment_does_not_count(fleet: Any, asked: Any, put: Any, said: Any) -> None:
    put(f"telemetry/a/{datetime.now(UTC).date()}/1.json", said(1).message)
    later = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    assert verdict.handler(asked(since=later), None)["answer"] == WAIT


def test_the_job_s_failures_reach_the_verdict(fleet: Any, asked: Any) -> None:
    job = {"status": "CANCELED", "things": {"NumberOfFailedThings": 1, "NumberOfQueuedThings": 0}}
    began = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    answer = verdict.handler(asked(job=job, began=began), None)
    assert answer["reasons"] == [f"1 of 1 canaries did not take version {NEW}"]
