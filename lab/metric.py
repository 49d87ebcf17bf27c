"""Which metric leads a task, and which way it is better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LEADING = {"classification": "accuracy", "anomaly": "macro_f1", "regression": "rmse", "rul": "rmse"}
ERRORS = frozenset({"log_loss", "mae", "rmse", "nasa_score"})


def leading(task: str) -> str:
    """The metric that a model of `task` must win on."""
    return LEADING.get(task, "accuracy")


def best(rows: Mapping[str, Mapping[str, Any]], metric: str) -> str | None:
    """The name of the row that is best by `metric`; None when no row has it."""
    measured = {name: float(values[metric]) for name, values in rows.items() if values.get(metric) is not None}
    if not measured:
        return None
    return (min if metric in ERRORS else max)(measured, key=measured.__getitem__)


def text(values: Mapping[str, Any], metric: str) -> str:
    """A figure with its interval."""
    low, high = values.get(f"{metric}_low"), values.get(f"{metric}_high")
    found = f"{values[metric]:.4f}"
    return found if low is None or high is None else f"{found} [{low:.4f}, {high:.4f}]"
