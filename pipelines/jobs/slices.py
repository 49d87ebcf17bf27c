"""Rows of a table or series to samples: a row each, or windows per unit, no task holding a whole series.

T steps of a window   F columns   n place of a row in its series, from 1   `steps` how many rows that has
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from models import tables
from models.contract import ANOMALY, Column

SAMPLE = (
    "id string, source string, label double, label_name string, tensor binary, group string, split string, why string"
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("source", pa.string()), ("label", pa.float64()), ("label_name", pa.string()),
        ("tensor", pa.binary()), ("group", pa.string()), ("split", pa.string()), ("why", pa.string()),
    ]
)  # fmt: skip
# What either transformation reads of a row, and what of a step besides.
ROW = ("source", "unit", "label", "value", "numbers", "words", "split")
STEP = (*ROW, "segment", "n", "steps")
ORDER = ("time", "file", "block", "row")
# Rows of one long series that a task holds, and bytes of windows that leave it at a time.
CHUNK = 100_000
BYTES = 32_000_000
# Why a row or window is in no split.
COPY = "equal to a row of a later split"
CUT = "straddles the cut between two splits"
BARE = "has no label"
ODD = "an anomaly in time of training, which sees what is normal only"


@dataclass(frozen=True, kw_only=True)
class Form:
    """What samples are made with: columns with their vocabularies, class names, windows."""

    task: str
    columns: tuple[Column, ...]
    classes: tuple[str, ...]
    missing: tuple[str, ...]
    window: int = 1
    stride: int = 1
    cap: int = 0


def numbered(rows: DataFrame) -> DataFrame:
    """Rows of units with `n`, `steps`, and their `segment`, the unit."""
    unit = Window.partitionBy("unit")
    return (
        rows.withColumn("n", F.row_number().over(unit.orderBy(*ORDER)).cast("long"))
        .withColumn("steps", F.count("*").over(unit))
        .withColumn("segment", F.col("unit"))
    )


def ordered(rows: DataFrame) -> DataFrame:
    """Rows of one long series per `part`, with `n` and `steps`, by a sort that no task sees whole."""
    placed = rows.orderBy("part", *ORDER).withColumn("place", F.monotonically_increasing_id())
    placed = placed.persist(StorageLevel.DISK_ONLY)
    task, within = F.shiftright("place", 33), F.col("place").bitwiseAND((1 << 33) - 1)
    counted = placed.groupBy(task.alias("task"), "part").count().collect()
    parts: dict[str, int] = {}
    tasks = [0] * (max((row["task"] for row in counted), default=0) + 1)
    for row in counted:
        parts[row["part"]] = parts.get(row["part"], 0) + row["count"]
        tasks[row["task"]] += row["count"]
    before = F.array(*map(F.lit, [0, *itertools.accumulate(tasks[:-1])]))
    names = sorted(parts)
    starts = dict(zip(names, [0, *itertools.accumulate(parts[name] for name in names[:-1])], strict=True))
    place = within + F.element_at(before, (task + 1).cast("int")) + 1
    return placed.withColumn("steps", _by_part(parts)).withColumn("n", place - _by_part(starts))


def _by_part(numbers: dict[str, int]) -> Any:
    """The number of the row's part, of which there are at most two."""
    column = F.lit(0)
    for part, number in numbers.items():
        column = F.when(F.col("part") == part, F.lit(number)).otherwise(column)
    return column.cast("long")


def chunked(rows: DataFrame, window: int) -> DataFrame:
    """What `ordered` gave, cut into segments that start with the T - 1 last rows of the one before."""
    size = max(CHUNK, 10 * window)
    chunk = F.floor((F.col("n") - 1) / size)
    shared = (F.col("n") - 1) % size >= size - (window - 1)
    both = F.when(shared, F.array(chunk, chunk + 1)).otherwise(F.array(chunk))
    return rows.withColumn("chunk", F.explode(both)).withColumn("segment", F.concat_ws(":", "part", "chunk"))


def windows(batches: Iterable[pa.RecordBatch], form: Form) -> Iterator[pa.RecordBatch]:
    """Batches of STEP, sorted by segment and n, to batches of SAMPLE."""
    running, open_series = None, _Series(form)
    for batch in batches:
        steps = batch.to_pylist()
        tensors = matrix(batch.to_pydict(), form)
        at = 0
        for segment, some in itertools.groupby(steps, key=itemgetter("segment")):
            if segment != running:
                running, open_series = segment, _Series(form)
            run = list(some)
            piece = open_series.piece()
            for start in range(0, len(run), piece):
                part = run[start : start + piece]
                found = open_series.add(part, tensors[at + start : at + start + len(part)])
                if found is not None:
                    yield found
            at += len(run)


