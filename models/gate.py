"""Measured figures against the signed success criteria, a reason for each one missed.

Thresholds are the `[gate]` table of lab.toml. A metric's key is a minimum or a maximum, as the metric's nature is;
the others are switches and limits of a release. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
# CPU time by wall time beyond which a single-threaded candidate was not: a clock's noise stays below.
BUSY = 1.05
# How far the slope of an artefact's logits may be from 1, and their relative L2 distance from the trained model's.
# Careful 8-bit ranges gave 0.02 to 0.06, careless ones 0.2 to 0.4.
SLOPE, DISTANCE = 0.1, 0.15
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
            told = (f"{row['format']}: {row.get('skipped') or row.get('dropped')}" for row in rows)
            why = "; ".join(told) or "nothing was exported for it"
            reasons.append(f"{name}: no artefact: {why}")
            continue
        reasons += _artifact(name, chosen[0], thresholds, target)
    return Decision(not reasons, reasons)


def drops(row: Mapping[str, Any], thresholds: Mapping[str, Any], target: Mapping[str, Any]) -> list[str]:
    """Why a measured candidate must not ship to a target, in words; empty for one that may.

    `row` is one of a release's manifest, `target` its table in `[targets]`.
    """
    reasons = [text for _, text in _missed(row, thresholds, target)]
    share, threads = row.get("cpu_per_wall"), int(target.get("threads", 1))
    if _number(share) and share > threads * BUSY:
        reasons.append(f"it used {share:.2f} cores where the target gives it {threads}")
    if row["format"] not in target.get("formats", [row["format"]]):
        reasons.append("not among [targets.X] formats".replace("X", str(row["target"])))
    return reasons


def missed(row: Mapping[str, Any], thresholds: Mapping[str, Any], target: Mapping[str, Any]) -> list[str]:
    """The figures by which a measured candidate misses the limits of a release, by their names."""
    return [key for key, _ in _missed(row, thresholds, target)]


def _artifact(name: str, row: Mapping[str, Any], thresholds: Mapping[str, Any], target: Mapping[str, Any]) -> list[str]:
    return [f"{name} ({row['format']}): {text}" for _, text in _missed(row, thresholds, target)]


def _missed(
    row: Mapping[str, Any], thresholds: Mapping[str, Any], target: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """The limits of a release that an artefact misses: key, and the figure beside what is wanted."""
    limits = (
        ("agreement", thresholds.get("min_agreement"), True, "min_agreement"),
        ("metric_drop", thresholds.get("max_metric_drop"), False, "max_metric_drop"),
        ("p95_ms", target.get("p95_ms"), False, "p95_ms"),
        ("peak_mb", target.get("memory_mb"), False, "memory_mb"),
        ("disk_mb", target.get("disk_mb"), False, "disk_mb"),
    )
    figures = {**row, "disk_mb": _disk(row)}
    for key, limit, minimum, called in limits:
        # A release that was written before memory and disk were measured has no such figures.
        if limit is None or (key in ("peak_mb", "disk_mb") and figures.get(key) is None):
            continue
        low = row.get("metric_drop_low")
        if key == "metric_drop" and _number(low) and low <= 0:
            continue  # chance explains it: the paired 95 % interval holds no loss at all
        if not _meets(figures.get(key), float(limit), minimum):
            wanted = "at least" if minimum else "at most"
            yield key, f"{key} is {_figure(figures.get(key))}, {called} wants {wanted} {limit:g}"
    yield from _distorted(row)


def _distorted(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What agreement does not show: logits that shrank or grew make a sure answer doubtful, or a doubtful one sure."""
    slope, distance = row.get("logit_slope"), row.get("logit_l2")
    if slope is not None and not (_number(slope) and abs(slope - 1) <= SLOPE):
        yield "logit_slope", f"logit_slope is {_figure(slope)}, wanted is 1 within {SLOPE:g}"
    elif distance is not None and not _meets(distance, DISTANCE, False):
        yield "logit_l2", f"logit_l2 is {_figure(distance)}, wanted is at most {DISTANCE:g}"


def _disk(row: Mapping[str, Any]) -> float | None:
    """Megabytes of an artefact and of what must be installed beside it."""
    beside = row.get("install_mb")
    return beside + row["bytes"] / 1e6 if _number(beside) else None


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
