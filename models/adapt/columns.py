"""What each column holds: numbers, dates, categories or free text, its marks for a missing value, its unit.

N rows of the sample   values float64 [N]: numbers, seconds since 1970 or places in the vocabulary, NaN for missing
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models import moments, tables
from models.adapt.form import NO_VALUE
from models.adapt.problem import AdaptError, nearest, shown, some
from models.adapt.sample import Sample

Floats = npt.NDArray[np.float64]
NUMBER, DATE, CATEGORY, TEXT, EMPTY = "number", "date", "category", "text", "empty"
# These stand for a missing value in a column of numbers or dates; in one of words they may be a word.
WEAK_MARKS = frozenset({"-", "--", "---", ".", "*", "none", "None", "NONE", "missing", "unknown", "n.a.", "nil", "#NV"})
SENTINELS = (-99.0, -200.0, -999.0, -9999.0, -99999.0)
MOST_CATEGORIES = 1000
MOSTLY = 0.8
DATE_LIKE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d{1,2}:\d{2}.*)?")
DAY = re.compile(r"(19|20)\d{6}")
AMOUNT = re.compile(r"[-+]?\d[\d.,']*")
SIGNED = "numbers with a sign or a unit in each cell"
# So many different dates are looked at to find the pattern that they follow.
DATES = 500
TIME_WORDS = frozenset({"time", "timestamp", "date", "datetime", "ts"})
UNIT_WORDS = (
    " C F K degC celsius fahrenheit kelvin rpm mm cm m km um s ms min h Hz kHz MHz V mV kV A mA W kW MW kWh Pa kPa "
    "MPa bar mbar psi pct percent kg g mg t N kN Nm l ml ppm ppb dB usd eur deg rad mps kmh "
)
BRACKETED = re.compile(r"[\[(]\s*([^\])]{1,12})\s*[\])]\s*$")


@dataclass
class Column:
    """One column of the sample. `values` is [N]; `vocabulary` holds the words of a category or text, sorted.

    `pattern` is the form of dates that are not in ISO 8601.
    """

    name: str
    kind: str
    values: Floats
    vocabulary: tuple[str, ...] = ()
    integer: bool = False
    marks: set[str] = field(default_factory=set)
    unit: str = ""
    note: str = ""
    pattern: str = ""

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.values)

    @cached_property
    def distinct(self) -> int:
        return len(np.unique(self.values[self.present]))

    def words(self) -> list[str]:
        """Each row's value as a class name would be written, "" for missing."""
        if self.vocabulary:
            return ["" if value != value else self.vocabulary[int(value)] for value in self.values]
        return ["" if value != value else f"{value:.10g}" for value in self.values]


def measure(sample: Sample, marks: Collection[str] = ()) -> dict[str, Column]:
    """All columns of a sample; `marks` stand for missing too. Raises AdaptError for text among numbers and the like."""
    sample.cells = {name: _plain(cells, sample.decimal) for name, cells in sample.cells.items()}
    return {name: _column(name, cells, sample, frozenset(marks)) for name, cells in sample.cells.items()}


def _plain(cells: list[str], decimal: str) -> list[str]:
    """The cells of a column of numbers with a point before decimals and nothing between thousands; else as they are."""
    rewritten = {text: tables.plain(text, decimal) for text in set(cells)}
    changed = {text for text, found in rewritten.items() if text != found}
    numeric = sum(tables.is_number(found) for found in rewritten.values())
    return [rewritten[text] for text in cells] if changed and numeric >= MOSTLY * len(set(cells) - NO_VALUE) else cells


