"""Samples on their way from the source to the model: few, the newest first to stay, none older than its deadline."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

ROOM = 8


@dataclass(frozen=True)
class Frame:
    """One file's content, and when it was seen by the monotonic clock."""

    name: str
    data: bytes
    arrived: float = field(default_factory=time.monotonic)


class Frames:
    """A queue of at most `room` samples. What cannot wait pushes the oldest out; what can wait, waits.

    `dropped` counts by reason: `queue` those pushed out, `late` those that waited longer than the deadline.
    """

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self.dropped: Counter[str] = Counter()
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()

    def push(self, frame: Frame) -> None:
        """For what goes on whether we look or not: a camera, a topic."""
        with self._changed:
            if len(self._frames) >= self.room:
                self._frames.popleft()
                self.dropped["queue"] += 1
            self._frames.append(frame)
            self._changed.notify_all()

    def offer(self, frame: Frame, patience: float = 0.5) -> bool:
        """For what stays where it is until it is looked at, a file; False when there was no room in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._frames) < self.room, patience):
                return False
            self._frames.append(frame)
            self._changed.notify_all()
            return True

    def take(self, patience: float = 0.5, deadline_ms: float = 0.0) -> Frame | None:
        """The oldest that is not too old, None when none came in time."""
        with self._changed:
            end = time.monotonic() + patience
            while True:
                if not self._changed.wait_for(lambda: bool(self._frames), end - time.monotonic()):
                    return None
                frame = self._frames.popleft()
                self._changed.notify_all()
                if not deadline_ms or (time.monotonic() - frame.arrived) * 1000 <= deadline_ms:
                    return frame
                self.dropped["late"] += 1

    def __len__(self) -> int:
        with self._changed:
            return len(self._frames)
