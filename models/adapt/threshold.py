"""What a first gate asks for: metrics that fit the task, half way from knowing nothing to being right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

BALANCED = 0.6


def gate(
    task: str, truth: npt.NDArray[np.float64], counts: Mapping[str, int], data: Mapping[str, Any]
) -> dict[str, float]:
    """Metrics of `[gate]` by key, to be signed or changed by who owns the data."""
    if task == "anomaly":
        return {"auroc": 0.7}
    if task == "classification":
        return classification(counts)
    there = truth[~np.isnan(truth)]
    if task == "rul":
        spread = float(np.std(np.minimum(there, data.get("rul_cap", 125)))) if len(there) else 40.0
        return {"rmse": _round(0.7 * spread)}
    return {"r2": 0.3}


def classification(counts: Mapping[str, int]) -> dict[str, float]:
    """Accuracy where classes are alike in size, else a figure that rare classes count in as much as others."""
    total, kinds = sum(counts.values()), max(2, len(counts))
    most = max(counts.values()) / total
    if most > max(BALANCED, 2 / kinds) or min(counts.values()) < 0.3 * total / kinds:
        return {"balanced_accuracy": _round((1 + 1 / kinds) / 2)}
    return {"accuracy": _round((1 + most) / 2)}


def _round(value: float) -> float:
    return float(f"{value:.2g}")