def _column(name: str, cells: Sequence[str], sample: Sample, marks: frozenset[str]) -> Column:
    counts = Counter(cells)
    empty = {text for text in counts if text in NO_VALUE or text in marks}
    texts = {text: count for text, count in counts.items() if text not in empty}
    numeric = {text for text in texts if tables.is_number(text)}
    others = {text: count for text, count in texts.items() if text not in numeric}
    many, few = sum(texts[text] for text in numeric), sum(others.values())
    if not texts:
        return Column(name, EMPTY, np.full(len(cells), np.nan), marks=empty - {""})
    if numeric and not others and all(DAY.fullmatch(text) and moments.moment(text) is not None for text in numeric):
        values = np.array([moments.moment(text) if text in numeric else np.nan for text in cells], np.float64)
        return Column(name, DATE, values, marks=empty - {""})
    if many and many >= MOSTLY * (many + few) and not _are_codes(numeric, others, many):
        extra, note = _marks_among(name, "number", others, many, cells, sample) if others else (set(), "")
        return _numbers(name, cells, empty | extra, note)
    pattern = _pattern(others)
    dates = {text: found for text in others if (found := moments.moment(text, pattern)) is not None}
    dated = sum(others[text] for text in dates)
    if dated and dated >= MOSTLY * (many + few):
        rest = {text: count for text, count in texts.items() if text not in dates}
        extra, note = _marks_among(name, "date", rest, dated, cells, sample) if rest else (set(), "")
        values = np.array([dates.get(text, np.nan) for text in cells])
        return Column(name, DATE, values, marks=(empty | extra) - {""}, note=note, pattern=pattern)
    return _words(name, cells, texts, empty)


def _pattern(texts: Collection[str]) -> str:
    """The pattern of most dates; of patterns that fit alike, the one by which dates grow, else day before month."""
    some_ = list(texts)[:DATES]
    if not any(map(moments.is_written, some_[:5])):
        return ""
    found = [(pattern, share) for pattern, share in moments.patterns(some_) if share >= MOSTLY]
    alike = [pattern for pattern, share in found if share == found[0][1]]
    return max(alike, key=lambda pattern: _growing(some_, pattern), default="")


def _growing(texts: Sequence[str], pattern: str) -> float:
    """The share of steps that do not fall, of texts in the order of their rows."""
    values = [value for text in texts if (value := moments.moment(text, pattern)) is not None]
    steps = np.diff(values)
    return float((steps >= 0).mean()) if len(steps) else 0.0


def _are_codes(numeric: Collection[str], others: Mapping[str, int], many: int) -> bool:
    """Codes such as 250.01 and V57: several words among them, each often, and few numbers, each often."""
    words = len(others)
    return words >= 5 and sum(others.values()) >= 3 * words and many >= 5 * len(numeric)


def _marks_among(
    name: str, kind: str, others: Mapping[str, int], many: int, cells: Sequence[str], sample: Sample
) -> tuple[set[str], str]:
    """Which of the texts among numbers or dates stand for a missing value, and a note. Raises AdaptError."""
    rest = {text: count for text, count in others.items() if text not in WEAK_MARKS}
    if not rest:
        return set(others), ""
    text, count = next(iter(rest.items()))
    if len(rest) == 1 and count >= 3 and many >= 20 and not DATE_LIKE.fullmatch(text):
        return set(others), f"'{text}' stands in {count} cells among {kind}s: taken for a missing value"
    where = sample.where(cells.index(text))
    what = f"'{shown(text)}' is no {kind}" if kind == "number" else f"the date '{shown(text)}' does not parse"
    more = f" (and {sum(rest.values()) - 1} more such cells)" if sum(rest.values()) > 1 else ""
    wanted = "a number" if kind == "number" else "a date such as 2014-02-07 14:55:00"
    raise AdaptError(
        f"{where}, column '{name}': {what}; the other cells are {kind}s{more}",
        f"write {wanted} there or leave the cell empty; if it stands for a missing value: --missing '{shown(text)}'",
    )


def _numbers(name: str, cells: Sequence[str], empty: set[str], note: str) -> Column:
    values = np.array([np.nan if text in empty else float(text) for text in cells])
    values[np.isinf(values)] = np.nan
    marks = set(empty)
    there = values[~np.isnan(values)]
    sentinel = _sentinel(there)
    if sentinel is not None:
        marks |= {text for text in set(cells) if text not in empty and float(text) == sentinel}
        note = f"{sentinel:g} stands in {int((there == sentinel).sum())} cells, far from all others: taken for missing"
        values[values == sentinel] = np.nan
        there = there[there != sentinel]
    whole = bool(len(there)) and bool(np.all(there == np.round(there)))
    return Column(name, NUMBER, values, integer=whole, marks=marks - {""}, unit=unit_of(name), note=note)


