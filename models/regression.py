"""Figures of numbers with bootstrap intervals, and two models compared in pairs.

N samples   `labels` and `values` float [N]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models import resample
from models.resample import PAIRED, Groups

Floats = npt.NDArray[np.float64]
# The share of a bell curve within one deviation.
ONE_SIGMA = 0.6827
# Draws of a pairwise test hold no more samples than this altogether.
DRAWN = 100_000_000


def figures(labels: Floats, values: Floats, *, rul: bool = False, groups: Groups | None = None) -> dict[str, float]:
    """`mae`, `rmse`, `r2`, and of a remaining life `nasa_score`, each with `<key>_low` and `<key>_high`.

    `r2` is left out where all labels are equal.
    """
    return resample.intervals(lambda pick: _measure(labels[pick], values[pick], rul), len(labels), groups)


def nasa_score(labels: Floats, values: Floats) -> float:
    """The mean of exp(-d/13) - 1 for an early answer (d < 0) and exp(d/10) - 1 for a late one, d = answer less truth.

    The PHM08 challenge (Saxena et al., 2008) sums over units; the mean does not grow with the test set.
    """
    late = values - labels
    return float(np.expm1(np.minimum(np.where(late < 0, -late / 13, late / 10), 50.0)).mean())


def paired(labels: Floats, ours: Floats, theirs: Floats, seed: int = 0, groups: Groups | None = None) -> dict[str, Any]:
    """RMSE of theirs less ours on the same samples: above 0 ours is better. With its interval."""
    squares = np.stack([(ours - labels) ** 2, (theirs - labels) ** 2, np.ones(len(labels))], axis=1)
    rng, units = np.random.default_rng(seed), resample.units(groups)
    if units is None:
        count = len(labels)
        drawn = np.array([
            squares[rng.integers(0, count, count), :2].sum(0) for _ in range(max(200, min(PAIRED, DRAWN // count)))
        ])  # fmt: skip
        errors = np.sqrt(drawn / count)
    else:
        number = int(units.max()) + 1
        sums = np.stack([np.bincount(units, weights=column, minlength=number) for column in squares.T], axis=1)
        drawn = rng.multinomial(number, np.full(number, 1 / number), PAIRED) @ sums
        errors = np.sqrt(drawn[:, :2] / drawn[:, 2:])
    mine, other = np.sqrt(squares[:, :2].mean(0))
    return {"metric": "rmse", **resample.difference(float(other - mine), errors[:, 1] - errors[:, 0])}


def coverage(labels: Floats, values: Floats, width: float) -> dict[str, Any]:
    """How many answers lie within `width`, the error on the validation split: of a bell curve about 68 %."""
    return {"coverage": float((np.abs(values - labels) <= width).mean()), "expected": ONE_SIGMA, "width": width}


def rmse(labels: Floats, values: Floats) -> float:
    """Root mean square error, in the target's unit."""
    return float(np.sqrt(np.square(values - labels).mean()))


def _measure(labels: Floats, values: Floats, rul: bool) -> dict[str, float]:
    found = {"mae": float(np.abs(values - labels).mean()), "rmse": rmse(labels, values)}
    spread = float(np.square(labels - labels.mean()).mean())
    if spread > 0:
        found["r2"] = 1 - found["rmse"] ** 2 / spread
    return {**found, "nasa_score": nasa_score(labels, values)} if rul else found
