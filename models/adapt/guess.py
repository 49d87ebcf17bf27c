"""What a table is for: modality, task, target, units and time, each with how sure and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.adapt.columns import CATEGORY, DATE, EMPTY, NUMBER, TEXT, TIME_WORDS, Column, tokens

CERTAIN = 0.9
SURE_NAMES = ("target", "label", "labels", "class", "y", "outcome", "classification")
LIKELY_NAMES = (
    "diagnosis", "species", "survived", "churn", "fraud", "failure", "fault", "defect", "anomaly", "price", "medv",
    "quality", "salary", "default", "result", "response", "output", "rul", "rings", "mpg", "strength", "grade", "risk",
)  # fmt: skip
ANOMALY_WORDS = frozenset({"anomaly", "anomalous", "fault", "failure", "outlier", "defect", "defective", "alarm"})
UNIT_NAMES = re.compile(
    r"(?i)^(unit|engine|machine|device|patient|subject|user|customer|client|vehicle|household|station|lot|batch|wafer|"
    r"serial|sensor|asset|turbine|pump|motor|battery|cell|site|run|trial|experiment|session|person|individual|child)"
    r"([ _-]?(id|no|nr|number|name))?$|^id$"
)
COUNTER_WORDS = frozenset(
    {"cycle", "cycles", "step", "tick", "t", "epoch", "frame", "period", "second", "seconds"}
    | {"minute", "hour", "hours", "day", "week", "month", "quarter", "year"}
)
# They say when a row is from, so they are nothing to foretell.
CALENDAR = TIME_WORDS | COUNTER_WORDS | {"weekday", "dayofweek", "season"}
PLACED = re.compile(r"c\d+")
ID_NAMES = re.compile(
    r"^((?i:|.*(^|[ _-])(id|uuid|guid|index|idx|rownum|row|serial|no|nr|key)|unnamed: ?\d+|udi)|.*[a-z](Id|ID))$"
)
LEAST_PER_UNIT = 5
# A larger share of words that stand alone names no classes.
MOST_LONE = 0.34
RESTARTS = 0.5
ORDERED = 0.99


@dataclass(frozen=True)
class Guess:
    """What adapt concluded: `sure` from 0 to 1, `why`, and the option that overrules it."""

    what: str
    value: str
    sure: float
    why: str
    overrule: str


def unit_and_time(columns: Mapping[str, Column], group: str, time: str, taken: str) -> tuple[Guess, Guess]:
    """The column that tells units apart and the one that orders their rows, "" for none; `taken` is the target."""
    targets = {name for name in columns if name.lower() in (*SURE_NAMES, *LIKELY_NAMES)}
    groups = [group] if group else [name for name in columns if name not in (taken, time, *targets)]
    times = [time] if time else [name for name in columns if name not in (taken, group)]
    times = [name for name in times if columns[name].kind in (NUMBER, DATE)][:30]
    times.sort(key=lambda name: not _time_named(columns[name]))
    named = sorted(groups, key=lambda name: not UNIT_NAMES.match(name))
    for unit in named[:40]:
        if not group and not _can_be_unit(columns[unit]):
            continue
        for order in times:
            hinted = group or time or UNIT_NAMES.match(unit) or _time_named(columns[order]) or PLACED.fullmatch(unit)
            if order != unit and hinted and _restarts(columns[unit], columns[order], bool(group and time)):
                sure = 0.95 if UNIT_NAMES.match(unit) and _time_named(columns[order]) else 0.8
                why = f"'{order}' grows within each '{unit}' and starts anew with the next"
                return _group(unit, 1.0 if group else sure, why), _time(order, 1.0 if time else sure, why)
    if not group:
        found = next((name for name in named if UNIT_NAMES.match(name) and _repeats(columns[name])), "")
        chosen = _group(found, 0.6, f"'{found}' names who or what rows belong to, and repeats") if found else None
    else:
        chosen = _group(group, 1.0, "as asked for")
    return chosen or _group("", 1.0, "no column repeats as units do"), _order(columns, time, taken)


def _order(columns: Mapping[str, Column], time: str, taken: str) -> Guess:
    """The time of a table or of one series."""
    if time:
        return _time(time, 1.0, "as asked for")
    for name, column in columns.items():
        if name != taken and column.kind == DATE and column.distinct > 10:
            grows = ordered(column)
            return _time(name, 0.95 if grows else 0.6, "its dates grow" if grows else "its cells are dates")
    for name, column in columns.items():
        if name != taken and column.kind == NUMBER and _time_named(column) and ordered(column) and column.distinct > 10:
            return _time(name, 0.8, "its name says time and its numbers grow")
    if len(columns) == 2:
        name, reading = columns
        if taken not in columns and columns[name].kind == columns[reading].kind == NUMBER and counts(columns[name]):
            return _time(name, 0.7, "its numbers grow evenly beside one reading")
    return _time("", 1.0, "no column orders the rows")


def counts(column: Column) -> bool:
    """Whether the column grows by the same step from each row to the next."""
    return ordered(column) and regular(column) and column.distinct > 10


def ordered(column: Column) -> bool:
    """Whether the column hardly ever falls from one row to the next."""
    steps = np.diff(column.values[column.present])
    return len(steps) > 0 and bool((steps >= 0).mean() >= ORDERED)


def regular(column: Column) -> bool:
    """Whether most steps are equally long, as those of a series are."""
    steps = np.diff(np.sort(column.values[column.present]))
    # Months are as alike as that, and quarters and years.
    rtol = 0.12 if column.kind == DATE else 0.01
    return len(steps) >= 20 and bool(np.isclose(steps, np.median(steps), rtol=rtol).mean() >= 0.8) and steps.max() > 0


def _can_be_unit(column: Column) -> bool:
    number = column.kind == NUMBER and column.integer
    return (number or column.kind in (CATEGORY, TEXT)) and 2 <= column.distinct <= column.present.sum() / 3


def _repeats(column: Column) -> bool:
    return 2 <= column.distinct <= 0.7 * max(1, int(column.present.sum())) and column.kind not in (DATE, EMPTY)


def _restarts(unit: Column, order: Column, given: bool) -> bool:
    """Whether time grows within units, and starts anew from one unit to the next."""
    who, when = unit.values, order.values
    if np.isnan(who).any() or np.isnan(when).mean() > 0.01:
        return False
    runs = int((np.diff(who) != 0).sum()) + 1
    if runs > 1.5 * unit.distinct + (20 if len(who) > 10_000 else 0):  # a sample of places cuts units apart
        if not given and not (UNIT_NAMES.match(unit.name) and _time_named(order)):
            return False
        rows = np.lexsort((np.arange(len(who)), who))
        who, when = who[rows], when[rows]
    same = np.diff(who) == 0
    steps = np.diff(when)
    if not same.any() or (steps[same] > 0).mean() < ORDERED:
        return False
    if given:
        return True
    _, counts = np.unique(who, return_counts=True)
    return bool((steps[~same] < 0).mean() >= RESTARTS and np.median(counts) >= LEAST_PER_UNIT)


def _time_named(column: Column) -> bool:
    words = set(tokens(column.name))
    return column.kind == DATE or bool(words & (TIME_WORDS | COUNTER_WORDS))


def target(columns: Mapping[str, Column], taken: Sequence[str], series: bool) -> Guess:
    """The column to predict; "" when none suggests itself."""
    free = {
        name: column
        for name, column in columns.items()
        if name not in taken and column.kind in (NUMBER, CATEGORY) and column.distinct > 1
    }
    for names, sure in ((SURE_NAMES, 0.95), (LIKELY_NAMES, 0.85)):
        found = [name for name in free if name.lower() in names]
        found += [name for name in free if name not in found and set(tokens(name)[-1:]) & set(names)]
        if found:
            return _target(found[-1], sure, "its name says so")
    if not free or series:
        return _target("", 0.6, "no column is named as a target is")
    useful = [name for name in free if not looks_like_id(free[name])] or list(free)
    useful = [name for name in useful if not set(tokens(name)) & CALENDAR and not ID_NAMES.match(name)] or useful
    useful = [name for name in useful if free[name].kind != CATEGORY or _lone(free[name]) <= MOST_LONE] or useful
    last = useful[-1]
    groups = [name for name in useful if _countable(free[name], 10)]
    if not _countable(free[last], 50) and len(groups) == 1:
        return _target(groups[0], 0.7, "it alone has few different values, so it may name classes")
    return _target(last, 0.7 if _countable(free[last], 20) else 0.6, "it is the last column")


def looks_like_id(column: Column) -> bool:
    """Whether a column numbers or names each row: all different, and consecutive or named so."""
    there = column.values[column.present]
    if len(there) < 10 or len(np.unique(there)) < len(there) or column.kind in (DATE, EMPTY):
        return False
    if column.vocabulary:
        return True
    return column.integer and (np.ptp(there) == len(there) - 1 or bool(ID_NAMES.match(column.name)))


def _countable(column: Column, most: int) -> bool:
    return column.kind == CATEGORY or (column.integer and column.distinct <= most)


def classes(column: Column) -> bool:
    """Whether a target's values name classes; else they are a quantity."""
    if column.kind != NUMBER:
        return True
    rows = int(column.present.sum())
    if column.distinct == 2:
        return True
    enough = rows >= (3 if column.distinct <= 10 else 20) * column.distinct
    return column.integer and column.distinct <= 20 and enough and not _lone(column)