class _Series:
    """The steps of a segment from the start of the next window on."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._steps: list[dict[str, Any]] = []
        self._values = np.zeros((0, len(form.columns)), np.float32)

    def piece(self) -> int:
        """As many rows as give BYTES of windows."""
        form = self._form
        return max(form.stride, BYTES // (4 * form.window * len(form.columns)) * form.stride)

    def add(self, steps: list[dict[str, Any]], values: npt.NDArray[np.float32]) -> pa.RecordBatch | None:
        """The windows that end with one of `steps`."""
        window, stride = self._form.window, self._form.stride
        self._steps += steps
        self._values = np.concatenate([self._values, values])
        first, last, total = self._steps[0]["n"], self._steps[-1]["n"], self._steps[-1]["steps"]
        end = last - (last - total) % stride  # The last window ends with the series' last step.
        length = end - first + 1
        if length < (window if total >= window else total) or length < 1:
            return None
        made = tables.windows(self._values[:length], window, stride)
        ends = [length - 1 - stride * back for back in range(len(made))][::-1]
        found = self._samples(made, ends)
        kept = max(0, length + stride - window)
        self._steps, self._values = self._steps[kept:], self._values[kept:]
        return found

    def _samples(self, made: npt.NDArray[np.float32], ends: Sequence[int]) -> pa.RecordBatch:
        task, steps = self._form.task, self._steps
        labels: list[Any] = []
        splits: list[str | None] = []
        why: list[str | None] = []
        for end in ends:
            inside = steps[max(0, end - self._form.window + 1) : end + 1]
            label = self._label(inside)
            side = inside[-1]["split"]
            odd = task == "anomaly" and side == "train" and label == ANOMALY[1]
            reason = CUT if inside[0]["split"] != side else BARE if label is None else ODD if odd else None
            labels.append(label)
            splits.append(None if reason else side)
            why.append(reason)
        last = [steps[end] for end in ends]
        bodies = [window.tobytes() for window in made]
        names = [f"{step['unit']}:{step['n']}:" for step in last]
        return batch_of(
            id=[hashlib.sha256(name.encode() + body).hexdigest() for name, body in zip(names, bodies, strict=True)],
            source=[step["source"] for step in last],
            labels=labels,
            tensor=bodies,
            group=[step["unit"] for step in last],
            split=splits,
            why=why,
            form=self._form,
        )

    def _label(self, inside: Sequence[dict[str, Any]]) -> Any:
        last = inside[-1]
        if self._form.task == "rul":
            return float(min(self._form.cap, last["steps"] - last["n"]))
        if self._form.task == "anomaly":
            return ANOMALY[any(step["label"] == ANOMALY[1] for step in inside)]
        return last["value"] if self._form.task == "regression" else last["label"]


def samples(batches: Iterable[pa.RecordBatch], form: Form) -> Iterator[pa.RecordBatch]:
    """Batches of ROW, one sample a row, to batches of SAMPLE."""
    for batch in batches:
        rows = batch.to_pydict()
        bodies = [tensor.tobytes() for tensor in matrix(rows, form)]
        labels = rows["value"] if form.task == "regression" else rows["label"]
        bare = [label is None for label in labels]
        yield batch_of(
            id=[hashlib.sha256(body).hexdigest() for body in bodies],
            source=rows["source"],
            labels=labels,
            tensor=bodies,
            group=rows["unit"],
            split=[None if none else split for none, split in zip(bare, rows["split"], strict=True)],
            why=[BARE if none else None if split else COPY for none, split in zip(bare, rows["split"], strict=True)],
            form=form,
        )


def batch_of(
    *,
    id: Sequence[str],
    source: Sequence[str],
    labels: Sequence[Any],
    tensor: Sequence[bytes],
    group: Sequence[str],
    split: Sequence[str | None],
    why: Sequence[str | None],
    form: Form,
) -> pa.RecordBatch:
    """A batch of SAMPLE; `labels` are class names, or numbers where there are no classes."""
    places = {name: float(place) for place, name in enumerate(form.classes)}
    numbers = [places.get(label) for label in labels] if form.classes else labels
    named = labels if form.classes else [""] * len(labels)
    bodies = [body if side else None for body, side in zip(tensor, split, strict=True)]
    columns = [id, source, numbers, named, bodies, group, split, why]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def matrix(rows: dict[str, list[Any]], form: Form) -> npt.NDArray[np.float32]:
    """Raw tensors [N, F] of rows: `words`, the categories by row, become their places in the vocabularies."""
    count = len(rows["numbers"])
    found = np.frombuffer(b"".join(rows["numbers"]), np.float32).reshape(count, len(form.columns)).copy()
    places = [place for place, column in enumerate(form.columns) if column.values is not None]
    if places and count:
        named = [form.columns[place] for place in places]
        by_column = zip(named, zip(*rows["words"], strict=True), strict=True)
        cells = {column.name: list(texts) for column, texts in by_column}
        found[:, places] = tables.matrix(cells, named, form.missing)
    return found
