"""What the device tells the cloud: counters since the last report, in one JSON message of at most 2 KB."""

from __future__ import annotations

import json
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from edge.switch import Event, Serving

LIMIT = 2_048  # bytes
WINDOW = 4_096  # latencies kept for the percentiles
BACKLOG = 64  # messages kept while the cloud cannot be reached; the oldest go first


class Telemetry:
    """Counts since the last report. Any thread may add; a report empties it."""

    def __init__(self, thing: str) -> None:
        self.thing = thing
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=16)
        self._clear()

    def _clear(self) -> None:
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._confidences = 0.0
        self._sure = 0
        self._count = 0
        self._errors = 0

    def predicted(self, milliseconds: float, confidence: float | None) -> None:
        """One answer; a number has no confidence."""
        with self._lock:
            self._latencies.append(milliseconds)
            self._count += 1
            if confidence is not None:
                self._confidences += confidence
                self._sure += 1

    def failed(self) -> None:
        with self._lock:
            self._errors += 1

    def happened(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)

    def report(self, serving: Serving | None, psi: float | None, dropped: int) -> bytes:
        """The message, and a fresh start. Only events are left out where all of it would not fit."""
        with self._lock:
            message: dict[str, Any] = {
                "schema": 1,
                "id": str(uuid.uuid4()),
                "thing": self.thing,
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "model_version": serving.version if serving else None,
                "model_sha": serving.sha if serving else None,
                "count": self._count,
                "errors": self._errors,
                "p50_ms": percentile(self._latencies, 0.50),
                "p95_ms": percentile(self._latencies, 0.95),
                "confidence_mean": round(self._confidences / self._sure, 4) if self._sure else None,
                "psi": psi,
                "dropped": dropped,
            }
            events = [{key: value for key, value in asdict(event).items() if value} for event in self._events]
            self._events.clear()
            self._clear()
        while len(encoded := json.dumps({**message, "events": events}).encode()) > LIMIT and events:
            del events[0]
        return encoded


def percentile(values: Sequence[float] | deque[float], share: float) -> float | None:
    """The nearest-rank percentile, rounded to microseconds; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)
