"""What goes wrong on a core device on purpose: switches that are put on and taken back while it runs.

No component cooperates, and none can tell a switch from the real thing, but for this:

disk-full   every write to a file fails with EFBIG (a limit on file size, on the processes that run), where a full disk
            says ENOSPC: SQLite reports an I/O error instead of SQLITE_FULL, and the component's log lines are lost too.
            Folders, renames and deletions work. What a component starts while it is on inherits it.
clock       Python's clocks alone (time, datetime) are skewed, by one day: file times and SQLite's own are not.
offline     the broker, the artefacts and the job's reports are out of reach; loopback itself stays open.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError

if TYPE_CHECKING:
    from lab.device import Device

# What each switch does; the last ones happen once and leave nothing to take back.
LASTING = {
    "offline": "the cloud cannot be reached: deployments wait, publishing fails, nothing arrives",
    "dropped": "the nucleus closes every connection at once",
    "refused": "the nucleus knows no token: open connections end, new ones are refused",
    "slow": "the component's processes run a quarter of the time",
    "disk-full": "every write to a file fails",
    "clock": "the clock is one day ahead; the components are started again with it",
    "yaml": "numbers and booleans of the configuration arrive as text, as from a YAML recipe",
    "corrupt": "the next artefact that is downloaded has a flipped bit; then it is over",
}
ONCE = {
    "subscriptions": "subscriptions to AWS IoT Core are lost in silence",
    "nucleus": "the IPC daemon restarts: connections end, old tokens are dead for good",
}
ALL = {**LASTING, **ONCE}
SKEW_S = 86_400.0
PERIOD_S = 0.4
STOPPED = 0.75  # share of the time that a slow process stands still


class Faults:
    """The switches of one device. Calls may come from any thread."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._on: set[str] = set()
        self._lock = threading.RLock()
        self._pacer: threading.Thread | None = None

    def on(self) -> list[str]:
        """The switches that are on, in the order of their table."""
        return [name for name in LASTING if name in self._on]

    def __contains__(self, name: str) -> bool:
        return name in self._on

    def switch(self, name: str, on: bool) -> None:
        """Puts a switch on or takes it back. Raises LabError for one that cannot be."""
        if name not in ALL:
            raise LabError(f"there is no fault {name!r}", f"there are: {', '.join(ALL)}")
        if name in ONCE and not on:
            raise LabError(f"{name} happens once; there is nothing to take back", "restart the component instead")
        with self._lock:
            if on and name not in ONCE:
                self._on.add(name)
            else:
                self._on.discard(name)
            getattr(self, f"_{name.replace('-', '_')}")(on)

    def end(self) -> None:
        """Nothing is on any more; the device itself ends."""
        self._on.clear()

    def environment(self) -> dict[str, str]:
        """What a component's process is started with besides."""
        return {"LAB_CLOCK_SKEW_S": str(SKEW_S)} if "clock" in self else {}

    def started(self) -> None:
        """A component's process is there: switches that hold for processes hold for it too."""
        if "disk-full" in self:
            self._disk_full(True)

    def used_up(self, name: str) -> bool:
        """Whether a switch is on that works once, which is then over."""
        there = name in self._on
        self._on.discard(name)
        return there

    def _offline(self, on: bool) -> None:
        self._device.server.faults.offline = on
        self._device.connected(not on)

    def _dropped(self, on: bool) -> None:
        self._device.server.faults.closed = on
        if on:
            self._device.server.drop_connections()

    def _refused(self, on: bool) -> None:
        self._device.server.faults.refuse = on
        if on:
            self._device.server.drop_connections()

    def _subscriptions(self, on: bool) -> None:
        self._device.server.drop_subscriptions()

    def _nucleus(self, on: bool) -> None:
        self._device.server.restart()

    def _yaml(self, on: bool) -> None:
        self._device.server.faults.strings = on

    def _corrupt(self, on: bool) -> None:
        """The download itself asks."""

    def _clock(self, on: bool) -> None:
        self._device.restart_components()

    def _disk_full(self, on: bool) -> None:
        if not hasattr(resource, "prlimit"):
            raise LabError("this system cannot limit the files of a running process", "try it on Linux")
        for process in self._processes():
            with suppress(ProcessLookupError):
                _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
                resource.prlimit(process, resource.RLIMIT_FSIZE, (0 if on else hard, hard))

    def _processes(self) -> Iterator[int]:
        """Every process in the groups of the device's components."""
        groups = set(self._device.groups())
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(ProcessLookupError, PermissionError):
                if os.getpgid(int(folder.name)) in groups:
                    yield int(folder.name)

    def _slow(self, on: bool) -> None:
        if on and (self._pacer is None or not self._pacer.is_alive()):
            self._pacer = threading.Thread(target=self._pace, daemon=True)
            self._pacer.start()

    def _pace(self) -> None:
        while "slow" in self:
            self._signal(signal.SIGSTOP)
            time.sleep(PERIOD_S * STOPPED)
            self._signal(signal.SIGCONT)
            time.sleep(PERIOD_S * (1 - STOPPED))

    def _signal(self, number: int) -> None:
        for group in self._device.groups():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
