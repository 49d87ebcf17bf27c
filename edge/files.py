"""Files that survive a power cut: written beside, flushed, renamed. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = "model.json"
SIGNATURE = "model.sig"
# A refusal for such a reason is no judgement of the package: staged again, it is tried again.
PASSING = ("disk", "signature")


class BrokenPackage(Exception):
    """A model package must not serve. `reason` is its code: missing, schema, digest, signature, disk, hang, crash."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries, so that a rename in it is still there after a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a file; a reader sees the old content or the new one, never half of it."""
    write_bytes(path, json.dumps(value).encode())


def write_bytes(path: Path, value: bytes) -> None:
    """As write_json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        stream.write(value)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no whole one."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder of plain files so that `target` either is not there or is whole."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        with path.open("rb") as read, (temporary / path.name).open("wb") as write:
            shutil.copyfileobj(read, write)
            write.flush()
            os.fsync(write.fileno())
    sync_folder(temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    sync_folder(target.parent)


def size(folder: Path) -> int:
    """Bytes of the files in a folder and below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def identity(package: Path) -> str:
    """What a package is, whatever its version says: SHA-256 of its `model.json`, which holds every file's digest."""
    try:
        return hashlib.sha256((package / PACKAGE).read_bytes()).hexdigest()
    except OSError as error:
        raise BrokenPackage("missing", f"{package} has no readable {PACKAGE}: {error}") from error


def verify(package: Path) -> dict[str, Any]:
    """The package's description, after each file's SHA-256 was compared with it. Raises BrokenPackage."""
    identity(package)
    described = read_json(package / PACKAGE)
    digests = (described or {}).get("sha256")
    if described is None or described.get("schema") != 1 or not isinstance(digests, dict) or not digests:
        raise BrokenPackage("schema", f"{PACKAGE} is no JSON object of schema 1 with digests")
    for name, wanted in sorted(digests.items()):
        if Path(name).name != name:
            raise BrokenPackage("schema", f"{name!r} is no plain file name")
        try:
            found = hashlib.sha256((package / name).read_bytes()).hexdigest()
        except OSError as error:
            raise BrokenPackage("missing", f"{name}: {error}") from error
        if found != wanted:
            raise BrokenPackage("digest", f"{name} has SHA-256 {found[:12]}…, the package says {str(wanted)[:12]}…")
    return described
