"""Whether what the canaries report lets a new model go on to the fleet: pass, wait or fail, with reasons in words.

Event: `{"version", "since", "began", "job"}`; `since` is when the version was deployed, `began` when its canaries had
taken or refused it, both ISO 8601; `job.things` counts them as IoT does. Answer: `{"answer", "reasons", "cause"}`, the
cause being the reasons in one line.

Silence never passes. A share of errors, or of answers over budget, counts as too large when so many would come from a
model at its limit in fewer than one window of a hundred (exact binomial test), so a handful of answers fails no model
by chance; drift needs both effect (the stability index) and significance (the Kolmogorov-Smirnov distance).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import boto3

PASS, WAIT, FAIL = "pass", "wait", "fail"
SURE = 0.01
OVER = 0.05  # of answers over the budget: above it, the 95th percentile is
# Kolmogorov's distance times the root of the window above which one of 64 features is beyond chance at SURE.
KS_BEYOND_CHANCE = 2.2
FAILURES = ("Failed", "Rejected", "TimedOut", "Canceled")
# A canary that failed its deployment says why in an alert, which may be on its way.
ALERT_SECONDS = 15


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a canary may do: `[edge]` of lab.toml. Minutes, answers per canary, percent of answers, index."""

    watch_minutes: float
    silent_minutes: float
    watch_answers: int
    error_percent: float
    drift_psi: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """One telemetry message or alert of a canary, and when it arrived: a device's own clock may be wrong."""

    arrived: datetime
    message: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One look: which version since when, whom, and what they said."""

    version: str
    since: datetime
    began: datetime
    now: datetime
    canaries: Sequence[str]
    reports: Sequence[Report]
    failed: int = 0  # devices that did not take the deployment

    def of(self, thing: str) -> list[Report]:
        """A canary's telemetry since the deployment, oldest first."""
        mine = [one for one in self._since() if one.message.get("thing") == thing and "kind" not in one.message]
        return sorted(mine, key=lambda one: one.arrived)

    def alerts(self) -> list[dict[str, Any]]:
        """The canaries' alerts since the deployment."""
        mine = [one.message for one in self._since() if "kind" in one.message]
        return [alert for alert in mine if alert.get("thing") in self.canaries]

    def telemetry(self) -> list[dict[str, Any]]:
        """All telemetry of this version."""
        every = (one.message for thing in self.canaries for one in self.of(thing))
        return [message for message in every if message.get("model_version") == self.version]

    def _since(self) -> Iterator[Report]:
        return (one for one in self.reports if one.arrived >= self.since)


@dataclass(frozen=True)
class Verdict:
    """`answer` is pass, wait or fail."""

    answer: str
    reasons: tuple[str, ...]


def judge(watched: Watched, limits: Limits) -> Verdict:
    """The verdict on one look."""
    if not watched.canaries:
        return Verdict(FAIL, ("the canary group has no device that could be watched",))
    if watched.failed:
        return _of_failed(watched)
    bad = [*_events(watched), *_states(watched), *_figures(watched, limits), *_silence(watched, limits)]
    if bad:
        return Verdict(FAIL, tuple(bad))
    missing = list(_missing(watched, limits))
    if missing:
        return Verdict(WAIT, tuple(missing))
    return Verdict(PASS, (_evidence(watched),))


def _of_failed(watched: Watched) -> Verdict:
    """Devices that did not take the version, and why, as soon as they said so."""
    why = list(_events(watched))
    count = f"{watched.failed} of {len(watched.canaries)} canaries did not take version {watched.version}"
    if not why and (watched.now - watched.began).total_seconds() < ALERT_SECONDS:
        return Verdict(WAIT, (f"{count}; why is not known yet",))
    return Verdict(FAIL, (count, *why))


def _events(watched: Watched) -> Iterator[str]:
    """Alerts that speak against the version."""
    for alert in watched.alerts():
        thing, kind = alert["thing"], alert["kind"]
        why = ": ".join(str(alert[name]) for name in ("reason", "detail") if alert.get(name))
        if kind in ("reject", "revert") and alert.get("version") == watched.version:
            yield f"{thing} {kind}ed version {watched.version}: {why}"
        elif kind == "degraded" and watched.version in (alert.get("version"), alert.get("model_version")):
            yield f"{thing} is degraded: {why}"


def _states(watched: Watched) -> Iterator[str]:
    """A canary that served the version and does so no more, or that calls itself degraded."""
    for thing in watched.canaries:
        versions = [one.message.get("model_version") for one in watched.of(thing)]
        if watched.version in versions and versions[-1] != watched.version:
            yield f"{thing} went back from version {watched.version} to {versions[-1]}"
        elif versions and versions[-1] == watched.version and watched.of(thing)[-1].message.get("state") == "DEGRADED":
            yield f"{thing} says that it is degraded"


def _figures(watched: Watched, limits: Limits) -> Iterator[str]:
    """Errors, latency and drift over the whole window, of all canaries together."""
    found = watched.telemetry()
    answers, errors = _total(found, "count"), _total(found, "errors")
    if beyond_chance(errors, answers + errors, limits.error_percent / 100):
        yield f"{errors} errors in {answers + errors} answers; {limits.error_percent:g} % are allowed"
    over = _total(found, "over_budget")
    if beyond_chance(over, answers, OVER):
        yield f"{over} of {answers} answers took longer than the budget; 5 % may"
    windows = [message for message in found if message.get("psi") is not None and message.get("window")]
    if windows:
        samples = _total(windows, "window")
        psi, ks = (_mean(windows, name, samples) for name in ("psi", "ks"))
        if psi > limits.drift_psi and ks > KS_BEYOND_CHANCE / math.sqrt(samples / len(windows)):
            allowed = f"{limits.drift_psi:g} is allowed"
            yield f"inputs are unlike the training data: stability index {psi:.2f} over {samples} samples, {allowed}"


