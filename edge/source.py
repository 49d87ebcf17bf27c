"""What the device looks at: a folder of files, each read once when it is whole, its answers appended to a file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".csv", ".tsv", ".txt")
LIMIT = 1_000_000  # bytes of results; then the file becomes `.1` and a new one starts


class Folder:
    """Pictures or tables in a folder, oldest first. A file is taken when it did not change since the look before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: dict[str, tuple[int, int]] = {}
        self._done: dict[str, tuple[int, int]] = {}

    def new(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of each file that is new or has changed."""
        if not self.path.is_dir():
            return
        now: dict[str, tuple[int, int]] = {}
        for path in self.path.iterdir():
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                try:
                    state = path.stat()
                except FileNotFoundError:
                    continue
                now[path.name] = (state.st_mtime_ns, state.st_size)
        whole = [name for name, mark in now.items() if self._seen.get(name) == mark and self._done.get(name) != mark]
        self._seen, self._done = now, {name: mark for name, mark in self._done.items() if name in now}
        for name in sorted(whole, key=lambda one: now[one]):
            self._done[name] = now[name]
            try:
                yield name, (self.path / name).read_bytes()
            except OSError:
                continue


class Results:
    """The answers on disk, one JSON line each, bounded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, answer: Mapping[str, Any]) -> None:
        line = json.dumps({"time": round(time.time(), 3), **answer}) + "\n"
        if self.path.is_file() and self.path.stat().st_size + len(line) > LIMIT:
            self.path.replace(self.path.with_name(self.path.name + ".1"))
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line)
