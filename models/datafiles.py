"""The manifest of a raw data set: every file with its digest, written last and whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

MANIFEST = "_manifest.json"


class DatasetError(Exception):
    """A data set that cannot be written; the message says what and what to try."""


def save(folder: Path, head: Mapping[str, Any], files: Iterable[tuple[str, str]], **more: Any) -> dict[str, Any]:
    """Writes the manifest of `files`, (path below folder, label), and returns it."""
    return write(folder, head, [row(folder, path, label) for path, label in files], **more)


def row(folder: Path, path: str, label: str) -> dict[str, Any]:
    """What a manifest says of one file."""
    with (folder / path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"path": path, "bytes": (folder / path).stat().st_size, "sha256": digest, "label": label}


def write(folder: Path, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """Writes the manifest of files that `rows` describe, whether or not they lie in `folder`, and returns it."""
    lines = "".join(sorted(f"{row['path']} {row['sha256']} {row['label']}\n" for row in rows))
    digest = hashlib.sha256(lines.encode()).hexdigest()
    document = {"schema": 1, **head, "files": list(rows), "digest": digest, **more}
    scratch = folder / ".manifest.json"
    scratch.write_text(json.dumps(document) + "\n", "utf-8")
    scratch.replace(folder / MANIFEST)
    return document


def slug(name: str) -> str:
    """A name that prefixes and job names can hold."""
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    return "-".join(filter(None, kept.split("-")))[:40].strip("-") or "data"
