"""Whether a model that passed the gate also does well on what the device really sees."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

# Below so many answers a share of errors says nothing.
ENOUGH = 20
# The gate's own allowance: a budget is meant for the model, not for one unlucky scheduling.
SLACK = 1.5
WINDOW = 1_000


class Probation:
    """The first answers of a model: after `seconds` or `answers` it has passed, unless it failed before.

    It fails when more than `errors_percent` of at least 20 answers were errors (an exception, or a number that is not
    finite), or when their 95th percentile is above one and a half times `budget_ms`.
    """

    def __init__(
        self,
        identity: str,
        *,
        seconds: float,
        answers: int,
        errors_percent: float,
        budget_ms: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self.seconds = seconds
        self.answers = answers
        self.errors_percent = errors_percent
        self.budget_ms = budget_ms
        self._clock = clock
        self._since = clock()
        self._lock = threading.Lock()
        self._count = self._errors = 0
        self._took: deque[float] = deque(maxlen=WINDOW)

    def add(self, identity: str, ms: float | None) -> None:
        """One answer and how long it took; None for an error. Those of another model do not count."""
        if identity != self.identity:
            return
        with self._lock:
            self._count += 1
            if ms is None:
                self._errors += 1
            else:
                self._took.append(ms)

    def verdict(self) -> tuple[bool, str, str] | None:
        """Passed or not, the reason's code and its figures; None while it is too early."""
        with self._lock:
            count, errors, took = self._count, self._errors, sorted(self._took)
        if count >= ENOUGH and errors * 100 > self.errors_percent * count:
            return False, "errors", f"{errors} of {count} answers failed, {self.errors_percent:g} % may"
        if self.budget_ms and len(took) >= ENOUGH:
            p95 = took[int(0.95 * len(took))]
            if p95 > self.budget_ms * SLACK:
                return False, "slow", f"95 % of answers take up to {p95:.1f} ms, the budget is {self.budget_ms:g} ms"
        if count >= self.answers or self._clock() - self._since >= self.seconds:
            return True, "", ""
        return None
