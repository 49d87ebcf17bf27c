"""How far what a model sees has moved from its training data: stability indices.

The population stability index, PSI, sums (seen - expected) * ln(seen / expected) over the bins of a histogram. The
usual reading (Siddiqi, Credit Risk Scorecards, 2006): below 0.1 stable, 0.1 to 0.25 watch, above 0.25 moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# An empty bin must not make the index infinite; the share that stands for "none seen".
FLOOR = 1e-4
# Of a wide table the first columns are watched: a contract stays small enough to travel with every package.
COLUMNS = 64

Batch = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


def psi(expected: Sequence[float], seen: Sequence[float]) -> float:
    """The index of two histograms over the same bins, as shares or counts. Raises ValueError when they do not fit."""
    first, second = _shares(expected), _shares(seen)
    if first.shape != second.shape:
        raise ValueError(f"histograms of {first.size} and {second.size} bins cannot be compared")
    return float(((second - first) * np.log(second / first)).sum())


def _shares(counts: Sequence[float]) -> npt.NDArray[np.float64]:
    values = np.asarray(counts, np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all() or values.sum() <= 0:
        raise ValueError("a histogram needs at least one bin and one finite count above zero")
    return np.asarray(np.maximum(values / values.sum(), FLOOR), np.float64)


def summarize(batch: Batch, names: Sequence[str] = ()) -> dict[str, npt.NDArray[np.float64]]:
    """Statistics by name, one value a sample.

    Of pictures uint8 [N, C, H, W]: `mean` brightness and `contrast`, its standard deviation, 0..255. Of float32
    [N, F] or [N, T, F]: each column by its name in `names`, the mean over a window's steps; missing ones stay NaN.
    """
    if batch.dtype == np.uint8:
        flat = batch.reshape(len(batch), -1).astype(np.float64)
        return {"mean": flat.mean(axis=1), "contrast": flat.std(axis=1)}
    values = batch.astype(np.float64)
    if values.ndim == 3:
        present = ~np.isnan(values)
        count = present.sum(axis=1)
        total = np.where(present, values, 0.0).sum(axis=1)
        values = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return {name: values[:, place] for place, name in enumerate(names[:COLUMNS])}


class Watch:
    """Counts a stream into the bins of a profile: `{name: {"edges": [...], "shares": [...]}}`.

    `names` are the columns of a table or series, as the contract has them.
    """

    def __init__(self, profile: Mapping[str, Any], names: Sequence[str] = ()) -> None:
        self._names = tuple(names)
        self._edges = {name: np.asarray(part["edges"], np.float64) for name, part in profile.items()}
        self._expected = {name: list(part["shares"]) for name, part in profile.items()}
        self._counts = {name: np.zeros(len(shares)) for name, shares in self._expected.items()}
        self.seen = 0

    def add(self, batch: Batch) -> None:
        """Counts the samples of a batch of raw tensors; values beyond the outer edges fall into the outer bins."""
        for name, values in summarize(batch, self._names).items():
            if name in self._edges:
                self._counts[name] += histogram(values, self._edges[name])
        self.seen += len(batch)

    def score(self) -> dict[str, float]:
        """PSI by statistic; empty until something was seen."""
        if not self.seen:
            return {}
        seen = {name: counts.tolist() for name, counts in self._counts.items() if counts.sum() > 0}
        return {name: psi(self._expected[name], counts) for name, counts in seen.items()}

    def worst(self) -> float:
        """The largest index, 0.0 until something was seen."""
        return max(self.score().values(), default=0.0)

    def reset(self) -> None:
        """Starts a new window."""
        self.seen = 0
        for counts in self._counts.values():
            counts[:] = 0


def histogram(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Counts of `values` in the len(edges) - 1 bins, outliers in the outer ones; NaN counts nowhere."""
    inner = np.clip(values[~np.isnan(values)], edges[0], edges[-1])
    return np.histogram(inner, bins=edges)[0].astype(np.float64)
