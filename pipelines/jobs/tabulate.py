"""Files of a table to rows with numbers and categories, as a Spark transformation.

    examined  one row per row of the files: its numbers, categories, label, unit and time, or `why` it has none

Text is cut into lines by Spark and into cells by Python's csv, as models.tables does for endpoint and device; numbers
and categories come from models.tables itself.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from models import moments, tables
from models.contract import ANOMALY, Column
from pipelines.jobs.lake import Lake
from pipelines.jobs.manifest import Head, ManifestError, Table

# `source` is file:row, rows counted from 1 without the header; in a later block of a large file, file@byte:row.
ROW = (
    "file string, block long, row long, source string, part string, unit string, time double, label string, "
    "value double, content string, numbers binary, words array<string>, why string"
)
SCHEMA = pa.schema(
    [
        ("file", pa.string()), ("block", pa.int64()), ("row", pa.int64()), ("source", pa.string()),
        ("part", pa.string()), ("unit", pa.string()), ("time", pa.float64()), ("label", pa.string()),
        ("value", pa.float64()), ("content", pa.string()), ("numbers", pa.binary()),
        ("words", pa.list_(pa.string())), ("why", pa.string()),
    ]
)  # fmt: skip
BATCH = 2048
NORMAL = frozenset({"", "0", "0.0", "false", "normal", "no"})
TEXTUAL = ("date", "timestamp", "timestamp_ntz")
Cells = dict[str, list[Any]]
Record = tuple[Sequence[Any], str | None]


def examined(spark: SparkSession, lake: Lake, key: str, head: Head) -> DataFrame:
    """ROW of every row in the files that the manifest lists. Raises ManifestError for a file that is not as listed."""
    table = head.table
    assert table is not None
    folder = key.rpartition("/")[0] + "/"
    _present(spark, lake, folder, table.sizes)
    reader = spark.read.option("recursiveFileLookup", "true")
    if table.format == "parquet":
        frame = reader.parquet(lake.uri(folder))
        columns = [_native(frame, name) for name in table.names]
    else:
        frame, columns = reader.text(lake.uri(folder)), [F.col("value").cast("binary").alias("value")]
    lines = frame.select("_metadata.file_path", "_metadata.file_block_start", *columns)
    return lines.mapInArrow(partial(examine, table=table, task=head.task, folder=folder), ROW)


def _present(spark: SparkSession, lake: Lake, folder: str, sizes: Mapping[str, int]) -> None:
    """Raises ManifestError for a file that is missing or has another size; their contents stay where they are."""
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(lake.uri(folder))
    there = {row["path"].rpartition(f"/{folder}")[2]: row["length"] for row in files.select("path", "length").collect()}
    for name, size in sizes.items():
        if there.get(name) != size:
            found = f"has {there[name]} bytes, not the {size}" if name in there else "is missing, though it is one"
            raise ManifestError(f"{lake.uri(folder + name)} {found} that the manifest lists; bring the data set again")


def _native(frame: DataFrame, name: str) -> Any:
    """A column of a Parquet file as models.tables takes it: number, text or null."""
    quoted = "`" + name.replace("`", "``") + "`"
    if name not in frame.columns:
        raise ManifestError(f"the Parquet files have no column '{name}'; there are {', '.join(frame.columns)}")
    kind = dict(frame.dtypes)[name]
    column = F.col(quoted)
    return column.cast("string") if kind in TEXTUAL else column.cast("double") if kind[:7] == "decimal" else column


def examine(batches: Iterable[pa.RecordBatch], table: Table, task: str, folder: str) -> Iterator[pa.RecordBatch]:
    """Batches of path, block and line (or the cells of a Parquet row) to batches of ROW."""
    flat = (row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))
    spans = [(moment(start, table.dates), moment(end, table.dates)) for start, end in table.intervals]
    for (path, block), rows in itertools.groupby(flat, key=itemgetter(0, 1)):
        file = urllib.parse.unquote(path).rpartition(f"/{folder}")[2]
        if file not in table.sizes:
            continue
        cells = (row[2:] for row in rows)
        parquet = table.format == "parquet"
        found = ((cell, None) for cell in cells) if parquet else records((cell[0] for cell in cells), table)
        if table.header and not parquet and block == 0:
            found = itertools.islice(found, 1, None)
        numbered = enumerate(found, 1)
        while some := list(itertools.islice(numbered, BATCH)):
            yield _batch(some, file, block, table, task, spans)


def records(lines: Iterable[bytes], table: Table) -> Iterator[Record]:
    """Cells of each record, or why it has none. A quote that nobody closes costs its own line, not all that follow."""
    taken: list[str] = []

    def texts() -> Iterator[str]:
        for line in lines:
            text = line.decode(table.encoding, "surrogateescape").removeprefix("\ufeff")
            if text.strip():
                taken.append(text)
                yield text + "\n"

    rows = csv.reader(texts(), delimiter=table.delimiter or ",")
    split: Iterator[Any] = (text.split() for text in texts()) if table.format == "whitespace" else _patient(rows)
    for cells in split:
        if isinstance(cells, str) or (len(cells) != len(table.names) and len(taken) > 1):
            for text in taken:
                yield _checked(next(_patient(csv.reader([text], delimiter=table.delimiter)), []), text, table)
        else:
            yield _checked(cells, "".join(taken), table)
        taken.clear()


def _patient(rows: Iterator[list[str]]) -> Iterator[list[str] | str]:
    """Rows of a csv reader, or what it says of one that it cannot read."""
    while True:
        try:
            yield next(rows)
        except csv.Error as error:
            yield str(error)
        except StopIteration:
            return


def _checked(cells: Sequence[str] | str, text: str, table: Table) -> Record:
    if not text.isascii() and _broken(text):
        return [], f"is not {table.encoding} text; name its encoding in [data] encoding"
    if isinstance(cells, str):
        return [], f"cannot be read: {cells}"
    if len(cells) != len(table.names):
        return [], f"has {len(cells)} cells, the table has {len(table.names)} columns"
    return cells, None


def _broken(text: str) -> bool:
    """Whether it holds what surrogateescape makes of bytes that the encoding does not have."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def moment(cell: Any, pattern: str = "") -> float:
    """A time as a number: the number itself, or the seconds of a date (see models.moments). Raises ValueError."""
    if isinstance(cell, (int, float)):
        return float(cell)
    text = str(cell or "").strip()
    if tables.is_number(text):
        return float(text)
    found = moments.moment(text, pattern)
    if found is None:
        raise ValueError(f"'{text}' is no number and no date like {pattern or '2026-01-31 23:59:59'}")
    return found


