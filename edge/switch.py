"""The model that serves, and how the next one takes its place: gate, last-good on disk, one atomic swap, a verdict.

    <work>/models/<identity>/     our own copies; what serves is never another component's file
    <work>/serving.json           which of them serves: written before the swap, read at start
    <work>/verdicts/<version>     what became of a version: accepted, or refused with a reason code

A kill at any moment leaves a valid model: a copy is whole or absent, `serving.json` names one that passed the gate.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.files import BrokenPackage, copy_folder, identity, read_json, verify, write_json
from models.runtime import Model, PackageError

KEPT = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """A model that passed the gate; `identity` is that of its package."""

    model: Model
    version: str
    identity: str

    @property
    def sha(self) -> str:
        return self.model.sha256


@dataclass(frozen=True)
class Event:
    """What happened to a version: `swap`, `reject` or `restore`, with the reason of a rejection."""

    kind: str
    version: str
    reason: str = ""


class Switch:
    """Holds the serving model. `current` may be read from any thread; `step` belongs to one."""

    def __init__(self, work: Path, threads: int, load: Callable[..., Model] = Model.load) -> None:
        self.work = work
        self.threads = threads
        self.current: Serving | None = None
        self._load = load
        self._seen: tuple[str, str] | None = None

    def restore(self) -> Event | None:
        """Serves the last good model again after a start; None when there is none, or none that loads."""
        named = read_json(self.work / "serving.json") or {}
        for entry in (named, named.get("before") or {}):
            package = self.work / "models" / str(entry.get("identity"))
            if not entry.get("identity") or not package.is_dir():
                continue
            try:
                self.current = self._gated(package, str(entry["version"]), str(entry["identity"]))
            except (PackageError, BrokenPackage) as error:
                _log.error("last good model %s does not load: %s", entry["version"], error)
                continue
            return Event("restore", self.current.version)
        return None

    def step(self, store: Path) -> Event | None:
        """Gates what the model component's store wants, then swaps or refuses it; None when nothing is new."""
        wanted = read_json(store / "wanted.json")
        if wanted is None:
            return None
        version, name = str(wanted.get("version")), str(wanted.get("identity"))
        if self._seen == (version, name):
            return None
        verdict = read_json(self._verdict(version))
        refused_before = verdict is not None and verdict.get("identity") == name and not verdict["accepted"]
        if refused_before or (self.current and self.current.identity == name and self._confirm(version, name)):
            self._seen = (version, name)
            return None
        event = self._try(store / version, version, name)
        self._seen = (version, name)
        return event

    def _try(self, source: Path, version: str, name: str) -> Event:
        package = self.work / "models" / name
        try:
            if identity(source) != name:
                raise BrokenPackage("digest", f"the store's {version} is not the package that is wanted")
            copy_folder(source, package)
            serving = self._gated(package, version, name)
        except (PackageError, BrokenPackage, OSError) as error:
            reason, detail = _why(error)
            if self.current is None or self.current.identity != name:
                shutil.rmtree(package, ignore_errors=True)
            self._say(version, name, False, reason, detail)
            _log.error("version %s is refused: %s: %s", version, reason, detail)
            return Event("reject", version, reason)
        self._commit(serving)
        self._say(version, name, True)
        _log.info("version %s serves", version)
        return Event("swap", version)

    def _gated(self, package: Path, version: str, name: str) -> Serving:
        """Digests, then all that the runtime checks: schema, load, warm-up, golden answers, latency."""
        verify(package)
        return Serving(self._load(package, threads=self.threads or None), version, name)

    def _commit(self, serving: Serving) -> None:
        """First the disk, then the reference that answers: a crash between serves the new model after the restart."""
        before = self.current
        kept: dict[str, Any] = {"version": serving.version, "identity": serving.identity}
        if before is not None and before.identity != serving.identity:
            kept["before"] = {"version": before.version, "identity": before.identity}
        write_json(self.work / "serving.json", kept)
        self.current = serving
        names = {serving.identity, before.identity if before else ""}
        for path in (self.work / "models").iterdir():
            if path.name not in names:
                shutil.rmtree(path, ignore_errors=True)

    def _confirm(self, version: str, name: str) -> bool:
        """A package that serves already is accepted at once, also under another version."""
        assert self.current is not None
        if self.current.version != version:
            self._commit(Serving(self.current.model, version, name))
        self._say(version, name, True)
        return True

    def _verdict(self, version: str) -> Path:
        return self.work / "verdicts" / Path(version).name

    def _say(self, version: str, name: str, accepted: bool, reason: str = "", detail: str = "") -> None:
        verdict = {"schema": 1, "version": version, "identity": name, "accepted": accepted, "time": time.time()}
        write_json(self._verdict(version), {**verdict, "reason": reason or None, "detail": detail[:500]})
        folder = self._verdict(version).parent
        for path in sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime)[:-20]:
            path.unlink(missing_ok=True)


def _why(error: Exception) -> tuple[str, str]:
    if isinstance(error, BrokenPackage):
        return error.reason, error.detail
    if isinstance(error, PackageError):
        return error.reason_code, error.detail
    return "disk", str(error)
