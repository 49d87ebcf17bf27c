"""How a file of rows is written: what stands between cells, whether a header names the columns."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models import moments, tablefiles, tables
from models.adapt import encoding
from models.adapt.problem import AdaptError

DELIMITERS = ("\t", ",", ";", "|")
HEAD_LINES = 300
# A separator that splits this share of lines alike is the one.
ALIKE = 0.7
NO_VALUE = frozenset({"", "?", "NA", "N/A", "n/a", "na", "nan", "NaN", "NAN", "null", "NULL", "#N/A", "<NA>"})


@dataclass(frozen=True, kw_only=True)
class Form:
    """`format` is csv, whitespace or parquet; `names` are all columns, c0, c1, … without a header."""

    format: str
    names: tuple[str, ...]
    delimiter: str = ","
    header: bool = True
    encoding: str = "utf-8"


def detect(path: Path) -> Form:
    """The form of one file. Raises AdaptError."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start == b"PAR1" or path.suffix.lower() == ".parquet":
        return _parquet(path)
    written = encoding.of(path)
    with path.open(encoding=written, newline="") as stream:
        lines = [line[: 1 << 20] for line in itertools.islice(stream, HEAD_LINES)]
    if not lines[0].strip():
        raise AdaptError(f"{path}, line 1 is empty", "let the file start with its header or its first row")
    kind, delimiter = _separator([line for line in lines if line.strip()])
    rows = list(split(lines, kind, delimiter))
    _refuse_titles(path, lines, kind, delimiter)
    header = _has_header(rows)
    names = tuple(tablefiles.named(rows[0]) if header else (f"c{place}" for place in range(len(rows[0]))))
    _refuse_twins(path, names)
    if len(rows) - header < 1 and len(lines) < HEAD_LINES:
        raise AdaptError(f"{path} has a header and no row", "give a file with rows, or leave it out")
    if written == "utf-8-sig" and header:
        written = "utf-8"  # the mark goes with the header
    return Form(format=kind, names=names, delimiter=delimiter, header=header, encoding=written)


def split(lines: Iterable[str], kind: str, delimiter: str) -> Iterator[list[str]]:
    """Rows of cells; empty lines are none."""
    if kind == "whitespace":
        return (line.split() for line in lines if line.strip())
    return (row for row in csv.reader(lines, delimiter=delimiter) if row)


def _separator(lines: Sequence[str]) -> tuple[str, str]:
    best: tuple[float, int, str] | None = None
    for delimiter in DELIMITERS:
        try:
            widths = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter) if row)
        except csv.Error:
            continue
        width, count = widths.most_common(1)[0]
        share = count / widths.total()
        if width > 1 and (best is None or (share, width) > best[:2]):
            best = (share, width, delimiter)
    if best and best[0] >= ALIKE and not (best[2] == "," and _in_numbers(lines)):
        return "csv", best[2]
    if ";" in lines[-1] and _in_numbers(lines):
        return "csv", ";"
    widths = Counter(len(line.split()) for line in lines)
    width, count = widths.most_common(1)[0]
    if width > 1 and count / widths.total() >= ALIKE:
        return "whitespace", ","
    # Rows of many lengths are told as ragged by who reads them.
    return "csv", best[2] if best else ","


def _in_numbers(lines: Sequence[str]) -> bool:
    """Whether commas stand before the decimals of numbers, with `;` or spaces between those, and nowhere else."""
    cells = [cell.strip() for line in lines for cell in re.split(r"[;\s]+", line.strip()) if "," in cell]
    return bool(cells) and sum(bool(tables.DECIMALS.fullmatch(cell)) for cell in cells) >= ALIKE * len(cells)


def _refuse_titles(path: Path, lines: Sequence[str], kind: str, delimiter: str) -> None:
    """Raises AdaptError for what stands above rows that are all alike: a title, or a header that is a name short."""
    widths = [(number, len(row)) for number, line in enumerate(lines, 1) for row in split([line], kind, delimiter)]
    width, count = Counter(width for _, width in widths).most_common(1)[0]
    start = next(number for number, found in widths if found >= width)
    above = [found for number, found in widths if number < start]
    if not above or count < ALIKE * len(widths) or above[0] >= width:
        return
    if above == [width - 1] and not any(map(_is_value, next(split(lines, kind, delimiter)))):
        raise AdaptError(
            f"{path}, line 1 has {width - 1} names, the rows have {width} cells",
            "name the first column too, as of row names; or each row has a separator too many at its end",
        )
    if width > 1:
        raise AdaptError(
            f"{path}, line {widths[0][0]} is no row of the table, which starts in line {start}",
            f"take the lines above line {start} out of the file",
        )


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: no number or date in it, and other cells than below it."""
    first = [cell.strip() for cell in rows[0]]
    if any(_is_value(cell) for cell in first):
        return False
    below = [row for row in rows[1:] if len(row) == len(first)]
    if not below:
        return True
    columns = [[row[place].strip() for row in below] for place in range(len(first))]
    if any(sum(map(_is_value, cells)) > len(cells) / 2 for cells in columns):
        return True
    repeated = sum(name in cells for name, cells in zip(first, columns, strict=True))
    return repeated == 0 and len(set(first)) == len(first)


def _is_value(cell: str) -> bool:
    if cell in NO_VALUE:
        return False
    numeric = any(tables.is_number(tables.plain(cell, mark)) for mark in (".", ","))
    return numeric or moments.moment(cell) is not None or moments.is_written(cell)


def _refuse_twins(path: Path, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            places = [place for place, other in enumerate(names, 1) if other == name]
            raise AdaptError(
                f"{path}: columns {places[0]} and {places[1]} are both called '{name}'",
                "give each column a name of its own in line 1",
            )


def _parquet(path: Path) -> Form:
    import pyarrow.parquet as pq
    import pyarrow.types as types

    try:
        schema = pq.read_schema(path)
    except (OSError, ValueError) as error:
        what = "is empty" if path.stat().st_size == 0 else f"is no whole Parquet file ({str(error).splitlines()[0]})"
        raise AdaptError(f"{path} {what}", "copy or write it again") from None
    for field in schema:
        if types.is_nested(field.type):
            raise AdaptError(
                f"{path}, column '{field.name}' holds {field.type}, not single values",
                "write one column per value, or leave the column out",
            )
    _refuse_twins(path, schema.names)
    return Form(format="parquet", names=tuple(map(str, schema.names)))
