"""Intervals by resampling the test set.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993.

Samples of one unit, such as the windows of one engine, are alike: where units are known, whole units are drawn, or the
interval would promise too much.

N samples   R resamples
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Groups = npt.NDArray[np.str_] | Sequence[str]
Index = npt.NDArray[np.int64]

RESAMPLES = 300
PAIRED = 2000
LOW, HIGH = 2.5, 97.5
# Of a larger test set fewer resamples do: its intervals are narrow, and each draw costs more.
LARGE, FEWEST = 20_000, 40


def intervals(
    measure: Callable[[Index], dict[str, float]], count: int, groups: Groups | None = None, seed: int = 0
) -> dict[str, float]:
    """What `measure` gives for all samples, each figure with `<key>_low` and `<key>_high`."""
    point = measure(np.arange(count))
    drawn: dict[str, list[float]] = {name: [] for name in point}
    for pick in picks(count, groups, seed):
        for name, value in measure(pick).items():
            if name in drawn:
                drawn[name].append(value)
    result: dict[str, float] = {}
    for name, value in point.items():
        low, high = np.percentile(drawn[name], [LOW, HIGH]) if drawn[name] else (value, value)
        result |= {name: value, f"{name}_low": min(float(low), value), f"{name}_high": max(float(high), value)}
    return result


def picks(count: int, groups: Groups | None, seed: int) -> Iterator[Index]:
    """Indices of each resample."""
    rng = np.random.default_rng(seed)
    found = units(groups)
    members = [] if found is None else np.split(np.argsort(found, kind="stable"), np.cumsum(np.bincount(found))[:-1])
    for _ in range(max(FEWEST, min(RESAMPLES, RESAMPLES * LARGE // max(count, 1)))):
        if found is None:
            yield rng.integers(0, count, count)
        else:
            yield np.concatenate([members[unit] for unit in rng.integers(0, len(members), len(members))])


def units(groups: Groups | None) -> Index | None:
    """A number for each sample's unit; None when there are not at least two."""
    if groups is None or not len(groups):
        return None
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    return np.asarray(places, np.int64) if len(names) > 1 else None


def difference(value: float, drawn: npt.NDArray[np.float64]) -> dict[str, float]:
    """A difference of two models, above 0 where ours is better, its interval, and how often ours is not better."""
    low, high = np.percentile(drawn, [LOW, HIGH])
    return {
        "difference": value, "difference_low": float(low), "difference_high": float(high),
        "p_not_better": float((drawn <= 0).mean()),
    }  # fmt: skip
