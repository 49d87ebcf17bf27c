"""Measured figures against the signed success criteria, a reason for each one missed.

Thresholds are the `[gate]` table of lab.toml. A metric's key is a minimum or a maximum, as the metric's nature is;
the others are switches and limits of a release. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

# True where more is better.
METRICS = {
    "accuracy": True, "balanced_accuracy": True, "macro_f1": True, "auroc": True, "average_precision": True, "r2": True,
    "log_loss": False, "mae": False, "rmse": False, "nasa_score": False,
}  # fmt: skip
SETTINGS = {"beat_baseline", "beat_champion", "max_metric_drop", "min_agreement", "ship_baseline"}
# The metric that a model must win on, by task.
LEADING = {"classification": "accuracy", "regression": "rmse", "rul": "rmse", "anomaly": "macro_f1"}
# What is shipped unless a baseline is.
MODEL = "model"


@dataclass(frozen=True)
class Decision:
    """Passed, or every reason why not; `ship` is what goes on: the model, or the baseline of that name."""

    passed: bool
    reasons: list[str]
    ship: str = MODEL


def decide(report: Mapping[str, Any], thresholds: Mapping[str, Any]) -> Decision:
    """The quality gate: a report's test figures against thresholds, baselines and champion.

    A figure that is missing or not a number misses its threshold, and so does a threshold that no one knows:
    a misspelt criterion must not be a criterion fewer. Where a baseline is better than the model, `ship_baseline` lets
    the best one stand for it: then its figures have to meet the thresholds.
    """
    figures = report["metrics"]["test"]
    leading = LEADING[report["task"]]
    baselines = report["metrics"].get("baseline") or {}
    ship, beaten = MODEL, []
    if thresholds.get("beat_baseline", False):
        beaten = [
            line
            for name, other in sorted(baselines.items())
            for line in _beaten(leading, figures, other, f"the baseline {name}")
        ]
        if not baselines:
            beaten.append("beat_baseline is set, but the report has no baseline")
        best = best_of(baselines, leading)
        if beaten and best is not None and thresholds.get("ship_baseline", False):
            unshippable = report.get("unshippable")
            ship, figures, beaten = best, baselines[best], [f"{best} cannot ship: {unshippable}"] if unshippable else []
    reasons = [
        f"{name} is no criterion; there are {', '.join([*METRICS, *sorted(SETTINGS)])}"
        for name in sorted(set(thresholds) - set(METRICS) - SETTINGS)
    ]
    reasons += [
        line for name, limit in sorted(thresholds.items()) if name in METRICS for line in _limit(name, figures, limit)
    ]
    reasons += beaten
    champion = report["metrics"].get("champion")
    if thresholds.get("beat_champion", False) and champion:
        reasons += _beaten(leading, figures, champion, "the champion")
    return Decision(not reasons, reasons, ship)


def best_of(models: Mapping[str, Mapping[str, Any]], metric: str) -> str | None:
    """The name of the model with the best figure, None when no one has a finite one."""
    values = {name: figures.get(metric) for name, figures in models.items()}
    finite = {name: value for name, value in values.items() if _number(value)}
    if not finite:
        return None
    return (max if METRICS[metric] else min)(finite, key=lambda name: finite[name])


def decide_release(export: Mapping[str, Any], thresholds: Mapping[str, Any], targets: Mapping[str, Any]) -> Decision:
    """The release gate: the chosen artefact of every target against the limits of a release.

    `export` is a release's manifest, `targets` the `[targets]` table.
    """
    reasons: list[str] = []
    for name, target in sorted(targets.items()):
        rows = [row for row in export["artifacts"] if row["target"] == name]
        chosen = [row for row in rows if row.get("chosen")]
        if not chosen:
            why = "; ".join(str(row.get("skipped")) for row in rows) or "nothing was exported for it"
            reasons.append(f"{name}: no artefact: {why}")
            continue
        reasons += _artifact(name, chosen[0], thresholds, target)
    return Decision(not reasons, reasons)


def _artifact(name: str, row: Mapping[str, Any], thresholds: Mapping[str, Any], target: Mapping[str, Any]) -> list[str]:
    limits = (
        ("agreement", thresholds.get("min_agreement"), True, "min_agreement"),
        ("metric_drop", thresholds.get("max_metric_drop"), False, "max_metric_drop"),
        ("p95_ms", target.get("p95_ms"), False, "p95_ms"),
    )
    reasons = []
    for key, limit, minimum, called in limits:
        if limit is not None and not _meets(row.get(key), float(limit), minimum):
            wanted = "at least" if minimum else "at most"
            reasons.append(
                f"{name} ({row['format']}): {key} is {_figure(row.get(key))}, {called} wants {wanted} {limit:g}"
            )
    return reasons


def _limit(name: str, figures: Mapping[str, Any], limit: float) -> list[str]:
    more = METRICS[name]
    if _meets(figures.get(name), float(limit), more):
        return []
    wanted = f"{'at least' if more else 'at most'} {limit:g}"
    return [f"{name} is {_figure(figures.get(name))}{_interval(name, figures)}, wanted is {wanted}"]


def _beaten(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], who: str) -> list[str]:
    """Better by the figure itself; a tie is no win."""
    mine, other = ours.get(name), theirs.get(name)
    if _number(mine) and _number(other) and (mine > other if METRICS[name] else mine < other):
        return []
    return [f"{name} is {_figure(mine)}{_interval(name, ours)}, {who} has {_figure(other)}{_interval(name, theirs)}"]


def _meets(value: Any, limit: float, minimum: bool) -> bool:
    return _number(value) and (value >= limit if minimum else value <= limit)


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "not measured"


def _interval(name: str, figures: Mapping[str, Any]) -> str:
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return f" [{low:.4g}, {high:.4g}]" if low is not None and high is not None else ""
