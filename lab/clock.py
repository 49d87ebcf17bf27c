"""Where a run's wall time went: phases of the lab, and the engine's own share of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lab import ledger
from lab.ledger import Entry

PHASES = ("synth", "start", "deploy", "data", "polling", "finish")


class Clock:
    """Measures named phases. Their sum, less the time in which a child ran, is the engine's overhead."""

    def __init__(self) -> None:
        self._began = time.time()
        self._spans: list[tuple[str, float, float]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the block's time as phase `name`."""
        start = time.time()
        try:
            yield
        finally:
            self._spans.append((name, start, time.time()))

    def seconds(self) -> float:
        """Wall seconds since the clock was made."""
        return time.time() - self._began

    def account(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """The record's `engine` object: overhead and its phases, in seconds.

        What no phase covers (writing the record, ending the engine) counts as `finish`, so that the phases add up
        to the overhead.
        """
        now = time.time()
        phases = dict.fromkeys(PHASES, 0.0)
        for name, start, end in self._spans:
            phases[name] += ledger.outside(entries, start, end)
        overhead = ledger.outside(entries, self._began, now)
        phases["finish"] += max(0.0, overhead - sum(phases.values()))
        return {
            "overhead_seconds": round(overhead, 3),
            "phases": {name: round(seconds, 3) for name, seconds in phases.items()},
        }
