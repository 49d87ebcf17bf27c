"""Classification figures with bootstrap intervals, and two models compared in pairs.

    N samples   K classes   `labels` int [N], `probabilities` float [N, K]

Intervals are percentiles over resampled test sets (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.floating[Any]]

RESAMPLES = 300
PAIRED_RESAMPLES = 2000
LOW, HIGH = 2.5, 97.5
FLOOR = 1e-7


def figures(labels: Labels, probabilities: Probabilities, seed: int = 0) -> dict[str, float]:
    """Every metric by its key, with `<key>_low` and `<key>_high`.

    A metric that this test set cannot give, such as the AUROC of a class nobody has, is left out.
    """
    point = _measure(labels, probabilities)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in point}
    for _ in range(RESAMPLES):
        pick = rng.integers(0, len(labels), len(labels))
        for name, value in _measure(labels[pick], probabilities[pick]).items():
            if name in drawn:
                drawn[name].append(value)
    result: dict[str, float] = {}
    for name, value in point.items():
        low, high = np.percentile(drawn[name], [LOW, HIGH]) if drawn[name] else (value, value)
        result |= {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
    return result


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


def paired(labels: Labels, ours: Probabilities, theirs: Probabilities, seed: int = 0) -> dict[str, float]:
    """Accuracy of ours less theirs on the same samples, its interval, and the share of resamples not above 0."""
    gain = (ours.argmax(1) == labels).astype(np.float64) - (theirs.argmax(1) == labels)
    rng = np.random.default_rng(seed)
    # A resample of gains is a draw of how many are lost, equal and won.
    chances = [float((gain == value).mean()) for value in (-1.0, 0.0, 1.0)]
    counts = rng.multinomial(len(gain), chances, PAIRED_RESAMPLES)
    drawn = (counts[:, 2] - counts[:, 0]) / len(gain)
    low, high = np.percentile(drawn, [LOW, HIGH])
    return {
        "difference": float(gain.mean()), "difference_low": float(low), "difference_high": float(high),
        "p_not_better": float((drawn <= 0).mean()),
    }  # fmt: skip


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