def _batch(
    some: Sequence[tuple[int, Record]],
    file: str,
    block: int,
    table: Table,
    task: str,
    spans: Sequence[tuple[float, float]],
) -> pa.RecordBatch:
    """ROW of numbered records of one block of a file."""
    why = [record[1] for _, record in some]
    blank = [None] * len(table.names)
    columns = list(zip(*(record[0] if record[1] is None else blank for _, record in some), strict=True))
    cells: Cells = {name: list(column) for name, column in zip(table.names, columns, strict=True)}
    part = next((part for part, names in table.parts.items() if file in names), "train") if table.parts else ""
    times = _each(cells[table.time], partial(_time, table), why) if table.time else [None] * len(some)
    units = _each(cells[table.group], partial(_unit, table, part), why) if table.group else [""] * len(some)
    features = [Column(name=name, values=() if name in table.categories else None) for name in table.features]
    numbers = _sifted(cells, features, table, why)
    words = [[tables.category(cell, table.missing) for cell in cells[name]] for name in table.categories]
    by_row: list[list[str | None]] = [list(row) for row in zip(*words, strict=True)] if words else [[] for _ in some]
    labels, values = _answers(cells, times, table, task, spans, why)
    binary = [row.tobytes() for row in numbers]
    content = [_digest(row, text) for row, text in zip(binary, by_row, strict=True)]
    rows = [number for number, _ in some]
    where = f"{file}@{block}" if block else file
    return pa.RecordBatch.from_arrays(
        [
            pa.array(values, SCHEMA.field(at).type)
            for at, values in enumerate(
                [
                    [file] * len(rows), [block] * len(rows), rows, [f"{where}:{row}" for row in rows],
                    [part] * len(rows), units, times, labels, values, content, binary, by_row, why,
                ]
            )
        ],
        schema=SCHEMA,
    )  # fmt: skip


def _digest(numbers: bytes, words: Sequence[str | None]) -> str:
    return hashlib.sha256(numbers + json.dumps(words).encode()).hexdigest()[:32]


def _each(cells: Sequence[Any], read: Callable[[Any], Any], why: list[str | None]) -> list[Any]:
    """`read` of each cell; what it refuses becomes the row's `why`, the first one stays."""
    found: list[Any] = []
    for row, cell in enumerate(cells):
        try:
            found.append(None if why[row] else read(cell))
        except ValueError as error:
            found.append(None)
            why[row] = str(error)
    return found


def _time(table: Table, cell: Any) -> float:
    try:
        return moment(cell, table.dates)
    except ValueError as error:
        raise ValueError(f"column '{table.time}': {error}") from None


def _unit(table: Table, part: str, cell: Any) -> str:
    found = tables.category(cell, table.missing)
    if found is None:
        raise ValueError(f"column '{table.group}' is empty: to which unit does the row belong?")
    return f"{part}/{found}" if part else found


def _sifted(
    cells: Cells, columns: Sequence[Column], table: Table, why: list[str | None], start: int = 0
) -> tables.Floats:
    """models.tables.matrix of all rows; one with text in a numeric column gets its `why`, and NaN for values."""
    count = len(cells[columns[0].name])
    try:
        return tables.matrix(cells, columns, table.missing, table.decimal)
    except tables.CorruptTable as error:
        if count == 1:
            why[start] = why[start] or str(error).replace(", row 1:", ":")
            return np.full((1, len(columns)), np.nan, np.float32)
    half = count // 2
    first = {column.name: cells[column.name][:half] for column in columns}
    second = {column.name: cells[column.name][half:] for column in columns}
    return np.concatenate(
        [_sifted(first, columns, table, why, start), _sifted(second, columns, table, why, start + half)]
    )


def _answers(
    cells: Cells,
    times: Sequence[float | None],
    table: Table,
    task: str,
    spans: Sequence[tuple[float, float]],
    why: list[str | None],
) -> tuple[list[str | None], list[float | None]]:
    """Each row's class, and its number; None for what it has not."""
    nothing: list[Any] = [None] * len(times)
    if task == "classification":
        return [tables.category(cell, table.missing) for cell in cells[table.target]], nothing
    if task == "regression":
        found = _each(cells[table.target], partial(_number, table), why)
        return nothing, [None if value is None or not np.isfinite(value) else value for value in found]
    if task == "rul":
        return nothing, nothing
    given = cells[table.target] if table.target else nothing
    flags = [(tables.category(cell, table.missing) or "").lower() not in NORMAL for cell in given]
    inside = [time is not None and any(start <= time <= end for start, end in spans) for time in times]
    return [ANOMALY[flag or within] for flag, within in zip(flags, inside, strict=True)], nothing


def _number(table: Table, cell: Any) -> float:
    try:
        return float(tables.numbers([cell], table.missing, table.target, table.decimal)[0])
    except tables.CorruptTable as error:
        raise ValueError(str(error).replace(", row 1:", ":")) from None
