"""What the device tells the cloud: counts since the last report, in one JSON message of at most 2 KB."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.drift import Reading
from edge.forward import stamped
from edge.switch import Event, Serving

LIMIT = 2_048  # bytes
WINDOW = 4_096  # latencies kept for the percentiles
STAGES = ("queue", "pre", "infer", "post")
BUCKETS = 12
EVENTS = 16
THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")


class Telemetry:
    """Counts since the last report. Any thread may add; a report empties it. Memory is bounded whatever the rate."""

    def __init__(self, thing: str, work: Path | None = None, runtime: str | None = None) -> None:
        self.thing = thing
        self.work = work
        self.runtime = runtime
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=EVENTS)
        self._clear()

    def _clear(self) -> None:
        self._took: deque[float] = deque(maxlen=WINDOW)
        self._stages: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in STAGES}
        self._buckets = [0] * BUCKETS
        self._confidences = self._entropies = 0.0
        self._sure = self._count = self._errors = self._corrupt = self._over = self._captured = 0

    def predicted(
        self,
        milliseconds: float,
        confidence: float | None = None,
        entropy: float | None = None,
        budget_ms: float | None = None,
    ) -> None:
        """One answer; a number has no confidence. `entropy` is a share of the largest possible, 0 to 1."""
        with self._lock:
            self._took.append(milliseconds)
            self._buckets[bucket(milliseconds)] += 1
            self._count += 1
            self._over += bool(budget_ms and milliseconds > budget_ms)
            if confidence is not None:
                self._confidences += confidence
                self._entropies += entropy or 0.0
                self._sure += 1

    def staged(self, **milliseconds: float) -> None:
        """How long one sample spent in each stage."""
        with self._lock:
            for name, value in milliseconds.items():
                self._stages[name].append(value)

    def failed(self) -> None:
        """The model gave an error, or a number that is not finite."""
        with self._lock:
            self._errors += 1

    def unreadable(self) -> None:
        """A sample that is no picture or table: not the model's fault."""
        with self._lock:
            self._corrupt += 1

    def captured(self, count: int) -> None:
        """So many samples were kept for labelling."""
        with self._lock:
            self._captured += count

    def happened(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)

    def report(
        self,
        serving: Serving | None,
        drift: Reading | None,
        drops: Mapping[str, int],
        *,
        state: str = "SERVING",
        budget_ms: float | None = None,
    ) -> bytes:
        """The message, and a fresh start. Where all would not fit, events are left out, then drift's details."""
        with self._lock:
            sure = max(1, self._sure)
            message: dict[str, Any] = {
                **stamped(self.thing),
                "state": state,
                "runtime": self.runtime,
                "model_version": serving.version if serving else None,
                "model_sha": serving.sha if serving else None,
                "count": self._count,
                "errors": self._errors,
                "corrupt": self._corrupt,
                **dict(zip(("p50_ms", "p95_ms", "p99_ms"), percentiles(self._took), strict=True)),
                "budget_ms": budget_ms or None,
                "over_budget": self._over,
                "stages": {name: percentiles(values) for name, values in self._stages.items() if values},
                "latency": self._buckets,
                "confidence_mean": round(self._confidences / sure, 4) if self._sure else None,
                "entropy_mean": round(self._entropies / sure, 4) if self._sure else None,
                "psi": drift.psi if drift else None,
                "ks": drift.ks if drift else None,
                "window": drift.seen if drift else 0,
                "drops": {name: count for name, count in drops.items() if count},
                "captured": self._captured,
                **_machine(self.work),
                "uptime_s": int(time.monotonic() - self._started),
            }
            events = [
                {"kind": one.kind, "version": one.version, **({"reason": one.reason} if one.reason else {})}
                for one in self._events
            ]
            self._events.clear()
            self._clear()
        details = dict(drift.features) if drift else {}
        while len(encoded := json.dumps({**message, "drift": details, "events": events}).encode()) > LIMIT:
            if events:
                del events[0]
            elif details:
                details.popitem()
            else:
                break
        return encoded


def percentiles(values: Sequence[float] | deque[float]) -> list[float | None]:
    """Nearest-rank 50th, 95th and 99th percentile, rounded to microseconds; None of nothing."""
    if not values:
        return [None, None, None]
    ordered = sorted(values)
    return [round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) for share in (0.50, 0.95, 0.99)]


def bucket(milliseconds: float) -> int:
    """The first bucket i whose bound, 2**i / 4 ms, holds the value; the last one takes all the rest."""
    if milliseconds <= 0.25:
        return 0
    return min(BUCKETS - 1, math.ceil(math.log2(milliseconds * 4)))


def _machine(work: Path | None) -> dict[str, Any]:
    """How the device is: resident memory, free disk, temperature where the kernel tells it."""
    free = round(shutil.disk_usage(work).free / 2**20, 1) if work is not None and work.exists() else None
    return {"rss_mb": resident_mb(), "disk_free_mb": free, "temperature_c": temperature()}


def resident_mb() -> float | None:
    """Resident size of this process; None where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def temperature(path: Path = THERMAL) -> float | None:
    """Degrees Celsius of the first thermal zone."""
    try:
        return round(int(path.read_text("ascii")) / 1000, 1)
    except (OSError, ValueError):
        return None
