"""The model that serves, and how the next one takes its place: gate, one atomic swap, probation, the way back.

    <work>/models/<identity>/     our own copies; what serves is never another component's file
    <work>/serving.json           which of them serves, which served before, whether it is on probation
    <work>/verdicts/<version>     what became of a version: accepted, or refused with a reason code
    <work>/bad.json               packages that failed while they served, by identity: never tried again
    <work>/trying.json            which packages are being loaded: one that takes the process down is known by it

A kill at any moment leaves a valid model: a copy is whole or absent, `serving.json` names one that passed the gate.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.files import (
    PASSING,
    SIGNATURE,
    BrokenPackage,
    copy_folder,
    identity,
    read_json,
    size,
    write_bytes,
    write_json,
)
from models.runtime import Model, PackageError

# Loads of one package that may take the process down, and starts of a model on probation, before it is given up.
TRIES = 2
GATE_S = 60.0  # less than the startup's timeout in the recipe
VERDICTS, REMEMBERED = 20, 50
_log = logging.getLogger(__name__)

Load = Callable[..., Model]


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
    """What happened to a version: `swap`, `reject`, `restore` or `revert`, and why."""

    kind: str
    version: str
    reason: str = ""
    detail: str = ""


class Switch:
    """Holds the serving model. `current` may be read from any thread.

    `before_swap` is told of a new model before its first answer. `restore` and `step` belong to one thread; `revert`,
    `drop` and `reload` may be called by another, the watchdog's.
    """

    def __init__(
        self,
        work: Path,
        threads: int,
        *,
        key: bytes | None = None,
        free_mb: int = 0,
        load: Load = Model.load,
        before_swap: Callable[[Serving], None] = lambda _: None,
    ) -> None:
        self.work = work
        self.threads = threads
        self.key = key
        self.free_mb = free_mb
        self.current: Serving | None = None
        self.on_probation = False
        self._lock = threading.RLock()
        self._load = load
        self._before_swap = before_swap
        self._seen: tuple[str, str, str, bytes | None] | None = None

    def restore(self) -> Event | None:
        """Serves the last good model again after a start; None when there is none, or none that loads."""
        named = read_json(self.work / "serving.json") or {}
        starts = int(named.get("starts", 0)) + 1
        candidates = [named, named.get("before") or {}]
        if named.get("probation") and starts > TRIES and candidates[1]:
            self._condemn(named, "crash", f"it was started {starts - 1} times while on probation")
            candidates = candidates[1:]
        for entry in candidates:
            package = self.work / "models" / str(entry.get("identity"))
            if not entry.get("identity") or not package.is_dir():
                continue
            try:
                self.current = self._again(package, str(entry["version"]), str(entry["identity"]))
            except (PackageError, BrokenPackage) as error:
                _log.error("last good model %s does not load: %s", entry["version"], error)
                reason, detail = _why(error)
                if reason in ("crash", "hang"):  # damage on the disk is mended from the store, this is not
                    self._condemn(entry, reason, detail)
                continue
            first = entry is named
            self.on_probation = bool(first and named.get("probation"))
            if not first:
                self._write({"version": entry["version"], "identity": entry["identity"]})
                return Event("revert", self.current.version, "crash", f"{named.get('version')} cannot serve any more")
            if self.on_probation:
                self._write({**named, "starts": starts})
            return Event("restore", self.current.version)
        return None

    def step(self, store: Path) -> Event | None:
        """Gates what the model component's store wants, then swaps or refuses it; None when nothing is new."""
        wanted = read_json(store / "wanted.json")
        if wanted is None:
            return None
        version, name, staged = (str(wanted.get(key)) for key in ("version", "identity", "staged"))
        seen = (version, name, staged, self.key)
        if self._seen == seen:
            return None
        event = self._judge(store / version, version, name, staged)
        self._seen = seen
        return event

    def settle(self) -> None:
        """The serving model passed its probation: from now on it is the last good one."""
        with self._lock:
            self.on_probation = False
            kept = read_json(self.work / "serving.json") or {}
            self._write({key: value for key, value in kept.items() if key not in ("probation", "starts")})

    def revert(self, reason: str, detail: str = "") -> Event | None:
        """Gives the serving model up for the one before, for good; None when there is none before to go back to."""
        with self._lock:
            bad = self.current
            before = (read_json(self.work / "serving.json") or {}).get("before") or {}
            package = self.work / "models" / str(before.get("identity"))
            if bad is None or not before.get("identity") or not package.is_dir():
                return None
            try:
                back = self._gated(package, str(before["version"]), str(before["identity"]), counted=False)
            except (PackageError, BrokenPackage) as error:
                _log.error("the model before, %s, does not load: %s", before["version"], error)
                return None
            self._condemn({"version": bad.version, "identity": bad.identity}, reason, detail)
            self._write({"version": back.version, "identity": back.identity})
            self.current, self.on_probation = back, False
            self._collect({back.identity})
        _log.error("version %s is given up (%s %s); %s serves again", bad.version, reason, detail, back.version)
        return Event("revert", bad.version, reason, detail)

    def drop(self, reason: str, detail: str = "") -> None:
        """Gives the serving model up where there is none to go back to: nothing serves until another comes."""
        with self._lock:
            if self.current is not None:
                bad, self.current, self.on_probation = self.current, None, False
                self._condemn({"version": bad.version, "identity": bad.identity}, reason, detail)
                (self.work / "serving.json").unlink(missing_ok=True)

    def reload(self) -> None:
        """Loads the serving model anew, with a session of its own. Raises PackageError, BrokenPackage."""
        held = self.current
        if held is not None:
            again = self._gated(self.work / "models" / held.identity, held.version, held.identity, counted=False)
            with self._lock:
                self.current = again if self.current is held else self.current

    # The gate

    def _again(self, package: Path, version: str, name: str) -> Serving:
        """A model that served before. A device that just booted is busy: it may be slow once."""
        try:
            return self._gated(package, version, name)
        except PackageError as error:
            if error.code != "slow":
                raise
            return self._gated(package, version, name)

    def _judge(self, source: Path, version: str, name: str, staged: str) -> Event | None:
        verdict = read_json(self._verdict(version))
        refused = verdict is not None and verdict.get("identity") == name and not verdict["accepted"]
        # A signature is looked at again: the key may be another one since.
        same = verdict is not None and verdict.get("staged") == staged and verdict.get("reason") != "signature"
        if verdict and refused and (same or verdict.get("reason") not in PASSING):
            return None
        if (bad := self._bad().get(name)) is not None:
            self._say(version, name, staged, False, str(bad["reason"]), "it failed here before: " + str(bad["detail"]))
            return Event("reject", version, str(bad["reason"]), "it failed here before")
        if self.current and self.current.identity == name:
            return self._confirm(source, version, name, staged)
        return self._try(source, version, name, staged)

    def _try(self, source: Path, version: str, name: str, staged: str) -> Event:
        package = self.work / "models" / name
        try:
            if identity(source) != name:
                raise BrokenPackage("digest", f"the store's {version} is not the package that is wanted")
            self._room_for(source)
            copy_folder(source, package)
            serving = self._gated(package, version, name)
        except (PackageError, BrokenPackage, OSError) as error:
            reason, detail = _why(error)
            if self.current is None or self.current.identity != name:
                shutil.rmtree(package, ignore_errors=True)
            self._say(version, name, staged, False, reason, detail)
            _log.error("version %s is refused: %s: %s", version, reason, detail)
            return Event("reject", version, reason, detail)
        self._commit(serving)
        self._say(version, name, staged, True)
        _log.info("version %s serves", version)
        return Event("swap", version)

    def _room_for(self, source: Path) -> None:
        needed, free = size(source), shutil.disk_usage(self.work).free
        if free - needed < self.free_mb * 2**20:
            raise BrokenPackage(
                "disk", f"{needed / 2**20:.1f} MB are needed, {free / 2**20:.1f} MB free, {self.free_mb} MB to be left"
            )

    def _signed(self, package: Path) -> None:
        if self.key is not None:
            from edge import signature  # a device that asks for no signature has no use for a library of ciphers

            signature.check(package, self.key)

    def _gated(self, package: Path, version: str, name: str, *, counted: bool = True) -> Serving:
        """Signature, then all that the runtime checks: digests, schema, load, warm-up, golden answers, latency.

        A load that never ends is given up; one that takes the process down is counted, and refused the third time. What
        is not `counted` was let in before and is needed now: its signature is not asked for again, or a key that came
        since would leave the device without a model.
        """
        if not counted:
            return Serving(_within(GATE_S, lambda: self._load(package, threads=self.threads or None)), version, name)
        self._signed(package)
        trying = self.work / "trying.json"
        tries = dict(read_json(trying) or {})
        before = int(tries.pop(name, 0))
        if before >= TRIES:
            write_json(trying, tries)
            raise BrokenPackage("crash", f"the process ended {before} times while it loaded this package")
        write_json(trying, {**tries, name: before + 1})
        try:
            model = _within(GATE_S, lambda: self._load(package, threads=self.threads or None))
        finally:
            write_json(trying, tries)
        return Serving(model, version, name)

    # The disk

    def _commit(self, serving: Serving) -> None:
        """First the disk, then the reference that answers: a crash between serves the new model after the restart."""
        with self._lock:
            before = self.current
            kept: dict[str, Any] = {"version": serving.version, "identity": serving.identity, "probation": True}
            if before is not None and before.identity != serving.identity:
                kept["before"] = {"version": before.version, "identity": before.identity}
            self._write(kept)
            self._before_swap(serving)
            self.current, self.on_probation = serving, True
            self._collect({serving.identity, before.identity if before else ""})

    def _write(self, kept: dict[str, Any]) -> None:
        write_json(self.work / "serving.json", kept)

    def _collect(self, names: set[str]) -> None:
        """Removes every copy but these, what a kill left half written included."""
        for path in (self.work / "models").iterdir():
            if path.name not in names:
                shutil.rmtree(path, ignore_errors=True)

    def _confirm(self, source: Path, version: str, name: str, staged: str) -> Event | None:
        """A package that serves already is accepted at once, also under another version, if signed as is asked."""
        assert self.current is not None
        try:
            self._signed(source)
            if self.key is not None:
                write_bytes(self.work / "models" / name / SIGNATURE, (source / SIGNATURE).read_bytes())
        except (BrokenPackage, OSError) as error:
            reason, detail = _why(error)
            self._say(version, name, staged, False, reason, detail)
            return Event("reject", version, reason, detail)
        if self.current.version != version:
            kept = read_json(self.work / "serving.json") or {}
            self._write({**kept, "version": version, "identity": name})
            self.current = Serving(self.current.model, version, name)
        self._say(version, name, staged, True)
        return None

    def _condemn(self, entry: dict[str, Any], reason: str, detail: str) -> None:
        """Remembers a package that failed while it served, and takes the acceptance of its version back."""
        name, version = str(entry.get("identity")), str(entry.get("version"))
        known = self._bad()
        known[name] = {"version": version, "reason": reason, "detail": detail[:200], "time": time.time()}
        newest = sorted(known.items(), key=lambda one: float(one[1].get("time", 0)))[-REMEMBERED:]
        write_json(self.work / "bad.json", dict(newest))
        self._say(version, name, "", False, reason, detail)

    def _bad(self) -> dict[str, dict[str, Any]]:
        return read_json(self.work / "bad.json") or {}

    def _verdict(self, version: str) -> Path:
        return self.work / "verdicts" / Path(version).name

    def _say(self, version: str, name: str, staged: str, accepted: bool, reason: str = "", detail: str = "") -> None:
        verdict = {"schema": 1, "version": version, "identity": name, "staged": staged, "accepted": accepted}
        about = {"time": time.time(), "reason": reason or None, "detail": detail[:500]}
        write_json(self._verdict(version), {**verdict, **about})
        folder = self._verdict(version).parent
        for path in sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime)[:-VERDICTS]:
            path.unlink(missing_ok=True)


def _within(seconds: float, work: Callable[[], Model]) -> Model:
    """What `work` gives, from a thread of its own, which is left behind when it takes too long."""
    done: list[Model | BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # handed to the caller, whatever it is
            done.append(error)

    thread = threading.Thread(target=run, name="gate", daemon=True)
    thread.start()
    thread.join(seconds)
    if not done:
        raise BrokenPackage("hang", f"it did not load within {seconds:g} s")
    if isinstance(done[0], BaseException):
        raise done[0]
    return done[0]


def _why(error: Exception) -> tuple[str, str]:
    if isinstance(error, BrokenPackage):
        return error.reason, error.detail
    if isinstance(error, PackageError):
        return error.reason_code, error.detail
    return "disk", str(error)
