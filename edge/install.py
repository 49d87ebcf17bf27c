"""The runtime component's install step: gives the device a Python that has the bundle's pinned requirements.

    python3 -m edge.install --work DIR --version V

Writes `<work>/python-<version>`, which startup runs. Where the interpreter has every pin already (a prepared image,
the desk) it stands for that interpreter; else for a virtual environment made here: from the wheelhouse that came beside
the bundle and fits this device (its `wheelhouse.json` says), each file by its hash and without any network; where none
fits, from a package index.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

REQUIREMENTS = "requirements.txt"


def main(argv: Sequence[str] | None = None) -> int:
    """Provides the requirements beside the code; exit 1 with a line on stderr when it cannot."""
    parser = argparse.ArgumentParser(prog="python3 -m edge.install")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--version", required=True)
    args = parser.parse_args(argv)
    listing = Path(__file__).resolve().parents[1] / REQUIREMENTS
    if not listing.is_file():
        print(f"the bundle has no {REQUIREMENTS}: {listing} is missing", file=sys.stderr)  # noqa: T201 - the nucleus logs it
        return 1
    missing = unmet(listing.read_text("utf-8").splitlines())
    if missing:
        print(f"making an environment for {', '.join(missing)}", flush=True)  # noqa: T201 - the nucleus logs it
        wheels = wheelhouse(listing.parent.parent)
        print(f"from {wheels.name if wheels else 'the package index'}", flush=True)  # noqa: T201 - the nucleus logs it
        try:
            python = environment(args.work / f"venv-{args.version}", listing, wheels)
        except subprocess.CalledProcessError as error:
            print(f"{shlex.join(map(str, error.cmd))} exited with {error.returncode}", file=sys.stderr)  # noqa: T201
            return 1
    else:
        print(f"{sys.executable} has every pin of {REQUIREMENTS}", flush=True)  # noqa: T201
        python = Path(sys.executable)
    launcher = args.work / f"python-{args.version}"
    launcher.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} "$@"\n')
    launcher.chmod(0o755)
    collect(args.work, args.version)
    return 0


def unmet(lines: Iterable[str]) -> list[str]:
    """The pins (`name==version`, one a line) that this interpreter does not have."""
    missing = []
    for line in lines:
        pin = line.split("#", 1)[0].strip()
        if not pin:
            continue
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", pin)
        if found is None or _installed(found[1]) != found[2]:
            missing.append(pin)
    return missing


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def wheelhouse(beside: Path) -> Path | None:
    """The folder of wheels for this machine and this Python; None when no such one came along."""
    here = {"machine": platform.machine(), "python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    for about in sorted(beside.glob("*/wheelhouse.json")):
        if json.loads(about.read_text("utf-8")) == here:
            return about.parent
    return None


def environment(folder: Path, listing: Path, wheels: Path | None = None) -> Path:
    """A virtual environment with the requirements, made new; gives its interpreter. Raises CalledProcessError."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    if wheels is not None:
        # Every file in it, those that the pins require in turn included, has its hash in the wheelhouse's own list.
        pip += ["--no-index", "--find-links", str(wheels), "--require-hashes", "--only-binary", ":all:"]
        listing = wheels / REQUIREMENTS
    subprocess.run([*pip, "-r", str(listing)], check=True)
    return python


def collect(work: Path, version: str) -> None:
    """Removes the environments and launchers of all but this version and the newest other one."""
    for kind in ("venv", "python"):
        others = [path for path in work.glob(f"{kind}-*") if path.name != f"{kind}-{version}"]
        for path in sorted(others, key=lambda one: one.stat().st_mtime)[:-1]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
