"""A table or series as a raw data set: the files as they came, and a manifest that says how to read them.

`settings` is the `[data]` table of lab.toml.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models import datafiles
from models.datafiles import DatasetError

SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".data", ".dat", ".parquet"})
# What an endpoint can be asked: one row, or the rows of one window, of the features alone. No file of the data set.
SAMPLE = "_sample.csv"
# Texts that lie beside tables and are none.
BESIDE = frozenset({"readme", "license", "licence", "notice", "copying", "changelog"})
PARTS = re.compile(r"(?i)^(train|test)(?=[^a-z]|$)")


def write(source: Path, out: Path, dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Copies the files of `source`, a file or a folder of them, to `out`; returns the manifest that it wrote.

    Raises DatasetError as `described` does.
    """
    found = files(source, settings)
    out.mkdir(parents=True, exist_ok=True)
    for path in found:
        shutil.copyfile(path, out / path.name)
    return described(source, out, dataset, settings)


def described(source: Path, out: Path, dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the manifest of the files that lie in `out` already; `source` is what they came from.

    Raises DatasetError for files that differ in their columns, and for a column that settings name and no file has.
    """
    found = files(out, settings)
    names = columns(found, settings)
    table = form(names, found, settings, _intervals(source, settings))
    _write_sample(out / SAMPLE, found[0], table, settings["modality"])
    return datafiles.save(
        out,
        {
            "dataset": dataset,
            "modality": settings["modality"],
            "task": settings["task"],
            "source": source.name,
            "classes": [],
            "pixels": 0,
            "sample": SAMPLE,
            "table": table,
        },
        [(path.name, "") for path in found],
    )


def files(source: Path, settings: Mapping[str, Any]) -> list[Path]:
    """The files with rows, in order of their names. Raises DatasetError when there is none."""
    if source.is_file():
        return [source]
    found = [
        path
        for path in sorted(source.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith((".", "_")) and path.stem.lower() not in BESIDE
    ]
    if not found:
        raise DatasetError(f"{source} holds no table ({', '.join(sorted(SUFFIXES))})")
    return found


def columns(found: Sequence[Path], settings: Mapping[str, Any]) -> list[str]:
    """The names of all columns, in the files' order; c0, c1, … without a header."""
    first = _names(found[0], settings)
    for path in found[1:]:
        if (other := _names(path, settings)) != first:
            raise DatasetError(f"{path.name} has the columns {', '.join(other)}; {found[0].name} has others")
    return first


def named(header: Sequence[str]) -> list[str]:
    """The names that a text's header gives; a column without one, as of row names, is called by its place, c0 first."""
    return [cell.strip() or f"c{place}" for place, cell in enumerate(header)]


def form(
    names: Sequence[str], found: Sequence[Path], settings: Mapping[str, Any], intervals: list[list[str]]
) -> dict[str, Any]:
    """The manifest's `table`: how to read the files, and each column's role."""
    roles = {role: str(settings.get(role) or "") for role in ("target", "group", "time")}
    listed = {key: list(settings.get(key) or []) for key in ("exclude", "categories", "missing")}
    for role, name in [*roles.items(), *(("exclude", name) for name in listed["exclude"])]:
        if name and name not in names:
            raise DatasetError(f"[data] {role} names the column '{name}'; there are {', '.join(names)}")
    taken = {*listed["exclude"], *roles.values()}
    features = [name for name in names if name not in taken]
    if settings["task"] == "anomaly" and not features:
        raise DatasetError("no column is left to look for anomalies in; shorten [data] exclude")
    parts: dict[str, list[str]] = {}
    for path in found:
        if match := PARTS.match(path.stem):
            parts.setdefault(match[1].lower(), []).append(path.name)
    return {
        "format": settings.get("format") or "csv",
        "delimiter": settings.get("delimiter") or ",",
        "header": bool(settings.get("header", True)),
        "encoding": settings.get("encoding") or "utf-8",
        "decimal": settings.get("decimal") or ".",
        "dates": settings.get("dates") or "",
        "names": list(names),
        "features": features,
        "categories": [name for name in listed["categories"] if name in features],
        **roles,
        "missing": listed["missing"],
        "window": int(settings.get("window") or 30),
        "stride": int(settings.get("stride") or 1),
        "rul_cap": int(settings.get("rul_cap") or 125),
        "intervals": intervals,
        "parts": parts if len(parts) == 2 else {},
    }


def _names(path: Path, settings: Mapping[str, Any]) -> list[str]:
    if settings.get("format") == "parquet":
        import pyarrow.parquet as pq

        try:
            return [str(name) for name in pq.read_schema(path).names]
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path.name} is no Parquet file: {error}") from error
    try:
        with path.open(encoding=settings.get("encoding") or "utf-8", newline="") as stream:
            line = stream.readline()
    except (UnicodeError, LookupError) as error:
        raise DatasetError(f"{path.name} cannot be read: {error}; name its encoding in [data] encoding") from error
    if settings.get("format") == "whitespace":
        cells = line.split()
    else:
        cells = next(csv.reader([line.removeprefix("\ufeff")], delimiter=settings.get("delimiter") or ","), [])
    if not cells:
        raise DatasetError(f"{path.name} starts with an empty line, or is empty")
    return named(cells) if settings.get("header", True) else [f"c{n}" for n in range(len(cells))]


def _write_sample(path: Path, source: Path, table: Mapping[str, Any], modality: str) -> None:
    rows = itertools.islice(_rows(source, table), table["window"] if modality == "timeseries" else 1)
    places = [table["names"].index(name) for name in table["features"]]
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([table["features"], *([row[place] for place in places] for row in rows)])


def _rows(path: Path, table: Mapping[str, Any]) -> Iterator[list[str]]:
    """The first rows of a file as text. Raises DatasetError for one that has another number of cells."""
    if table["format"] == "parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(path).iter_batches(256):
            for row in batch.to_pylist():
                yield ["" if row[name] is None else str(row[name]) for name in table["names"]]
        return
    with path.open(encoding=table["encoding"], newline="") as stream:
        lines = (line.split() for line in stream) if table["format"] == "whitespace" else None
        read = lines or csv.reader(stream, delimiter=table["delimiter"])
        for number, row in enumerate(filter(None, read), 1):
            if number == 1 and table["header"]:
                continue
            if len(row) != len(table["names"]):
                raise DatasetError(f"{path.name}, line {number}: {len(row)} cells, not {len(table['names'])}")
            yield row


def _intervals(source: Path, settings: Mapping[str, Any]) -> list[list[str]]:
    """The time spans in the JSON file that `[data] intervals` names, beside the table."""
    name = settings.get("intervals")
    if not name:
        return []
    path = (source if source.is_dir() else source.parent) / str(name)
    try:
        spans = [[str(start), str(end)] for start, end in json.loads(path.read_text("utf-8"))]
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing; [data] intervals names it") from None
    except (OSError, ValueError, TypeError) as error:
        raise DatasetError(f"{path.name} is no JSON list of [start, end] pairs: {error}") from error
    return spans
