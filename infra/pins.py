"""What each runtime brings, as `pyproject.toml` names it and `requirements.lock` pins it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

RUNTIMES = ("lambda", "glue", "job", "serve", "edge")


class PinError(Exception):
    """A runtime's package has no pin, in one line."""


def pins(root: Path, runtime: str, extras: Iterable[str] = ()) -> list[str]:
    """The requirements of one runtime, and of more extras, as exact pins, such as `numpy==2.4.6`. Raises PinError."""
    named = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    locked = _locked((root / "requirements.lock").read_text("utf-8"))
    found = []
    for requirement in (item for name in (runtime, *extras) for item in named[name]):
        name = _normal(re.split(r"[\[<>=!~;\s]", requirement, maxsplit=1)[0])
        if name not in locked:
            raise PinError(
                f"requirements.lock has no pin for {name}, which the extra '{runtime}' of pyproject.toml asks"
            )
        found.append(locked[name])
    return sorted(set(found))


def _locked(text: str) -> dict[str, str]:
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return {_normal(line.split("==", 1)[0]): line for line in lines if "==" in line}


def _normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
