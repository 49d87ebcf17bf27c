"""Where a score is cut into yes and no, and how it becomes a probability.

N samples; labels 0 or 1, scores larger for 1
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Scores = npt.NDArray[np.floating]

# Without an anomaly to learn from, one normal sample in a hundred may raise an alarm.
PERCENTILE = 99.0


def best(labels: Labels, scores: Scores, *, macro: bool) -> float:
    """The cut with the largest F1 of class 1, or mean F1 of both; of equal ones the highest. Both classes must occur.

    It lies halfway between two scores; `score >= cut` is a yes.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, positive = scores[order].astype(np.float64), labels[order] == 1
    hits = np.cumsum(positive)
    called = np.arange(1, len(ranked) + 1)
    ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    yes, no = int(positive.sum()), int((~positive).sum())
    quality = 2 * hits / (called + yes)
    if macro:
        rejected = no - (called - hits)
        quality = (quality + 2 * rejected / (len(ranked) - called + no)) / 2
    place = int(ends[np.argmax(quality[ends])])
    below = ranked[place + 1] if place + 1 < len(ranked) else ranked[place] - 1.0
    return float((ranked[place] + below) / 2)


def fit(labels: Labels, scores: Scores, normal: Scores) -> tuple[float, float]:
    """Threshold and scale of `sigmoid((score - threshold) / scale)` from validation scores.

    The cut has the best macro-F1; with no anomaly there, or nothing normal, it is the percentile of the normal scores,
    of training's when validation has none. The scale makes the probabilities most likely, or is the normal scores'
    deviation.
    """
    quiet = scores[labels == 0] if (labels == 0).any() else normal
    deviation = max(float(quiet.std()), 1e-3)
    if len(np.unique(labels)) < 2:
        return float(np.percentile(quiet, PERCENTILE)), deviation
    cut = best(labels, scores, macro=True)
    scales = deviation * 2.0 ** np.arange(-3, 5)
    losses = [np.logaddexp(0.0, np.where(labels == 1, -1, 1) * (scores - cut) / scale).mean() for scale in scales]
    return cut, float(scales[int(np.argmin(losses))])


def probabilities(scores: Scores, cut: float, scale: float) -> npt.NDArray[np.float64]:
    """[N, 2] of normal and anomaly."""
    chance = 0.5 * (1 + np.tanh((scores.astype(np.float64) - cut) / scale / 2))
    return np.stack([1 - chance, chance], axis=1)
