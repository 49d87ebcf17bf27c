"""The answers on disk, one JSON line each, bounded; a disk that is full costs answers here, and nothing else."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LIMIT = 1_000_000  # bytes; then the file becomes `.1` and a new one starts
WAITING = 4_096  # lines that wait to be written; the oldest go first


class Results:
    """Lines gather in memory, bounded, and are written together by `flush`: who adds one waits for no disk."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.limit = limit
        self.dropped = 0
        self._lines: deque[str] = deque()
        self._lock = threading.Lock()

    def add(self, answer: Mapping[str, Any]) -> None:
        self._lines.append(json.dumps({"time": round(time.time(), 3), **answer}) + "\n")
        if len(self._lines) > WAITING:
            self._lines.popleft()
            self.dropped += 1

    def flush(self) -> None:
        with self._lock:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            size = sum(map(len, lines))
            while size > self.limit:
                size -= len(lines.pop(0))
                self.dropped += 1
            if not lines:
                return
            try:
                if self.path.is_file() and self.path.stat().st_size + size > self.limit:
                    self.path.replace(self.path.with_name(self.path.name + ".1"))
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write("".join(lines))
            except OSError:
                self.dropped += len(lines)