def _silence(watched: Watched, limits: Limits) -> Iterator[str]:
    """A canary that was not heard of for too long, or that took the model and gives no answers."""
    for thing in watched.canaries:
        mine = [one for one in watched.of(thing) if one.message.get("model_version") == watched.version]
        heard = max([watched.began, *(one.arrived for one in mine)])
        quiet = (watched.now - heard).total_seconds() / 60
        if quiet > limits.silent_minutes:
            yield f"{thing} sent no telemetry of version {watched.version} for {quiet:.1f} minutes"
        elif mine and _left(watched, max(limits.watch_minutes, limits.silent_minutes)) <= 0:
            count = _total([one.message for one in mine], "count")
            if count < limits.watch_answers:
                yield f"{thing} gave {count} answers in its whole window; {limits.watch_answers} are asked for"


def _missing(watched: Watched, limits: Limits) -> Iterator[str]:
    """What must still be seen before the version may pass."""
    left = _left(watched, limits.watch_minutes)
    if left > 0:
        yield f"{left:.0f} s of the watch window are left"
    for thing in watched.canaries:
        mine = [one.message for one in watched.of(thing) if one.message.get("model_version") == watched.version]
        if not mine:
            yield f"{thing} has sent no telemetry of version {watched.version} yet"
        elif (count := _total(mine, "count")) < limits.watch_answers:
            yield f"{thing} gave {count} answers so far; {limits.watch_answers} are asked for"


def _left(watched: Watched, minutes: float) -> float:
    return minutes * 60 - (watched.now - watched.began).total_seconds()


def _evidence(watched: Watched) -> str:
    found = watched.telemetry()
    answers, errors, over = (_total(found, name) for name in ("count", "errors", "over_budget"))
    return f"{len(watched.canaries)} canaries gave {answers} answers: {errors} errors, {over} over budget"


def beyond_chance(count: int, of: int, share: float) -> bool:
    """Whether `count` or more in `of` trials have a probability below SURE where each has `share`."""
    if count <= share * of:
        return False
    return _at_least(count, of, share) < SURE


def _at_least(count: int, of: int, share: float) -> float:
    """The upper tail of the binomial distribution; `count` is above its mean, so terms fall from the first on."""
    if share <= 0 or count > of:
        return 0.0
    if share >= 1:
        return 1.0
    ways = math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)
    term = math.exp(ways + count * math.log(share) + (of - count) * math.log1p(-share))
    total = 0.0
    for number in range(count, of + 1):
        total += term
        if term <= total * 1e-12:
            break
        term *= (of - number) / (number + 1) * share / (1 - share)
    return total


def _total(messages: Sequence[dict[str, Any]], name: str) -> int:
    return sum(int(message.get(name) or 0) for message in messages)


def _mean(messages: Sequence[dict[str, Any]], name: str, samples: int) -> float:
    """Weighted by the samples of each window; one that lacks the figure counts as none."""
    return sum(float(message.get(name) or 0) * int(message["window"]) for message in messages) / samples


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one function instance works with."""

    bucket: str
    group: str
    limits: Limits
    s3: Any
    iot: Any


@cache
def runtime() -> Runtime:
    """The environment, read once per function instance."""
    return Runtime(
        bucket=os.environ["BUCKET"],
        group=os.environ["CANARY_GROUP"],
        limits=Limits(**json.loads(os.environ["LIMITS"])),
        s3=boto3.client("s3"),
        iot=boto3.client("iot"),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry."""
    return look(event, runtime(), datetime.now(UTC))


def look(event: dict[str, Any], here: Runtime, now: datetime) -> dict[str, Any]:
    """Gathers what the canaries said and judges it."""
    since, began = (datetime.fromisoformat(event[name]).astimezone(UTC) for name in ("since", "began"))
    pages = here.iot.get_paginator("list_things_in_thing_group").paginate(thingGroupName=here.group)
    canaries = sorted(thing for page in pages for thing in page["things"])
    things = (event.get("job") or {}).get("things") or {}
    # S3 says to the second when an object came.
    since = since.replace(microsecond=0)
    reports = [report for thing in canaries for report in _reports(here, thing, since)]
    verdict = judge(
        Watched(
            version=event["version"],
            since=since,
            began=began,
            now=now,
            canaries=canaries,
            reports=reports,
            failed=sum(int(things.get(f"NumberOf{name}Things") or 0) for name in FAILURES),
        ),
        here.limits,
    )
    reasons = list(verdict.reasons)
    return {"answer": verdict.answer, "reasons": reasons, "cause": "; ".join(reasons)[:2000]}


def _reports(here: Runtime, thing: str, since: datetime) -> Iterator[Report]:
    """What arrived from a thing since then. Keys are by the device's own day, which may lag behind by one."""
    prefix = f"telemetry/{thing}/"
    first = f"{prefix}{since - timedelta(days=1):%Y-%m-%d}"
    pages = here.s3.get_paginator("list_objects_v2").paginate(Bucket=here.bucket, Prefix=prefix, StartAfter=first)
    for page in pages:
        for row in page.get("Contents", []):
            if row["LastModified"] >= since:
                body = here.s3.get_object(Bucket=here.bucket, Key=row["Key"])["Body"].read()
                yield Report(arrived=row["LastModified"], message=json.loads(body))
