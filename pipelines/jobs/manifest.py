"""The raw manifest, which files a data set has; Spark's workers read it, not the driver."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.contract import ANOMALY, TASKS
from pipelines.jobs.lake import Lake, LakeError

SCHEMA = 1
ROW = "path string, sha256 string, label_name string"
# What people call the folder of pictures without a defect.
GOOD = frozenset({"normal", "good", "ok", "pass"})
# The driver holds the names of a table's files, so there is an end to them.
FILES = 100_000


class ManifestError(Exception):
    """The manifest is missing or is not what its own digest says; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """How the files of a table or series are read, and each column's role; "" for a role that no column has.

    `decimal` stands before a number's decimals; `dates` is the pattern of times that are not in ISO 8601, "" for none;
    `sizes` is bytes by file; `parts` names the files that are given as train and test.
    """

    format: str
    delimiter: str
    header: bool
    encoding: str
    decimal: str
    dates: str
    names: tuple[str, ...]
    features: tuple[str, ...]
    categories: tuple[str, ...]
    target: str
    group: str
    time: str
    missing: tuple[str, ...]
    window: int
    stride: int
    rul_cap: int
    intervals: tuple[tuple[str, str], ...]
    parts: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, int]

    def __post_init__(self) -> None:
        used = [*self.features, *filter(None, (self.target, self.group, self.time))]
        for name in [*self.categories, *used]:
            if name not in self.names:
                raise ValueError(f"the column '{name}' is none of {', '.join(self.names)}")
        if not self.features or not set(self.categories) <= set(self.features):
            raise ValueError("a table needs one feature at least, and its categories are features")
        if self.format not in ("csv", "whitespace", "parquet"):
            raise ValueError(f"the format '{self.format}' is none of csv, whitespace, parquet")
        if self.format != "parquet" and "a\n".encode(self.encoding)[-2:] != b"a\n":
            raise ValueError(f"lines in {self.encoding} cannot be told apart; save the files as UTF-8")
        if self.decimal not in (".", ","):
            raise ValueError(f"'{self.decimal}' stands before no decimals; a point or a comma does")
        if not self.sizes or len(self.sizes) > FILES:
            raise ValueError(f"a table of {len(self.sizes)} files; 1 to {FILES} are read, so join small ones")


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a manifest says of the data set as a whole.

    `labels` is each folder's class, which is another name where the task is anomaly detection. `grouped` pictures are
    patches: what their names have before the last `__` is the picture that they come from.
    """

    dataset: str
    modality: str
    task: str
    classes: tuple[str, ...]
    digest: str
    pixels: int
    files: int
    labels: Mapping[str, str]
    grouped: bool = False
    table: Table | None = None


def head(lake: Lake, key: str) -> Head | ManifestError:
    """The head of a manifest that is what its digest says. The error is a value: it crosses from worker to driver."""
    try:
        found = _load(lake, key)
        files = [(str(entry["path"]), str(entry["sha256"]), str(entry["label"])) for entry in found["files"]]
        lines = "".join(sorted(f"{path} {sha256} {label}\n" for path, sha256, label in files))
        if hashlib.sha256(lines.encode()).hexdigest() != found["digest"]:
            return ManifestError(f"{lake.uri(key)}: its list of files does not have the digest that it names")
        labels = _labels(found)
        return Head(
            dataset=str(found["dataset"]),
            modality=str(found["modality"]),
            task=str(found["task"]),
            classes=ANOMALY if found["task"] == "anomaly" else tuple(labels),
            digest=str(found["digest"]),
            pixels=int(found.get("pixels") or 32),
            files=len(files),
            labels=labels,
            grouped=bool(found.get("grouped")),
            table=None if found["modality"] == "image" else _table(found),
        )
    except LakeError as error:
        return ManifestError(str(error))
    except (ValueError, LookupError, TypeError) as error:
        return ManifestError(f"{lake.uri(key)} is no raw manifest: {error!r}")


def rows(lake: Lake, key: str) -> Iterator[tuple[str, str, str]]:
    """Path, sha256 and label of each file, as ROW names them."""
    for entry in _load(lake, key)["files"]:
        yield str(entry["path"]), str(entry["sha256"]), str(entry["label"])


def _labels(found: Mapping[str, Any]) -> dict[str, str]:
    """Each folder's class."""
    modality, task = found["modality"], found["task"]
    if task not in TASKS.get(modality, ()):
        raise ValueError(f"{modality} {task} is no task that is known here")
    names = [str(name) for name in found["classes"]]
    if (modality, task) != ("image", "anomaly"):
        return {name: name for name in names}
    normal = found.get("normal")
    if normal is not None:
        return {name: ANOMALY[name != normal] for name in names}
    if not any(name.lower() in GOOD for name in names):
        raise ValueError(f"no folder is called {', '.join(sorted(GOOD))}: what is normal? There are {', '.join(names)}")
    return {name: ANOMALY[name.lower() not in GOOD] for name in names}


def _table(found: Mapping[str, Any]) -> Table:
    given = found["table"]
    task, target = found["task"], str(given["target"] or "")
    if task in ("classification", "regression") and not target:
        raise ValueError(f"{task} needs a target column; name it in [data] target")
    texts = {name: str(given[name] or "") for name in ("format", "delimiter", "encoding", "group", "time")}
    texts |= {"decimal": str(given.get("decimal") or "."), "dates": str(given.get("dates") or "")}
    lists = {name: tuple(map(str, given[name])) for name in ("names", "features", "categories", "missing")}
    numbers = {name: max(1, int(given[name])) for name in ("window", "stride", "rul_cap")}
    roles: dict[str, Any] = {**texts, **lists, **numbers}
    return Table(
        **roles,
        target=target,
        header=bool(given["header"]),
        intervals=tuple((str(start), str(end)) for start, end in given["intervals"]),
        parts={part: tuple(names) for part, names in given["parts"].items()},
        sizes={str(entry["path"]): int(entry["bytes"]) for entry in found["files"]},
    )


def _load(lake: Lake, key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lake.read(key))
    if found["schema"] != SCHEMA:
        raise ValueError(f"schema {found['schema']!r}, this job reads {SCHEMA}")
    return found