def _sentinel(values: Floats) -> float | None:
    """A number such as -999 that stands for missing: the smallest, often, and far from the others."""
    if len(values) < 20:
        return None
    low = float(values.min())
    others = values[values != low]
    if low not in SENTINELS or not len(others) or len(values) - len(others) < max(3, len(values) // 1000):
        return None
    return low if others.min() > low / 4 and others.min() - low > 2 * np.ptp(others) / 10 else None


def _words(name: str, cells: Sequence[str], texts: Mapping[str, int], empty: set[str]) -> Column:
    vocabulary = tuple(sorted(texts))
    places = {text: float(place) for place, text in enumerate(vocabulary)}
    values = np.array([places.get(text, np.nan) for text in cells])
    count, distinct = sum(texts.values()), len(vocabulary)
    unique = distinct == count and count >= 10
    few = distinct <= 50 or (distinct <= MOST_CATEGORIES and count >= 3 * distinct)
    kind = CATEGORY if few and not unique else TEXT
    odd = kind == TEXT or count < 10 or distinct > 10
    note = ""
    if odd and sum(n for text, n in texts.items() if DATE_LIKE.fullmatch(text)) >= MOSTLY * count:
        note = f"looks like dates, in a form that cannot be ordered: '{next(iter(texts))}'"
    elif odd and len({AMOUNT.sub("#", text).replace(" ", "") for text in texts} | {"#"}) == 2:
        note = f"{SIGNED}, such as '{next(iter(texts))}'; write the numbers alone to use it"
    return Column(name, kind, values, vocabulary, marks=empty - {""}, note=note)


def refuse_bad_dates(column: Column, sample: Sample) -> None:
    """Raises AdaptError for a column that is to order rows and holds what is neither date nor number."""
    if column.kind in (NUMBER, DATE):
        return
    cells = sample.cells[column.name]
    row = next((row for row, text in enumerate(cells) if text and moments.moment(text) is None), 0)
    raise AdaptError(
        f"{sample.where(row)}, column '{column.name}': the date '{cells[row]}' does not parse",
        "write times as 2014-02-07 14:55:00 or as numbers, or name another column with --time",
    )


def tokens(name: str) -> list[str]:
    """The words of a column's name, in small letters: `Air temperature [K]` gives air, temperature, k."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word]


def unit_of(name: str) -> str:
    """The unit that a column's name ends with, such as in `speed [rpm]` and `temp_C`; "" for none."""
    if match := BRACKETED.search(name):
        return match[1].strip()
    last = re.split(r"[_\s.]", name)[-1] if re.search(r"[_\s.]", name) else ""
    if name.endswith("%"):
        return "%"
    return last if last and f" {last} " in UNIT_WORDS else ""


def missing_marks(columns: Mapping[str, Column]) -> list[str]:
    """All texts that stand for a missing value, sorted; the empty one always does."""
    return sorted({mark for column in columns.values() for mark in column.marks})


def summary(columns: Mapping[str, Column], roles: Mapping[str, str]) -> Iterator[dict[str, object]]:
    """Per column what the data card shows; `roles` by column name, such as target or excluded."""
    for name, column in columns.items():
        there = column.values[column.present]
        row: dict[str, object] = {
            "name": name, "kind": column.kind, "role": roles.get(name, "input"), "unit": column.unit,
            "distinct": column.distinct, "missing": float(1 - column.present.mean()) if len(column.values) else 0.0,
        }  # fmt: skip
        if column.kind == NUMBER and len(there):
            row |= {"low": float(there.min()), "middle": float(np.median(there)), "high": float(there.max())}
            row["histogram"] = [int(n) for n in np.histogram(there, bins=min(24, max(2, column.distinct)))[0]]
        elif column.vocabulary:
            counts = Counter(column.words())
            counts.pop("", None)
            row["common"] = [[word, count] for word, count in counts.most_common(6)]
            row["histogram"] = [count for _, count in counts.most_common(24)]
        yield row


def refuse_unknown(names: Collection[str], name: str, option: str, where: object) -> None:
    """Raises AdaptError, with the nearest column, when the one that an option names does not exist."""
    if name not in names:
        near = nearest(name, names)
        hint = f"--{option} '{near}' is the nearest; " if near else ""
        raise AdaptError(f"{where} has no column '{name}'", f"{hint}the columns are {some(names, 20)}")
