"""How far what the device sees has moved from what its model was trained on, over windows that are large enough."""

from __future__ import annotations

import threading
from typing import Any

from edge.switch import Serving
from models.runtime import Batch

WINDOW = 100  # samples; the index of fewer is noise, and would raise the alarm of a device that just started


class Drift:
    """One window of the serving model's inputs; another model starts another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._identity = ""
        self._watch: Any = None

    def add(self, serving: Serving, batch: Batch) -> None:
        """Counts raw tensors [N, ...] that `serving` was asked about."""
        with self._lock:
            if serving.identity != self._identity:
                self._identity, self._watch = serving.identity, serving.model.watch()
            self._watch.add(batch)

    def take(self) -> float | None:
        """The population stability index of a full window, which then starts anew; None while it fills."""
        with self._lock:
            if self._watch is None or self._watch.seen < WINDOW:
                return None
            index = round(float(self._watch.worst()), 4)
            self._watch.reset()
            return index
