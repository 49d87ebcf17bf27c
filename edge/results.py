"""The answers on disk, one JSON line each, bounded; a disk that is full costs answers here, and nothing else."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LIMIT = 1_000_000  # bytes; then the file becomes `.1` and a new one starts
TOGETHER = 64


class Results:
    """Lines gather and are written together by `flush`, or when there are many: a write costs more than an answer."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.limit = limit
        self.dropped = 0
        self._lines: list[str] = []
        self._lock = threading.Lock()

    def add(self, answer: Mapping[str, Any]) -> None:
        self._lines.append(json.dumps({"time": round(time.time(), 3), **answer}) + "\n")
        if len(self._lines) >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
            if not lines:
                return
            try:
                if self.path.is_file() and self.path.stat().st_size + sum(map(len, lines)) > self.limit:
                    self.path.replace(self.path.with_name(self.path.name + ".1"))
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write("".join(lines))
            except OSError:
                self.dropped += len(lines)
