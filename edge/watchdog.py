"""How often this process may end itself to be started again: a nucleus gives it up at the third failure in an hour."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge.files import read_json, write_json

MOST = 2
WITHIN_S = 3600.0


class Restarts:
    """Remembers on disk when the process ended itself; at most two in an hour, by the wall clock."""

    def __init__(self, work: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = work / "restarts.json"
        self._clock = clock

    def allowed(self) -> bool:
        return len(self._recent()) < MOST

    def note(self, reason: str) -> None:
        """Says before the process ends that it does so, and why."""
        write_json(self.path, {"at": [*self._recent(), self._clock()], "reason": reason})

    def _recent(self) -> list[float]:
        now = self._clock()
        said = (read_json(self.path) or {}).get("at") or []
        # A clock that was set back makes an end lie in the future: it counts as one of this hour.
        return [float(moment) for moment in said if now - float(moment) < WITHIN_S][-MOST:]
