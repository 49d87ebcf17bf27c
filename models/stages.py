"""How long each stage of an answer takes: percentiles, counts and sizes since the last look, in fixed memory."""

from __future__ import annotations

import bisect
from collections import Counter
from typing import Any

# Upper ends of the buckets in milliseconds, 10 % apart from 1 microsecond to 10 minutes: no percentile is off by more.
EDGES = [0.001 * 1.1**place for place in range(212)]
STAGES = ("queue", "decode", "infer", "encode", "total")
PERCENTILES = (50, 95, 99)


class Histogram:
    """Times of one stage."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0
        self.longest = 0.0

    def add(self, milliseconds: float, times: int = 1) -> None:
        """One time, or the same for several requests."""
        place = bisect.bisect_left(EDGES, milliseconds)
        self.counts[place] = self.counts.get(place, 0) + times
        self.total += times
        if milliseconds > self.longest:
            self.longest = milliseconds

    def percentile(self, percent: float) -> float:
        """The time that so many percent do not exceed, to 10 %; 0 when there is none."""
        left = self.total * percent / 100.0
        for place in sorted(self.counts):
            left -= self.counts[place]
            if left <= 0:
                return min(self.longest, EDGES[min(place, len(EDGES) - 1)])
        return self.longest


class Figures:
    """What a server counts. One thread writes and reads: the one that runs the server's loop."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.stages = {name: Histogram() for name in STAGES}
        self.requests = self.batches = self.samples = self.largest = 0
        self.refused: Counter[str] = Counter()
        self.failed = 0

    def batch(self, requests: int, samples: int) -> None:
        """A batch ran."""
        self.batches += 1
        self.requests += requests
        self.samples += samples
        self.largest = max(self.largest, samples)

    def take(self) -> dict[str, Any] | None:
        """The figures since the last time, None when nothing was asked; counting starts anew.

        Milliseconds as `<stage>_p50_ms` and so on, the counts `requests` (answered), `refused` (4xx), `failed` (5xx),
        `samples`, `batches`, `largest_batch`, and `refused_by`, the refusals by their code.
        """
        refused = sum(self.refused.values())
        if not (self.requests or refused or self.failed):
            return None
        found: dict[str, Any] = {
            f"{name}_p{percent}_ms": round(stage.percentile(percent), 4)
            for name, stage in self.stages.items()
            if stage.total
            for percent in PERCENTILES
        }
        found |= {
            "requests": self.requests,
            "refused": refused,
            "failed": self.failed,
            "samples": self.samples,
            "batches": self.batches,
            "largest_batch": self.largest,
            "refused_by": dict(sorted(self.refused.items())),
        }
        self._clear()
        return found
