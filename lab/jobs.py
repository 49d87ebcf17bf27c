"""The AWS IoT job behind each Greengrass deployment: which things it tells and when, how they end, what stops it.

Covers: rollout at a constant rate (maximumPerMinute) or one that grows with the things notified or succeeded
    (exponentialRate); abort criteria by failure type; in-progress timeouts; CancelJob; things that join the target
    later, for these jobs are CONTINUOUS. DescribeJob, DescribeJobExecution and the lists of executions show all of it.
Does not cover: schedules, retries of executions, presigned URLs. A job that is no deployment is moto's: kept, not run.

A minute of a rollout lasts one second here; LAB_ROLLOUT_MINUTE_S says otherwise. Timeouts are in real minutes: what a
device does takes its real time. An execution that was started is not stopped by an abort, as in AWS without `force`.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.iot.models import FakeJobExecution, IoTBackend, iot_backends

if TYPE_CHECKING:
    from lab.engine import Engine
    from lab.fleet import ControlPlane, Deployment

# What DescribeJob counts, by the status of an execution.
COUNTS = {
    "QUEUED": "numberOfQueuedThings",
    "IN_PROGRESS": "numberOfInProgressThings",
    "SUCCEEDED": "numberOfSucceededThings",
    "FAILED": "numberOfFailedThings",
    "REJECTED": "numberOfRejectedThings",
    "TIMED_OUT": "numberOfTimedOutThings",
    "CANCELED": "numberOfCanceledThings",
}
ENDED = frozenset(COUNTS) - {"QUEUED", "IN_PROGRESS"}
FAILURES = ("FAILED", "REJECTED", "TIMED_OUT")
MOST_PER_MINUTE = 1000


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Pace:
    """How many seconds a minute of a job's settings lasts: that of its rollout, that of its timeout."""

    rollout_s: float = 1.0
    timeout_s: float = 60.0


def pace() -> Pace:
    """The pace that the environment asks for."""
    return Pace(rollout_s=float(os.environ.get("LAB_ROLLOUT_MINUTE_S") or 1.0))


class JobError(ValueError):
    """A job's configuration is not one that AWS IoT takes."""


