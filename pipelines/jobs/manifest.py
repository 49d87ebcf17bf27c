"""The raw manifest, which files a data set has; Spark's workers read it, not the driver."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.jobs.lake import Lake, LakeError

SCHEMA = 1
ROW = "path string, sha256 string, label_name string"


class ManifestError(Exception):
    """The manifest is missing or is not what its own digest says; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a manifest says of the data set as a whole."""

    dataset: str
    modality: str
    task: str
    classes: tuple[str, ...]
    digest: str
    pixels: int
    files: int


def head(lake: Lake, key: str) -> Head | ManifestError:
    """The head of a manifest that is what its digest says. The error is a value: it crosses from worker to driver."""
    try:
        found = _load(lake, key)
        files = [(str(entry["path"]), str(entry["sha256"]), str(entry["label"])) for entry in found["files"]]
        lines = "".join(sorted(f"{path} {sha256} {label}\n" for path, sha256, label in files))
        if hashlib.sha256(lines.encode()).hexdigest() != found["digest"]:
            return ManifestError(f"{lake.uri(key)}: its list of files does not have the digest that it names")
        return Head(
            dataset=str(found["dataset"]),
            modality=str(found["modality"]),
            task=str(found["task"]),
            classes=tuple(str(name) for name in found["classes"]),
            digest=str(found["digest"]),
            pixels=int(found.get("pixels") or 32),
            files=len(files),
        )
    except LakeError as error:
        return ManifestError(str(error))
    except (ValueError, KeyError, TypeError) as error:
        return ManifestError(f"{lake.uri(key)} is no raw manifest: {error!r}")


def rows(lake: Lake, key: str) -> Iterator[tuple[str, str, str]]:
    """Path, sha256 and label of each file, as ROW names them."""
    for entry in _load(lake, key)["files"]:
        yield str(entry["path"]), str(entry["sha256"]), str(entry["label"])


def _load(lake: Lake, key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lake.read(key))
    if found["schema"] != SCHEMA:
        raise ValueError(f"schema {found['schema']!r}, this job reads {SCHEMA}")
    return found
