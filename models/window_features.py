"""Windows of a series as rows of a table, for models that know no time.

N windows   T steps   F columns
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.contract import Contract

Floats = npt.NDArray[np.float64]
STATISTICS = ("last", "mean", "std", "min", "max", "slope", "difference_std")
# The statistics are rounded to float32: what a sum's order changes must not decide on which side of a threshold one is.
LARGEST = float(np.finfo(np.float32).max)
# Windows at once, so that memory stays small.
CHUNK = 8192


def rows(windows: npt.NDArray[np.float32], contract: Contract) -> tuple[Floats, list[bool]]:
    """float32 [N, T, F] -> float64 [N, features], and which features are categories.

    Of a number each of STATISTICS over the steps where it is there, NaN where none is; of a category its last value.
    """
    numbers = [place for place, column in enumerate(contract.columns) if column.values is None]
    categories = [place for place, column in enumerate(contract.columns) if column.values is not None]
    parts = [
        np.concatenate([_numbers(part[:, :, numbers].astype(np.float64)), last(part[:, :, categories])], axis=1)
        for part in np.split(windows, range(CHUNK, len(windows), CHUNK))
    ]
    return np.concatenate(parts), [False] * (len(STATISTICS) * len(numbers)) + [True] * len(categories)


def last(values: npt.NDArray[np.floating]) -> Floats:
    """The last value that is there, of each column: [N, T, F] -> [N, F]."""
    there = ~np.isnan(values)
    step = values.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
    return np.take_along_axis(values, step[:, None], axis=1)[:, 0].astype(np.float64)


def _numbers(values: Floats) -> Floats:
    """[N, T, F] -> [N, 7F], all of one statistic side by side."""
    there = ~np.isnan(values)
    count = there.sum(axis=1)
    some = np.maximum(count, 1)
    filled = np.where(there, values, 0.0)
    mean = filled.sum(axis=1) / some
    centred = np.where(there, values - mean[:, None], 0.0)
    std = np.sqrt((centred**2).sum(axis=1) / some)
    lowest = np.where(there, values, np.inf).min(axis=1)
    highest = np.where(there, values, -np.inf).max(axis=1)
    time = np.arange(values.shape[1], dtype=np.float64)[None, :, None]
    when = np.where(there, time - np.where(there, time, 0.0).sum(axis=1, keepdims=True) / some[:, None], 0.0)
    slope = (when * centred).sum(axis=1) / np.maximum((when**2).sum(axis=1), 1e-12)
    found = np.concatenate([last(values), mean, std, lowest, highest, slope, _difference(values)], axis=1)
    found = np.clip(found, -LARGEST, LARGEST).astype(np.float32).astype(np.float64)
    return np.where(np.tile(count > 0, (1, len(STATISTICS))), found, np.nan)


def _difference(values: Floats) -> Floats:
    """The deviation of the steps' differences; 0 where there are none."""
    steps = np.diff(values, axis=1)
    there = ~np.isnan(steps)
    count = np.maximum(there.sum(axis=1), 1)
    mean = np.where(there, steps, 0.0).sum(axis=1) / count
    centred = np.where(there, steps - mean[:, None], 0.0)
    return np.asarray(np.sqrt((centred**2).sum(axis=1) / count), np.float64)
