"""The wheels that a device installs from without a network: one folder per machine and Python, each file with its hash.

`wheels-<machine>-cp<minor>.zip` holds the wheels of the edge runtime's pins and of all that these require,
`requirements.txt` with a SHA-256 for each, `wheelhouse.json`, whom they fit, and `sbom.json`, what is inside as
CycloneDX 1.5. The same pins give the same bytes. Lying in the repository's `wheelhouse/` it travels with the runtime
component.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from lab import launch, processes, synth
from lab.errors import LabError
from lab.home import Home

MACHINES = {
    "x86_64": ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64"),
    "aarch64": ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64"),
}
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Wheel:
    """One file of the wheelhouse."""

    name: str
    version: str
    file: str
    sha256: str
    license: str


def build(home: Home, machine: str, python: str, out: Path) -> dict[str, Any]:
    """Downloads the wheels and packs them into `out`; says what is inside. Raises LabError.

    `machine` is x86_64 or aarch64, as the device's `uname -m` says; `python` its version, such as 3.11.
    """
    tags = _tags(machine, python)
    name = f"wheels-{machine}-cp{python.replace('.', '')}"
    scratch = out / f".{name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        _pip(home, "download", "-q", "--dest", str(scratch), *tags, *_wanted(home, scratch))
        wheels = sorted(map(_read, scratch.glob("*.whl")), key=lambda wheel: wheel.name)
        archive = out / f"{name}.zip"
        _pack(archive, scratch, wheels, machine, python)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {
        "archive": str(archive),
        "machine": machine,
        "python": python,
        "bytes": archive.stat().st_size,
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "wheels": [vars(wheel) for wheel in wheels],
    }


def resolve(home: Home, machine: str, python: str) -> dict[str, Any]:
    """Which wheels that machine would get, with their hashes, and downloads none. Raises LabError."""
    folder = home.root / "wheelhouse"
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.json"
    more = ["--dry-run", "--ignore-installed", "--target", str(folder / "nowhere"), "--report", str(report)]
    _pip(home, "install", "-q", *more, *_tags(machine, python), *_wanted(home, folder))
    found = json.loads(report.read_text("utf-8"))["install"]
    return {
        "machine": machine,
        "python": python,
        "wheels": [
            {
                "name": item["metadata"]["name"],
                "version": item["metadata"]["version"],
                "file": item["download_info"]["url"].rsplit("/", 1)[-1],
                "sha256": item["download_info"]["archive_info"]["hashes"]["sha256"],
            }
            for item in sorted(found, key=lambda item: str(item["metadata"]["name"]).lower())
        ],
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """What `build` or `resolve` found, for people."""
    for wheel in found["wheels"]:
        yield f"{wheel['name']:18} {wheel['version']:12} {wheel['sha256'][:12]}…  {wheel['file']}"
    if "archive" in found:
        yield f"{found['archive']}: {len(found['wheels'])} wheels, {found['bytes'] / 1e6:.1f} MB"
    else:
        yield f"{len(found['wheels'])} wheels for {found['machine']} and Python {found['python']}; nothing downloaded"


def _tags(machine: str, python: str) -> list[str]:
    if machine not in MACHINES:
        raise LabError(f"no wheels are known for {machine}", f"as `uname -m` on the device says: {', '.join(MACHINES)}")
    if not re.fullmatch(r"3\.1\d", python):
        raise LabError(f"{python} is no version of Python that the lab runs on", "such as 3.11; the device's own")
    platforms = [word for tag in MACHINES[machine] for word in ("--platform", tag)]
    return ["--only-binary", ":all:", *platforms, "--python-version", python, "--implementation", "cp"]


def _wanted(home: Home, folder: Path) -> list[str]:
    """The edge runtime's pins as `lab.toml` wants them, the lock as constraints for what they require."""
    assembly = synth.synth(home, {})
    described = json.loads((assembly.path / "lab.json").read_text("utf-8"))
    pins = folder / "pins.txt"
    pins.write_text("\n".join(described["runtimes"]["edge"]) + "\n", "utf-8")
    return ["-r", str(pins), "-c", str(home.repo / "requirements.lock")]


def _pip(home: Home, *arguments: str) -> None:
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = processes.run(argv, cwd=home.repo, env=launch.environment(home))
    if done.rc:
        said = [line for line in done.last_lines(6) if "ignored" not in line]
        raise LabError("pip found no wheels:\n" + "\n".join(said), "a package index that has them must be in reach")


def _read(path: Path) -> Wheel:
    """Name, version and licence from the wheel's own metadata."""
    with zipfile.ZipFile(path) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        said = HeaderParser().parsestr(archive.read(metadata).decode("utf-8", "replace"))
    licence = said["License-Expression"] or (said["License"] or "").splitlines()[:1] or ""
    return Wheel(
        name=str(said["Name"]),
        version=str(said["Version"]),
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        license=licence if isinstance(licence, str) else licence[0],
    )


def _pack(archive: Path, folder: Path, wheels: Sequence[Wheel], machine: str, python: str) -> None:
    """Sorted, with one time, stored: the same wheels give the same bytes; whole or not there."""
    texts = {
        "requirements.txt": "".join(f"{one.name}=={one.version} --hash=sha256:{one.sha256}\n" for one in wheels),
        "wheelhouse.json": json.dumps({"machine": machine, "python": python}) + "\n",
        "sbom.json": json.dumps(sbom(wheels, machine, python), indent=1) + "\n",
    }
    temporary = archive.with_name(f".{archive.name}")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as packed:
        for name in sorted([*texts, *(wheel.file for wheel in wheels)]):
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system, member.external_attr = 3, 0o100644 << 16
            packed.writestr(member, texts[name].encode() if name in texts else (folder / name).read_bytes())
    temporary.replace(archive)


def sbom(wheels: Sequence[Wheel], machine: str, python: str) -> dict[str, Any]:
    """A bill of materials (CycloneDX 1.5) without a time or a random number, which would change its bytes."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": f"edge runtime, {machine}, CPython {python}"},
        },
        "components": [
            {
                "type": "library",
                "name": wheel.name,
                "version": wheel.version,
                "purl": f"pkg:pypi/{wheel.name.lower().replace('_', '-')}@{wheel.version}",
                "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
                **({"licenses": [{"license": {"name": wheel.license}}]} if wheel.license else {}),
            }
            for wheel in wheels
        ],
    }
