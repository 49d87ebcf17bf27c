"""Finds what a job, a function or a state said, in the running engine and in past runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab import launch
from lab.errors import LabError
from lab.home import Home


@dataclass(frozen=True)
class Log:
    """A log file and the names that it answers to."""

    where: str
    name: str
    path: Path


def every(home: Home) -> list[Log]:
    """Every log there is, the running engine's first, then those of past runs, newest run first."""
    found: list[Log] = []
    server = launch.running(home.up)
    if server is not None:
        jobs = sorted(server.root.glob("jobs/*/*/log.txt"), key=lambda path: path.stat().st_mtime, reverse=True)
        found += [Log("engine", path.parent.name, path) for path in jobs]
        devices = sorted(server.root.glob("devices/*/logs/*.log"))
        found += [Log(f"device {path.parent.parent.name}", path.stem, path) for path in devices]
        found.append(Log("engine", "server", server.root / "server.log"))
    for folder in home.runs_newest_first():
        states = sorted(folder.glob("logs/*/log.txt"))
        found += [Log(f"run {folder.name}", path.parent.name.partition("-")[2], path) for path in states]
        devices = sorted(folder.glob("logs/devices/*/*.log"))
        found += [Log(f"run {folder.name} {path.parent.name}", path.stem, path) for path in devices]
    return found


def find(home: Home, name: str) -> Log:
    """The newest log that is called `name`, or else whose name holds it, whatever the case."""
    logs = every(home)
    wanted = name.lower()
    exact = [log for log in logs if log.name.lower() == wanted]
    close = [log for log in logs if wanted in log.name.lower()]
    if exact or close:
        return (exact or close)[0]
    names = sorted({log.name for log in logs})
    hint = "there are: " + ", ".join(names[:20]) if names else "there is no log yet; start a run: lab run"
    raise LabError(f"no log is called {name!r}", hint)
