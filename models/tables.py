"""From cells of a table to the raw tensor: numbers, categories, missing values, windows of a series.

N rows   F columns   T steps of a window; values float32, NaN for what is missing, a category as its index
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.contract import Column, Contract

Floats = npt.NDArray[np.float32]
DELIMITERS = (",", ";", "\t", "|")
# Numbers with separators of thousands, all alike within one, by what stands before their decimals.
THOUSANDS = {
    ".": re.compile(r"[-+]?\d{1,3}([,'’ \u00a0\u202f])\d{3}(\1\d{3})*(\.\d*)?"),
    ",": re.compile(r"[-+]?\d{1,3}([.'’ \u00a0\u202f])\d{3}(\1\d{3})*(,\d*)?"),
}
DECIMALS = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")


class CorruptTable(Exception):
    """Cells that are not what their column holds; the message names column and row."""


def matrix(
    cells: Mapping[str, Sequence[Any]], columns: Sequence[Column], missing: Collection[str], decimal: str = "."
) -> Floats:
    """Cells by column name, as text, numbers or None, to float32 [N, F]; `decimal` stands before a text's decimals.

    Raises CorruptTable.
    """
    absent = [column.name for column in columns if column.name not in cells]
    if absent:
        raise CorruptTable(f"the column '{absent[0]}' is missing; there are {', '.join(map(str, cells)) or 'none'}")
    lengths = {len(cells[column.name]) for column in columns}
    if len(lengths) > 1:
        raise CorruptTable(f"columns have different lengths: {', '.join(map(str, sorted(lengths)))}")
    parts = [_values(cells[column.name], column, missing, decimal) for column in columns]
    return np.stack(parts, axis=1) if parts else np.zeros((0, 0), np.float32)


def numbers(cells: Sequence[Any], missing: Collection[str], name: str, decimal: str = ".") -> npt.NDArray[np.float64]:
    """Cells of one numeric column as float64 [N]. NaN for a missing one, and for what is no finite number in float32.

    Raises CorruptTable, with the row (from 1), for text.
    """
    texts = np.array(["" if cell is None else str(cell) for cell in cells], dtype=np.str_)
    texts = np.char.strip(texts) if len(texts) else texts
    blank = np.isin(texts, [*missing, ""])
    texts = np.where(blank, "nan", texts)
    try:
        values = (texts if decimal == "." else _plain(texts, decimal)).astype(np.float64)
    except ValueError:
        values = _unseparated(texts, name, decimal)
    with np.errstate(over="ignore"):
        return np.where(np.isfinite(values.astype(np.float32)), values, np.nan)


def plain(text: str, decimal: str) -> str:
    """A number's text with a point before its decimals and nothing between thousands; any other text as it is.

    `decimal`, a point or a comma, is what stands before the decimals in `text`.
    """
    if found := THOUSANDS[decimal].fullmatch(text):
        text = text.replace(found[1], "")
    return text.replace(",", ".") if decimal == "," and DECIMALS.fullmatch(text) else text


def _plain(texts: npt.NDArray[np.str_], decimal: str) -> npt.NDArray[np.str_]:
    return np.array([plain(text, decimal) for text in texts.tolist()], dtype=np.str_)


def _unseparated(texts: npt.NDArray[np.str_], name: str, decimal: str) -> npt.NDArray[np.float64]:
    """Numbers of which some have separators of thousands. Raises CorruptTable for what is no number even so."""
    rewritten = _plain(texts, decimal)
    try:
        return rewritten.astype(np.float64)
    except ValueError:
        row = next(row for row, text in enumerate(rewritten) if not is_number(text))
        raise CorruptTable(f"column '{name}', row {row + 1}: '{texts[row]}' is no number") from None


def is_number(text: str) -> bool:
    """Whether a text reads as a number, infinite or not."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def category(cell: Any, missing: Collection[str]) -> str | None:
    """The name of a category; None when it is missing. 1 and 1.0, as JSON writes them, are both `1`."""
    if cell is None or cell != cell:
        return None
    text = f"{cell:.17g}" if isinstance(cell, float) else str(cell).strip()
    return None if not text or text in missing else text


