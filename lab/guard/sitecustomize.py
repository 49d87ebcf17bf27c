"""Refuses imports that a child may not have and calls of an isolated one, and skews its clock where that is asked for.

Python runs this file before the child's own code, because `lab/child.py` puts its folder first on PYTHONPATH.

    LAB_RUNTIME            name of the runtime, for the message
    LAB_RUNTIME_PACKAGES   JSON list of the top-level names that the runtime's pinned requirements bring
    LAB_CLOCK_SKEW_S       seconds that Python's clocks are ahead of the machine's; unset, they are the machine's
    LAB_BUNDLE             folders and archives (joined like PATH) whose modules are the child's own
    LAB_ISOLATED           set: sockets reach this machine alone, and not the engine's endpoint, which it names
    LAB_HOSTS              JSON list of a training job's host names, which are to mean this machine
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False  # typing itself would cost every child a millisecond
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from importlib.metadata import Distribution
    from types import ModuleType
    from typing import Any

# Written into every environment by the interpreter or by pip, not by a requirement.
OWN = ("__main__", "sitecustomize", "usercustomize", "_virtualenv")
INSTALLED = ("site-packages", "dist-packages")
STDLIB = os.path.realpath(os.__file__).rpartition(os.sep)[0] + os.sep


class Guard:
    """The only finder on sys.meta_path: asks those that stood there and refuses what the runtime does not bring.

    It takes their place, because importlib.util.find_spec must answer "not installed" for a refused name (libraries
    probe for optional packages that way), while an import of it must say why.
    """

    def __init__(self, runtime: str, allowed: Iterable[str], roots: Iterable[str], finders: Sequence[Any]) -> None:
        self.runtime = runtime
        self.allowed = frozenset(allowed) | sys.stdlib_module_names | frozenset(OWN)
        self.roots = tuple(os.path.realpath(root) + os.sep for root in roots if root)
        self.finders = tuple(finders)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec when the child may have it; ModuleNotFoundError for an import that is refused."""
        top = name.partition(".")[0]
        spec = self._first(name, path, target)
        if spec is None or top in self.allowed or top.startswith("__editable__") or self._within(spec):
            return spec
        if name != top or _is_a_probe():
            return None
        extra = f"the {self.runtime!r} extra in pyproject.toml"
        message = f"the {self.runtime} runtime does not bring {name!r}; add it to {extra} or drop the import"
        raise ModuleNotFoundError(message, name=name)

    def _first(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in self.finders:
            spec: ModuleSpec | None = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
        return None

    def _within(self, spec: ModuleSpec) -> bool:
        places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or [])
        return bool(places) and all(self._admits(os.path.realpath(place) + os.sep) for place in places)

    def _admits(self, place: str) -> bool:
        if place.startswith(self.roots):
            return True
        for folder in INSTALLED:
            _, found, rest = place.rpartition(f"{os.sep}{folder}{os.sep}")
            if found:
                # Inside a package that the runtime brings and that put its own folder on the path, as
                # onnxruntime.transformers does, to import its modules by their bare names.
                package, _, inside = rest.partition(os.sep)
                return package in self.allowed and inside.strip(os.sep) != ""
        return place.startswith(STDLIB)  # _sysconfigdata_… and test are in no list of standard names

    def find_distributions(self, context: Any) -> Iterable[Distribution]:
        """What importlib.metadata asks the finders on sys.meta_path for."""
        for finder in self.finders:
            find = getattr(finder, "find_distributions", None)
            if find is not None:
                yield from find(context)

    def invalidate_caches(self) -> None:
        for finder in self.finders:
            invalidate = getattr(finder, "invalidate_caches", None)
            if invalidate is not None:
                invalidate()


def _is_a_probe() -> bool:
    """True when importlib.util.find_spec asks, and not an import statement."""
    # Frames: this one, Guard.find_spec, importlib._bootstrap._find_spec, whoever asked.
    asker = sys._getframe(3).f_code
    return asker.co_name == "find_spec"


def resolve_hosts() -> None:
    """Lets Python's own look-ups of a training job's hosts end at loopback; there is no name server for them."""
    names = frozenset(json.loads(os.environ.get("LAB_HOSTS") or "[]"))
    if not names:
        return
    import socket

    def local(look_up: Any) -> Any:
        return lambda host, *rest, **more: look_up("127.0.0.1" if host in names else host, *rest, **more)

    for name in ("gethostbyname", "gethostbyname_ex", "getaddrinfo"):
        setattr(socket, name, local(getattr(socket, name)))


def isolate(endpoint: str) -> None:
    """Keeps Python's sockets from all but loopback, where the job's other hosts are, and from the engine's port."""
    engine = int(endpoint.rpartition(":")[2])

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            return
        address = arguments[1]
        if not isinstance(address, tuple):  # of a socket in the file system, or connected before
            return
        if not str(address[0]).startswith(("127.", "localhost", "::1")) or address[1] == engine:
            raise PermissionError(f"EnableNetworkIsolation: this job may not call {address[0]}:{address[1]}")

    sys.addaudithook(hook)


def install() -> None:
    """Puts the guard in place when this process is a child of the engine."""
    runtime = os.environ.get("LAB_RUNTIME")
    if not runtime:
        return
    allowed = json.loads(os.environ.get("LAB_RUNTIME_PACKAGES") or "[]")
    roots = [*os.environ.get("LAB_BUNDLE", "").split(os.pathsep), __file__.rpartition(os.sep)[0]]
    sys.meta_path[:] = [Guard(runtime, allowed, roots, sys.meta_path)]
    resolve_hosts()
    if os.environ.get("LAB_ISOLATED"):
        isolate(os.environ["LAB_ISOLATED"])


def skew(seconds: float) -> None:
    """Puts time and datetime `seconds` ahead. File times, SQLite's and other libraries' own clocks stay."""
    import datetime as module
    import time
    from datetime import datetime as real

    true = {name: getattr(time, name) for name in ("time", "time_ns", "gmtime", "localtime", "ctime", "clock_gettime")}

    class Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

    class Skewed(real, metaclass=Kind):
        @classmethod
        def now(cls, tz: module.tzinfo | None = None) -> Skewed:
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> Skewed:
            return cls.now(module.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Skewed:
            return cls.now()

    def at(name: str) -> Any:
        return lambda moment=None: true[name](time.time() if moment is None else moment)

    time.time = lambda: true["time"]() + seconds
    time.time_ns = lambda: true["time_ns"]() + int(seconds * 1e9)
    time.gmtime, time.localtime, time.ctime = at("gmtime"), at("localtime"), at("ctime")
    time.clock_gettime = lambda clock: true["clock_gettime"](clock) + (seconds if clock == time.CLOCK_REALTIME else 0.0)
    module.datetime = Skewed  # type: ignore[misc]


install()
if os.environ.get("LAB_CLOCK_SKEW_S"):
    skew(float(os.environ["LAB_CLOCK_SKEW_S"]))
