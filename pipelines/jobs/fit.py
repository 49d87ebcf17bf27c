"""From the ETL's sums to mean, deviation and drift profile of the training split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from models import drift
from models.contract import Column
from pipelines.jobs.curate import BATCH, SPAN

Facts = Mapping[str, npt.NDArray[np.int64]]
Floats = npt.NDArray[np.float64]
PART = "moments binary, seen binary"
# Of a table so many samples are looked at for the profile, chosen by their id.
SAMPLES = drift.PROFILED
# As many bins as keep each one's share of some hundred samples above chance.
SHARES = 10


def mean(facts: Facts) -> tuple[float, ...]:
    """Per channel, 0..255."""
    return tuple(float(value) for value in facts["sum"] / facts["pixels"])


def deviation(facts: Facts) -> tuple[float, ...]:
    """Per channel, 0..255; 1.0 for a channel that never changes, so that dividing by it changes nothing."""
    average = facts["sum"] / facts["pixels"]
    variance = np.maximum(facts["squares"] / facts["pixels"] - average**2, 0.0)
    return tuple(float(value) if value > 0.0 else 1.0 for value in np.sqrt(variance))


def profile(facts: Facts) -> dict[str, Any]:
    """Per statistic of models.drift: `edges` of bins that hold about as much of the split each, and their `shares`."""
    return {name: _binned(facts[name]) for name in ("mean", "contrast")}


def _binned(counts: npt.NDArray[np.int64]) -> dict[str, list[float]]:
    """Joins the fine bins over SPAN to at most SHARES bins; the outer edges stay, so that nothing falls out."""
    total = np.concatenate([[0], np.cumsum(counts)])
    wanted = total[-1] * np.arange(1, SHARES) / SHARES
    cuts = [0, *np.unique(np.searchsorted(total, wanted)).tolist(), len(counts)]
    at = sorted(set(cuts))
    shares = np.diff(total[at]) / max(int(total[-1]), 1)
    return {"edges": [float(SPAN[i]) for i in at], "shares": [float(share) for share in shares]}


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Of a table or series: per column mean and deviation, the drift profile, the target's mean and deviation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    profile: dict[str, Any]
    target: tuple[float, float]


def learned(train: DataFrame, count: int, columns: Sequence[Column]) -> Learned:
    """From samples `id`, `tensor` and `label` of the training split, which has `count`.

    Each partition gives its moments, and the statistics of those whose id says so, of SAMPLES over all.
    """
    below = f"{min(int(SAMPLES / max(count, 1) * 16**8), 16**8 - 1):08x}"
    rows = train.select("id", "tensor", "label").mapInArrow(partial(parts, columns=columns, below=below), PART)
    total, seen = np.zeros((3, len(columns) + 1)), []
    for row in rows.collect():
        total = joined(total, np.frombuffer(row["moments"], np.float64).reshape(3, -1))
        seen.append(np.frombuffer(row["seen"], np.float64).reshape(-1, len(columns[: drift.COLUMNS])))
    numbers = np.array([column.values is None for column in columns] + [True])
    average = np.where(numbers, total[1], 0.0)
    spread = np.sqrt(total[2] / np.maximum(total[0], 1))
    # Sums end in other digits when Spark cuts the data another way.
    spread = np.where(numbers & (spread > 1e-12 * np.abs(average)), spread, 1.0)
    means = tuple(float(f"{value:.12g}") for value in average)
    deviations = tuple(float(f"{value:.9g}") for value in spread)
    return Learned(
        mean=means[:-1],
        std=deviations[:-1],
        profile=binned_columns(np.concatenate(seen), columns),
        target=(means[-1], deviations[-1]),
    )


def parts(batches: Iterable[pa.RecordBatch], columns: Sequence[Column], below: str) -> Iterator[pa.RecordBatch]:
    """One row of PART from all batches of `id`, `tensor`, `label`."""
    width, names = len(columns), [column.name for column in columns]
    total, seen = np.zeros((3, width + 1)), []
    for batch in batches:
        for at in range(0, batch.num_rows, BATCH):
            rows = batch.slice(at, BATCH).to_pydict()
            if not rows["id"]:
                continue
            tensors = np.frombuffer(b"".join(rows["tensor"]), np.float32).reshape(len(rows["id"]), -1, width)
            labels = moments(np.array(rows["label"], np.float64)[:, None])
            total = joined(total, np.concatenate([moments(tensors.reshape(-1, width)), labels], axis=1))
            drawn = tensors[[name[:8] <= below for name in rows["id"]]]
            if len(drawn):
                seen.append(np.stack(list(drift.summarize(drawn, names).values()), axis=1))
    found = np.concatenate(seen) if seen else np.zeros(0)
    yield pa.RecordBatch.from_pydict({"moments": [total.tobytes()], "seen": [found.tobytes()]})


def moments(values: npt.NDArray[Any]) -> Floats:
    """Count, mean and sum of squared differences of each column of [N, F], missing values left out: [3, F]."""
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    filled = np.where(there, values, 0.0).astype(np.float64)
    average = filled.sum(axis=0) / np.maximum(count, 1)
    squares = (np.where(there, filled - average, 0.0) ** 2).sum(axis=0)
    return np.stack([count.astype(np.float64), average, squares])


def joined(first: Floats, second: Floats) -> Floats:
    """The moments of two parts together (Chan et al., Updating formulae for sample variances, 1979)."""
    count = first[0] + second[0]
    some = np.maximum(count, 1.0)
    gap = second[1] - first[1]
    average = first[1] + gap * second[0] / some
    return np.stack([count, average, first[2] + second[2] + gap**2 * first[0] * second[0] / some])


def binned_columns(seen: Floats, columns: Sequence[Column]) -> dict[str, Any]:
    """Of each watched column the bins that hold about as many samples each; a column without a value has none."""
    found = {}
    for values, column in zip(seen.T, columns[: drift.COLUMNS], strict=True):
        there = values[~np.isnan(values)]
        if len(there):
            edges = _edges(there)
            shares = drift.histogram(there, edges) / len(there)
            found[column.name] = {"edges": edges.tolist(), "shares": shares.tolist()}
    return found


def _edges(values: Floats) -> Floats:
    """Between values where there are few, so that a yes or no is seen to move; else quantiles."""
    single = np.unique(values)
    if len(single) > SHARES - 2:
        cuts = np.unique(np.quantile(values, np.arange(SHARES + 1) / SHARES))
        if len(cuts) > 3:
            return cuts
        return np.unique(np.linspace(single[0], single[-1], SHARES + 1))
    low, high = float(single[0]), float(single[-1])
    reach = max(high - low, abs(low) * 1e-3, 1e-6)
    inner = (single[1:] + single[:-1]) / 2
    return np.array([low - 2 * reach, low - reach / 2, *inner, high + reach / 2, high + 2 * reach])
