"""From the ETL's sums to mean, deviation and drift profile of the training split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.jobs.curate import SPAN

Facts = Mapping[str, npt.NDArray[np.int64]]
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