@dataclass
class Execution:
    """A deployment on one device: what ListEffectiveDeployments shows."""

    deployment: Deployment
    thing: str
    status: str = "QUEUED"
    reason: str = ""
    stack: list[str] = field(default_factory=list)
    modified: datetime = field(default_factory=now)

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True)
class Rate:
    """Things told in a minute: `base`, times `factor` whenever `step` more were `counted`, `most` at the most."""

    most: float
    base: float | None = None
    factor: float = 1.0
    step: int = 1
    counted: str = "notified"

    def at(self, notified: int, succeeded: int) -> float:
        if self.base is None:
            return self.most
        reached = notified if self.counted == "notified" else succeeded
        return min(self.most, self.base * self.factor ** (reached // self.step))


def rate(config: Mapping[str, Any] | None) -> Rate | None:
    """What a JobExecutionsRolloutConfig says; None when everything may be told at once. Raises JobError."""
    if not config:
        return None
    most = float(config.get("maximumPerMinute") or MOST_PER_MINUTE)
    _check(1 <= most <= MOST_PER_MINUTE, f"maximumPerMinute is {most:g}; 1 to {MOST_PER_MINUTE} is allowed")
    grows = config.get("exponentialRate")
    if not grows:
        return Rate(most)
    base, factor = float(grows.get("baseRatePerMinute", 0)), float(grows.get("incrementFactor", 0))
    _check(1 <= base <= MOST_PER_MINUTE, f"baseRatePerMinute is {base:g}; 1 to {MOST_PER_MINUTE} is allowed")
    _check(1.1 <= factor <= 5, f"incrementFactor is {factor:g}; 1.1 to 5 is allowed")
    criteria = {key: value for key, value in (grows.get("rateIncreaseCriteria") or {}).items() if value}
    _check(
        len(criteria) == 1 and set(criteria) <= {"numberOfNotifiedThings", "numberOfSucceededThings"},
        "rateIncreaseCriteria names either numberOfNotifiedThings or numberOfSucceededThings",
    )
    [(name, step)] = criteria.items()
    return Rate(most, base, factor, int(step), "notified" if "Notified" in name else "succeeded")


def criteria(config: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The criteria of an AbortConfig. Raises JobError."""
    found = list((config or {}).get("criteriaList") or [])
    for one in found:
        _check(one.get("failureType") in (*FAILURES, "ALL"), f"failureType is one of {', '.join(FAILURES)}, ALL")
        _check(one.get("action") == "CANCEL", "the action of an abort criterion is CANCEL")
        _check(0 < float(one.get("thresholdPercentage", 0)) <= 100, "thresholdPercentage is above 0, at most 100")
        _check(int(one.get("minNumberOfExecutedThings", 0)) >= 1, "minNumberOfExecutedThings is 1 or more")
    return found


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise JobError(message)


class Job:
    """The job of one deployment. `deliver` hands an execution to its device; calls may come from any thread."""

    def __init__(
        self, engine: Engine, deployment: Deployment, deliver: Callable[[Execution], None], given: Pace, lock: Any
    ) -> None:
        config: Mapping[str, Any] = deployment.options.get("iotJobConfiguration") or {}
        self.deployment = deployment
        self.executions: dict[str, Execution] = {}
        self.status = "IN_PROGRESS"
        self.comment: str | None = None
        self._rate = rate(config.get("jobExecutionsRolloutConfig"))
        self._criteria = criteria(config.get("abortConfig"))
        self._minutes = (config.get("timeoutConfig") or {}).get("inProgressTimeoutInMinutes")
        self._engine, self._deliver, self._pace, self._lock = engine, deliver, given, lock
        self._waiting: deque[str] = deque()
        self._rolling = False
        self._over = threading.Event()

    def add(self, things: Sequence[str]) -> None:
        """Targets of the job: told at once, or one after the other at the rate of its rollout."""
        with self._lock:
            new = [one for one in things if one not in self.executions and one not in self._waiting]
            if self.status != "IN_PROGRESS" or not new:
                self._show()
                return
            self._waiting.extend(new)
            if self._rate is None:
                while self._waiting:
                    self._tell(self._waiting.popleft())
            elif not self._rolling:
                self._rolling = True
                threading.Thread(target=self._roll, args=(self._rate,), daemon=True).start()

    def report(self, execution: Execution, status: str, reason: str = "") -> bool:
        """A device says how far it is; False when its execution has ended already, whatever it says now."""
        with self._lock:
            if execution.ended:
                return False
            execution.status, execution.reason, execution.modified = status, reason, now()
            if status == "FAILED":
                execution.stack = ["DEPLOYMENT_FAILURE"]
            if status == "IN_PROGRESS" and self._minutes:
                timer = threading.Timer(self._minutes * self._pace.timeout_s, self._expire, (execution,))
                timer.daemon = True
                timer.start()
            if status in ENDED:
                self._judge()
            self._show()
            return True

    def cancel(self, comment: str | None = None) -> None:
        """Nobody else is told, who is told and has not started is CANCELED; who has started goes on."""
        with self._lock:
            if self.status == "IN_PROGRESS":
                self.status, self.comment = "CANCELED", comment
            self._waiting.clear()
            self._over.set()
            for execution in self.executions.values():
                if execution.status == "QUEUED":
                    execution.status, execution.modified = "CANCELED", now()
            self._show()

    def _roll(self, limit: Rate) -> None:
        while (pause := self._next(limit)) is not None:
            self._over.wait(pause)

    def _next(self, limit: Rate) -> float | None:
        """Tells one more; seconds until the next, None when there is nobody left to tell."""
        with self._lock:
            self._rolling = bool(self._waiting)
            if not self._rolling:
                self._show()
                return None
            self._tell(self._waiting.popleft())
            succeeded = sum(one.status == "SUCCEEDED" for one in self.executions.values())
            return self._pace.rollout_s / limit.at(len(self.executions), succeeded)

    def _tell(self, thing: str) -> None:
        execution = self.executions[thing] = Execution(self.deployment, thing)
        self._show()
        self._deliver(execution)

    def _expire(self, execution: Execution) -> None:
        if not execution.ended:
            self.report(execution, "TIMED_OUT", f"still in progress after {self._minutes} minutes")

    def _judge(self) -> None:
        """Cancels the job when a criterion is met.

        As AWS words it: a share of the things that have received an execution, once there are enough of them.
        """
        told = [one.status for one in self.executions.values()]
        for one in self._criteria:
            kinds = FAILURES if one["failureType"] == "ALL" else (one["failureType"],)
            failed = sum(status in kinds for status in told)
            enough = len(told) >= int(one["minNumberOfExecutedThings"])
            if failed and enough and 100 * failed / len(told) >= float(one["thresholdPercentage"]):
                self.deployment.status = "CANCELED"
                self.cancel(f"aborted: {failed} of {len(told)} executions are {one['failureType']}")
                return

    def _show(self) -> None:
        """What DescribeJob and the executions' own calls answer."""
        backend = iot_backends[self._engine.account][self._engine.region]
        shown = backend.describe_job(self.deployment.job)
        counted = Counter(one.status for one in self.executions.values())
        shown.status, shown.comment = self.status, self.comment
        shown.job_process_details.update({key: counted[status] for status, key in COUNTS.items()})
        # Empty once every target has been told.
        shown.job_process_details["processingTargets"] = [self.deployment.target] if self._waiting else []
        for thing, execution in self.executions.items():
            arn = f"arn:aws:iot:{self._engine.region}:{self._engine.account}:thing/{thing}"
            key = (self.deployment.job, thing)
            one = backend.job_executions.setdefault(key, FakeJobExecution(self.deployment.job, arn))
            if one.status != execution.status:
                one.status, one.last_updated_at = execution.status, execution.modified
                one.status_details_map = {"reason": execution.reason[:1000]} if execution.reason else {}


def install(plane: ControlPlane) -> None:
    """CancelJob reaches a deployment's job, and a thing that joins a group the group's deployment."""
    # Installed again, it takes the place of the one before.
    cancel, join = (
        getattr(one, "__wrapped__", one) for one in (IoTBackend.cancel_job, IoTBackend.add_thing_to_thing_group)
    )

    @functools.wraps(cancel)
    def canceled(self: IoTBackend, job_id: str, *args: Any, **kwargs: Any) -> Any:
        found = cancel(self, job_id, *args, **kwargs)
        plane.job_canceled(job_id, found.comment)
        return found

    @functools.wraps(join)
    def joined(self: IoTBackend, **which: str | None) -> None:
        join(self, **which)
        group, thing = (
            which[f"{kind}_name"] or str(which[f"{kind}_arn"]).rpartition("/")[2] for kind in ("thing_group", "thing")
        )
        plane.joined(thing, group)

    IoTBackend.cancel_job = canceled
    IoTBackend.add_thing_to_thing_group = joined
