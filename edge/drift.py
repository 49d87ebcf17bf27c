"""How far what the device sees has moved from what its model was trained on, over windows that are large enough."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from edge.switch import Serving
from models.runtime import Batch

WINDOW = 100  # samples; the index of fewer is noise, and would raise the alarm of a device that just started
WORST = 3
ALPHA, EFFECT = 0.01, 0.25


@dataclass(frozen=True)
class Reading:
    """One full window: its worst stability index, its worst Kolmogorov-Smirnov distance, and the worst features.

    `moved` says that the window is further from the training data than is allowed, and than chance explains: of windows
    of unmoved data one in a hundred at most says so.
    """

    psi: float
    ks: float | None
    seen: int
    features: dict[str, list[float]] = field(default_factory=dict)
    moved: bool = False


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

    def take(self, effect: float = EFFECT) -> Reading | None:
        """A full window, after which another starts; None while it fills. `effect` is the index that is allowed."""
        with self._lock:
            if self._watch is None or self._watch.seen < WINDOW:
                return None
            found = self._watch.judge(ALPHA, effect)
            self._watch.reset()
        return Reading(
            psi=round(found.psi, 4),
            ks=round(found.ks, 4),
            seen=found.samples,
            features={one.name: [round(one.psi, 4), round(one.ks, 4)] for one in found.features[:WORST]},
            moved=found.alarm,
        )