def _lone(column: Column) -> float:
    """The share of a column's values that stand in one row alone, as remarks do and the larger ones of a count."""
    return float((np.unique(column.values[column.present], return_counts=True)[1] < 2).mean())


def anomalous(column: Column) -> npt.NDArray[np.bool_]:
    """Which rows a target calls anomalous: anything but 0, false, normal, no or nothing."""
    calm = {"", "0", "false", "normal", "no", "0.0"}
    return np.array([word.lower() not in calm for word in column.words()])


def task(column: Column | None, modality: str, asked: str, *, failing: bool, spans: bool) -> Guess:
    """The task; `spans` says that time spans are labelled anomalous, `failing` that units may run until they fail."""
    if asked:
        return _task(asked, 1.0, "as asked for")
    if spans:
        return _task("anomaly", 0.95, "labelled time spans come with it")
    if column is None:
        if failing:
            return _task(
                "rul", 0.7, "units start alike, end at different times, no target: they may run until they fail"
            )
        return _task("anomaly", 0.6, "a series without a target")
    if modality == "timeseries" and set(tokens(column.name)) & ANOMALY_WORDS and column.distinct <= 2:
        rare = float(anomalous(column).mean())
        if rare < 0.2:
            return _task("anomaly", 0.85, f"'{column.name}' marks {rare:.1%} of the rows")
    if classes(column):
        sure = 0.95 if column.kind == CATEGORY or column.distinct == 2 else 0.7
        return _task("classification", sure, f"'{column.name}' has {column.distinct} different values")
    return _task("regression", 0.9, f"'{column.name}' is a quantity with {column.distinct} different values")


def none(what: str) -> Guess:
    """No column for a role, because what suggests itself gives the target away."""
    return Guess(what, "", 0.8, "what suggests itself gives the target away", f"--{what} COLUMN")


def _group(value: str, sure: float, why: str) -> Guess:
    return Guess("group", value, sure, why, "--group COLUMN")


def _time(value: str, sure: float, why: str) -> Guess:
    return Guess("time", value, sure, why, "--time COLUMN")


def _target(value: str, sure: float, why: str) -> Guess:
    return Guess("target", value, sure, why, "--target COLUMN")


def _task(value: str, sure: float, why: str) -> Guess:
    return Guess("task", value, sure, why, "--task TASK")