def _values(cells: Sequence[Any], column: Column, missing: Collection[str], decimal: str) -> Floats:
    if column.values is None:
        with np.errstate(over="ignore"):
            return numbers(cells, missing, column.name, decimal).astype(np.float32)
    places = {value: float(place) for place, value in enumerate(column.values)}
    found = [places.get(category(cell, missing) or "", np.nan) for cell in cells]
    return np.array(found, np.float32)


def windows(series: Floats, steps: int, stride: int) -> Floats:
    """Windows [N, T, F] of a series [L, F] in time's order, the last one ending with its last step.

    A series shorter than a window is one window, its lacking first steps missing.
    """
    if len(series) < steps:
        lacking = np.full((steps - len(series), *series.shape[1:]), np.nan, np.float32)
        return np.concatenate([lacking, series.astype(np.float32)])[None]
    every = np.lib.stride_tricks.sliding_window_view(series, steps, axis=0)  # [L - T + 1, F, T]
    first = (len(series) - steps) % stride
    return np.ascontiguousarray(every[first::stride].transpose(0, 2, 1), np.float32)


def read(data: bytes, contract: Contract, most: int | None = None) -> Floats:
    """A text with one row per line as the contract's raw tensors: [N, F] of a table, windows [N, T, F] of a series.

    A header names the columns in any order; without one there are exactly the contract's, in its order. Of a series
    with units, each unit gives its own windows. Raises CorruptTable, also for more than `most` samples.
    """
    return samples(parse(data, [column.name for column in contract.columns], contract.decimal), contract, most)


def samples(cells: Mapping[str, Sequence[Any]], contract: Contract, most: int | None = None) -> Floats:
    """Cells by column, rows in order, as raw tensors like `read`. Raises CorruptTable."""
    values = matrix(cells, contract.columns, contract.missing, contract.decimal)
    if contract.modality == "tabular":
        _at_most(len(values), most)
        return values
    steps, stride = contract.shape[0], contract.stride
    units = list(_units(cells, contract.group))
    # Windows overlap: they may be thousands of times what their rows are, so they are counted before they are made.
    _at_most(sum(max(0, len(rows) - steps) // stride + 1 for rows in units), most)
    return np.concatenate([windows(values[rows], steps, stride) for rows in units])


def _at_most(count: int, most: int | None) -> None:
    if most is not None and count > most:
        raise CorruptTable(f"gives {count} samples; at most {most} are taken at once")


def _units(cells: Mapping[str, Sequence[Any]], group: str) -> Iterator[list[int]]:
    """The rows of each unit, units in order of appearance."""
    if group not in cells:
        yield list(range(len(next(iter(cells.values())))))
        return
    rows: dict[Any, list[int]] = {}
    for row, unit in enumerate(cells[group]):
        rows.setdefault(unit, []).append(row)
    yield from rows.values()


def parse(data: bytes, names: Sequence[str], decimal: str = ".") -> dict[str, list[str]]:
    """Cells by column of a text with `,`, `;`, tab or `|` between them. Raises CorruptTable, with the line.

    Where a comma is `decimal`, it stands between cells only when nothing else does.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptTable(f"is not UTF-8 text: {error.reason} at byte {error.start}") from error
    head = text.partition("\n")[0]
    others = [mark for mark in DELIMITERS if mark != decimal and mark in head]
    delimiter = max(others or DELIMITERS, key=head.count)
    try:
        lines = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        raise CorruptTable(f"cannot be read as a table: {error}") from error
    if not lines:
        raise CorruptTable("is empty")
    header = [cell.strip() for cell in lines[0]]
    if set(names) & set(header):
        lines = lines[1:]
    elif len(header) == len(names):
        header = list(names)
    else:
        raise CorruptTable(f"has {len(header)} columns and no header; {len(names)} are expected: {', '.join(names)}")
    if not lines:
        raise CorruptTable("has a header and no row")
    for number, row in enumerate(lines, 1):
        if len(row) != len(header):
            raise CorruptTable(f"row {number} has {len(row)} cells, the table has {len(header)} columns")
    return {name: [row[place] for row in lines] for place, name in enumerate(header)}
