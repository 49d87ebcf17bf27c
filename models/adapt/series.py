"""What is particular to series: labelled time spans, units and their lengths, windows, remaining life."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import tables
from models.adapt import guess
from models.adapt.columns import NUMBER, Column
from models.adapt.finding import NOTE, Finding
from models.adapt.problem import AdaptError
from models.adapt.report import Options
from models.adapt.sample import Sample
from models.moments import moment

Floats = npt.NDArray[np.float64]
Span = tuple[float, float]
WINDOW = 64
RUL_WINDOW = 30
RUL_CAP = 125
MOST_WINDOWS = 20_000
POINTS = 1200
# So many units start at the same time when time counts from their start.
ALIKE = 0.8


def spans(documents: Sequence[Path], options: Options) -> tuple[list[Span], str]:
    """The labelled time spans of the one JSON file that holds a list of [start, end], and its name."""
    if options.task not in ("", "anomaly") or options.target:
        return [], ""
    for path in documents:
        try:
            rows = json.loads(path.read_text("utf-8-sig"))
        except (ValueError, UnicodeError) as error:
            raise AdaptError(f"{path} is no JSON: {error}", "mend it, or move it out of the folder") from None
        if isinstance(rows, list) and rows and all(isinstance(row, list) and len(row) == 2 for row in rows):
            return [_span(path, place, row) for place, row in enumerate(rows, 1)], path.name
    return [], ""


def _span(path: Path, place: int, row: Sequence[Any]) -> Span:
    ends = [float(str(end)) if tables.is_number(str(end)) else moment(str(end)) for end in row]
    for end, value in zip(row, ends, strict=True):
        if value is None:
            raise AdaptError(f"{path}, entry {place}: the date '{end}' does not parse", "write 2014-02-07 14:55:00")
    start, end = ends
    assert start is not None and end is not None
    if end < start:
        raise AdaptError(f"{path}, entry {place} ends before it starts: {row[0]} to {row[1]}", "swap the two")
    return start, end


def labels(columns: Mapping[str, Column], target: str, time: str, found: Sequence[Span]) -> Floats:
    """1.0 for each row that is anomalous, else 0.0. Raises AdaptError when spans lie outside the series."""
    if target:
        return guess.anomalous(columns[target]).astype(np.float64)
    when = columns[time].values
    inside = np.zeros(len(when), bool)
    for start, end in found:
        inside |= (when >= start) & (when <= end)
    if found and not inside.any():
        raise AdaptError(
            f"no row of column '{time}' lies in any of the {len(found)} labelled time spans",
            "write the spans in the time of the table, or name its time column with --time",
        )
    return inside.astype(np.float64)


def lengths(columns: Mapping[str, Column], group: str, sample: Sample) -> list[int]:
    """Rows per unit, of units that the sample holds whole; all rows for one series."""
    if not group or not columns[group].distinct:
        return [len(sample)]
    units = columns[group].values if sample.whole else columns[group].values[: sample.head]
    _, counts = np.unique(units[~np.isnan(units)], return_counts=True)
    return [int(count) for count in (counts if sample.whole or len(counts) < 2 else counts[:-1])]


def run_to_failure(columns: Mapping[str, Column], group: str, time: str, sample: Sample) -> bool:
    """Whether units look as if they ran until they failed: their times start alike, as cycles do, and end apart."""
    if not (group and time) or columns[time].kind != NUMBER:
        return False
    rows = slice(None) if sample.whole else slice(sample.head)
    units, when = columns[group].values[rows], columns[time].values[rows]
    there = ~(np.isnan(units) | np.isnan(when))
    _, places = np.unique(units[there], return_inverse=True)
    count = int(places.max()) + 1 if len(places) else 0
    first, last = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(first, places.reshape(-1), when[there])
    np.maximum.at(last, places.reshape(-1), when[there])
    return count > 1 and float((first == np.median(first)).mean()) >= ALIKE and len(np.unique(last)) > 1


def remaining(columns: Mapping[str, Column], group: str, time: str, sample: Sample) -> Floats:
    """Rows until the end of each row's unit; NaN for a unit that the sample may hold in part."""
    units, when = columns[group].values, columns[time].values
    found = np.full(len(units), np.nan)
    rows = np.arange(len(units) if sample.whole else sample.head)
    order = rows[np.lexsort((when[rows], units[rows]))]
    ends = np.flatnonzero(np.diff(units[order], append=np.nan) != 0)
    last = ends[np.searchsorted(ends, np.arange(len(order)))]
    found[order] = last - np.arange(len(order))
    if not sample.whole:
        found[units == units[rows[-1]]] = np.nan
    return found


