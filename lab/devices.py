"""The desk's fleet as the command line sees it: what each core runs, what it said last, which faults are on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab import door, launch, registry
from lab.errors import LabError
from lab.stack import Stack

POLL_S = 0.3
PUBLISHED = "published"


def rows(stack: Stack) -> list[dict[str, Any]]:
    """Each core with groups, health, model version, faults that are on and its last telemetry."""
    on: dict[str, list[str]] = door.ask(stack.engine, "device", {"do": "faults"})
    return [
        {**row, "faults": on.get(row["thing"], []), "telemetry": telemetry(stack.engine.root, row["thing"])}
        for row in registry.edge(stack)["devices"]
    ]


def telemetry(root: Path, thing: str) -> dict[str, Any] | None:
    """The device's last message on its telemetry topic, with the time it was sent; None before the first."""
    for line in reversed(launch.last_lines(root / "devices" / thing / f"{PUBLISHED}.jsonl", 50)):
        said = _message(line)
        if said is not None and said["topic"].endswith("/telemetry"):
            return {"sent": _iso(said["time"]), **said["payload"]}
    return None


def find(stack: Stack, name: str | None) -> list[str]:
    """The things that `name` means: one by its name or its number, all of them when None. Raises LabError."""
    known = sorted(door.ask(stack.engine, "device", {"do": "faults"}), key=lambda thing: (len(thing), thing))
    if not known:
        raise LabError("the desk has no core device yet", "it has once a stack is deployed: lab status")
    if name is None:
        return known
    found = [thing for thing in known if name == thing or thing.endswith(f"-desk-{name.removeprefix('desk-')}")]
    if not found:
        raise LabError(f"no device is called {name!r}", f"there are: {', '.join(known)}")
    return found


def switch(stack: Stack, fault: str, name: str | None, *, on: bool) -> dict[str, list[str]]:
    """Puts a fault on, or takes it back, on one device or on all; the faults that are then on, by thing."""
    request = {"do": "switch", "fault": fault, "on": on, "things": find(stack, name)}
    found: dict[str, list[str]] = door.ask(stack.engine, "device", request)
    return found


@dataclass
class Tail:
    """What devices say, line by line: their components' logs and what they publish.

    `lines` yields (thing, source, text): first the last `count` of each file, later what has come since.
    """

    root: Path
    things: Sequence[str]
    count: int
    _read: dict[Path, int] = field(default_factory=dict)

    def lines(self) -> Iterator[tuple[str, str, str]]:
        for thing in self.things:
            folder = self.root / "devices" / thing
            for path in [*sorted((folder / "logs").glob("*.log")), folder / f"{PUBLISHED}.jsonl"]:
                if path.is_file():
                    yield from ((thing, path.stem, _shown(path, text)) for text in self._new(path))

    def follow(self) -> Iterator[tuple[str, str, str]]:
        """`lines` again and again, until whoever reads has enough."""
        while True:
            yield from self.lines()
            time.sleep(POLL_S)

    def _new(self, path: Path) -> list[str]:
        size = path.stat().st_size
        if path not in self._read:
            self._read[path] = size
            return launch.last_lines(path, self.count)
        with path.open("rb") as stream:
            stream.seek(self._read[path] if size >= self._read[path] else 0)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]  # the rest of a line that is being written comes next time
        self._read[path] = min(size, self._read[path]) + len(whole) if size >= self._read[path] else len(whole)
        return whole.decode("utf-8", "replace").splitlines()


def _shown(path: Path, text: str) -> str:
    said = _message(text) if path.stem == PUBLISHED else None
    return text if said is None else f"{said['topic']} {json.dumps(said['payload'])}"


def _message(line: str) -> dict[str, Any] | None:
    try:
        said: dict[str, Any] = json.loads(line)
        return {**said, "payload": json.loads(said["payload"])}
    except (ValueError, KeyError, TypeError):
        return None


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
