"""How far what the device sees has moved from what its model was trained on, over windows that are large enough."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from edge.switch import Serving
from models.runtime import Batch

WINDOW = 100  # samples; the index of fewer is noise, and would raise the alarm of a device that just started
WORST = 3


@dataclass(frozen=True)
class Reading:
    """One full window: its worst stability index, its worst Kolmogorov-Smirnov distance, and the worst features."""

    psi: float
    ks: float | None
    seen: int
    features: dict[str, list[float]] = field(default_factory=dict)


class Drift:
    """One window of the serving model's inputs; another model starts another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._identity = ""
        self._watch: Any = None
        self.moved = False

    def add(self, serving: Serving, batch: Batch) -> None:
        """Counts raw tensors [N, ...] that `serving` was asked about."""
        with self._lock:
            if serving.identity != self._identity:
                self._identity, self._watch, self.moved = serving.identity, serving.model.watch(), False
            self._watch.add(batch)

    def take(self) -> Reading | None:
        """A full window, after which another starts; None while it fills."""
        with self._lock:
            if self._watch is None or self._watch.seen < WINDOW:
                return None
            scores, seen = self._watch.score(), int(self._watch.seen)
            self._watch.reset()
        worst = sorted(scores.items(), key=lambda one: -one[1])[:WORST]
        return Reading(
            psi=round(max(scores.values(), default=0.0), 4),
            ks=None,
            seen=seen,
            features={name: [round(value, 4)] for name, value in worst},
        )