def windows(task: str, rows: int, units: Sequence[int], found: Sequence[Span], time: Column) -> dict[str, int]:
    """`window`, `stride` and `rul_cap`: rows per window as the shortest unit, or the labelled spans, allow."""
    shortest = min(units) if len(units) > 1 else max(2, rows // 20)
    if task == "rul":
        return {"window": max(2, min(RUL_WINDOW, shortest)), "stride": _stride(rows, RUL_WINDOW), "rul_cap": RUL_CAP}
    window = WINDOW
    if found:
        step = float(np.median(np.diff(np.sort(time.values[time.present])))) or 1.0
        long = float(np.median([end - start for start, end in found])) / step
        window = int(np.clip(round(long / 8 / 8) * 8, 16, 96))
    window = max(2, min(window, shortest))
    return {"window": window, "stride": _stride(rows, window)}


def _stride(rows: int, window: int) -> int:
    return max(1, min(window // 2, rows // MOST_WINDOWS))


def balance(counts: Mapping[str, int], found: Sequence[Span]) -> Iterator[Finding]:
    """Whether there are anomalies to measure against."""
    bad, total = counts.get("anomaly", 0), sum(counts.values())
    if not bad:
        said = "no anomaly is labelled: a model can be learned, but not measured; bring a few labelled spans"
        yield Finding("no labels", "anomaly", said)
        return
    where = f"in {len(found)} spans" if found else "by the target"
    yield Finding("imbalance", "anomaly", f"{bad} of {total} rows ({bad / total:.1%}) are anomalous, {where}; "
                  "what is normal is learned, and they are kept to measure", NOTE)  # fmt: skip


def drawing(
    columns: Mapping[str, Column], inputs: Sequence[str], time: str, found: Sequence[Span], modality: str
) -> dict[str, Any]:
    """What the data card draws of a series: up to three columns, thinned, and the spans, over time from 0 to 1."""
    if modality != "timeseries" or not time:
        return {}
    when = columns[time].values
    order = np.argsort(when, kind="stable")
    order = order[~np.isnan(when[order])]
    low, high = float(when[order[0]]), float(when[order[-1]])
    scale = (high - low) or 1.0
    shown = [name for name in inputs if columns[name].kind == NUMBER][:3]
    lines = {
        name: [[(when[row] - low) / scale, columns[name].values[row]] for row in _thinned(columns[name], order)]
        for name in shown
    }
    return {"lines": lines, "spans": [[(start - low) / scale, (end - low) / scale] for start, end in found]}


def _thinned(column: Column, order: npt.NDArray[np.intp]) -> Iterator[int]:
    """Of many rows the lowest and the highest of each stretch, so that no spike is lost."""
    rows = order[column.present[order]]
    for part in np.array_split(rows, min(len(rows), POINTS // 2) or 1):
        if len(part):
            values = column.values[part]
            ends = {int(values.argmin()), int(values.argmax())}
            yield from (int(part[place]) for place in sorted(ends))


def repeated(columns: Mapping[str, Column], group: str, time: str) -> Iterator[Finding]:
    """Rows of one unit that stand at the same time."""
    when = columns[time].values
    who = columns[group].values if group else np.zeros(len(when))
    there = ~np.isnan(when)
    pairs = np.unique(np.stack([who[there], when[there]]), axis=1).shape[1]
    if extra := int(there.sum()) - pairs:
        yield Finding(
            "repeated times", time, f"{extra} rows stand at the time of another one, as when clocks go back", NOTE
        )
