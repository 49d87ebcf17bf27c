"""Classification figures with bootstrap intervals, and two models compared in pairs.

    N samples   K classes   `labels` int [N], `probabilities` float [N, K]

Intervals are percentiles over resampled test sets, see resample.py. Where no answer is wrong every resample agrees: the
accuracy's lower end is then the exact one of n successes in n trials, (alpha / 2) ** (1 / n) (Clopper, Pearson, 1934).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from models import resample
from models.resample import PAIRED, Groups

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.floating[Any]]

FLOOR = 1e-7


def figures(
    labels: Labels, probabilities: Probabilities, seed: int = 0, groups: Groups | None = None
) -> dict[str, float]:
    """Every metric by its key, with `<key>_low` and `<key>_high`.

    `groups` [N] names each sample's unit: whole units are resampled then. A metric that this test set cannot give, such
    as the AUROC of a class nobody has, is left out.
    """
    found = resample.intervals(lambda pick: _measure(labels[pick], probabilities[pick]), len(labels), groups, seed)
    return _nothing_wrong(found, len(labels), groups)


def confusion(labels: Labels, predicted: Labels, count: int) -> npt.NDArray[np.int64]:
    """[K, K] counts: rows are labels, columns answers."""
    return np.bincount(labels * count + predicted, minlength=count * count).reshape(count, count)


def per_class(matrix: npt.NDArray[np.int64], classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support of each class; 0.0 where nothing was answered or labelled."""
    hits, answered, labelled = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    precision = hits / np.maximum(answered, 1)
    recall = hits / np.maximum(labelled, 1)
    f1 = 2 * hits / np.maximum(answered + labelled, 1)
    rows = zip(classes, precision, recall, f1, labelled, strict=True)
    return [
        {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for name, p, r, f, n in rows
    ]


def paired(
    labels: Labels,
    ours: Probabilities,
    theirs: Probabilities,
    seed: int = 0,
    metric: str = "accuracy",
    groups: Groups | None = None,
) -> dict[str, Any]:
    """Accuracy, or macro-F1, of ours less theirs on the same samples: above 0 ours is better.

    With its interval, and the share of resamples where ours is not better.
    """
    count = ours.shape[1]
    mine, other = ours.argmax(1), theirs.argmax(1)
    gain: Callable[[Floats], Floats]
    if metric == "accuracy":
        place, cells, gain = (mine == labels).astype(np.int64) - (other == labels) + 1, 3, _gain_in_accuracy
    elif metric == "macro_f1":
        place, cells = (labels * count + mine) * count + other, count**3
        gain = functools.partial(_gain_in_f1, count=count)
    else:
        raise ValueError(f"pairs are compared by accuracy or macro_f1, not by {metric}")
    found = gain(np.bincount(place, minlength=cells)[None].astype(np.float64))
    return {"metric": metric, **resample.difference(float(found[0]), gain(_counts(place, cells, groups, seed)))}


def _counts(place: npt.NDArray[np.int64], cells: int, groups: Groups | None, seed: int) -> Floats:
    """How many samples lie in each cell, for every resample: [R, cells]."""
    units = resample.units(groups)
    rng = np.random.default_rng(seed)
    if units is None:
        shares = np.bincount(place, minlength=cells) / len(place)
        return rng.multinomial(len(place), shares, PAIRED).astype(np.float64)
    number = int(units.max()) + 1
    table = np.bincount(units * cells + place, minlength=number * cells).reshape(number, cells)
    return rng.multinomial(number, np.full(number, 1 / number), PAIRED).astype(np.float64) @ table


def _gain_in_accuracy(drawn: Floats) -> Floats:
    """[R, 3] counts of lost, equal and won -> accuracy of ours less theirs [R]."""
    return np.asarray((drawn[:, 2] - drawn[:, 0]) / drawn.sum(1), np.float64)


def _gain_in_f1(drawn: Floats, count: int) -> Floats:
    """[R, K*K*K] counts by label, our answer, their answer -> macro-F1 of ours less theirs [R]."""
    cube = drawn.reshape(-1, count, count, count)
    return _macro_f1(cube.sum(3)) - _macro_f1(cube.sum(2))


def _macro_f1(matrices: Floats) -> Floats:
    """Of confusion matrices [R, K, K], over the classes that occur."""
    hits, labelled = np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(2)
    f1 = 2 * hits / np.maximum(matrices.sum(1) + labelled, 1)
    there = labelled > 0
    return np.asarray(np.where(there, f1, 0.0).sum(1) / np.maximum(there.sum(1), 1), np.float64)


def at_threshold(
    positive: npt.NDArray[np.bool_], scores: Probabilities, cut: float, groups: Groups | None = None
) -> dict[str, float]:
    """Precision, recall and F1 of `score >= cut` for the positive samples, each with its interval."""

    def measure(pick: npt.NDArray[np.int64]) -> dict[str, float]:
        truth, called = positive[pick], scores[pick] >= cut
        hits, yes, wanted = int((truth & called).sum()), int(called.sum()), int(truth.sum())
        return {
            "precision": hits / max(yes, 1), "recall": hits / max(wanted, 1), "f1": 2 * hits / max(yes + wanted, 1),
            "accuracy": float((truth == called).mean()),
        }  # fmt: skip

    return _nothing_wrong(resample.intervals(measure, len(positive), groups), len(positive), groups)


def _nothing_wrong(found: dict[str, float], count: int, groups: Groups | None) -> dict[str, float]:
    """Gives the accuracy an honest lower end where no answer is wrong; units are the trials where there are units."""
    if found["accuracy"] == 1.0:
        units = resample.units(groups)
        found["accuracy_low"] = (resample.LOW / 100) ** (1 / (count if units is None else int(units.max()) + 1))
    return found


def calibration(labels: Labels, probabilities: Probabilities, bins: int = 10) -> dict[str, Any]:
    """Expected calibration error (Guo et al., On Calibration of Modern Neural Networks, 2017), and its bins."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    rows, error = [], 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            said, was = float(confidence[inside].mean()), float(right[inside].mean())
            error += abs(said - was) * float(inside.mean())
            rows.append({"confidence": said, "accuracy": was, "count": int(inside.sum())})
    return {"ece": error, "bins": rows}


def _measure(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    count = probabilities.shape[1]
    matrix = confusion(labels, probabilities.argmax(1), count)
    labelled = matrix.sum(1)
    there = labelled > 0
    hits = np.diag(matrix)
    chosen = np.clip(probabilities[np.arange(len(labels)), labels], FLOOR, 1.0)
    found = {
        "accuracy": float(hits.sum() / len(labels)),
        "balanced_accuracy": float((hits[there] / labelled[there]).mean()),
        "macro_f1": float((2 * hits / np.maximum(matrix.sum(0) + labelled, 1))[there].mean()),
        "log_loss": float(-np.log(chosen).mean()),
    }
    areas = _areas(labels, probabilities)
    if areas:
        found["auroc"] = float(np.mean(areas))
    if there.sum() > 1:
        found["average_precision"] = float(
            np.mean([_precision(labels == k, probabilities[:, k]) for k in np.flatnonzero(there)])
        )
    return found


def _areas(labels: Labels, probabilities: Probabilities) -> list[float]:
    """One against the rest, by ranks: the Mann-Whitney statistic."""
    areas = []
    for k in range(probabilities.shape[1]):
        positive = labels == k
        n, m = int(positive.sum()), int((~positive).sum())
        if n and m:
            ordered, scores = np.sort(probabilities[:, k]), probabilities[positive, k]
            # Equal scores share the mean of their ranks.
            ranks = (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right") + 1) / 2
            areas.append((float(ranks.sum()) - n * (n + 1) / 2) / (n * m))
    return areas


def _precision(positive: npt.NDArray[np.bool_], score: Probabilities) -> float:
    """Average precision of one class, equal scores taken together; as scikit-learn defines it, without its overhead."""
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(positive[order])
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    recall = np.diff(hits[ends] / hits[-1], prepend=0.0)
    return float((recall * hits[ends] / (ends + 1)).sum())
