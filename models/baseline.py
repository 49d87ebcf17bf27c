"""What a model must beat: the most frequent class, and logistic regression on the pixels.

Both are fitted on the training split in the same run and answer the same test samples as the net.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]

# Regularisation, chosen on the validation split as a careful person would.
STRENGTHS = (0.001, 0.01, 0.1)
# A side of more than this is averaged down: logistic regression gains nothing from more, and takes minutes.
SIDE = 24


def answers(
    train: tuple[Pixels, Labels], validation: tuple[Pixels, Labels], test: Pixels, count: int
) -> dict[str, Probabilities]:
    """Probabilities [N, K] of each baseline for the test pixels uint8 [N, C, H, W]; `count` is K."""
    return {
        "majority": _majority(train[1], len(test), count),
        "logistic_regression": _logistic_regression(train, validation, test, count),
    }


def _majority(labels: Labels, samples: int, count: int) -> Probabilities:
    """Everyone gets the training split's shares, one smoothing sample per class (Laplace)."""
    shares = (np.bincount(labels, minlength=count) + 1) / (len(labels) + count)
    return np.tile(shares, (samples, 1))


def _logistic_regression(
    train: tuple[Pixels, Labels], validation: tuple[Pixels, Labels], test: Pixels, count: int
) -> Probabilities:
    inputs, labels = _flat(train[0]), train[1]
    fitted = []
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        with warnings.catch_warnings():
            # Stopping early regularises too; the validation split judges what came out.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(inputs, labels)
        fitted.append((model.score(_flat(validation[0]), validation[1]), -strength, model))
    best = max(fitted, key=lambda row: row[:2])[2]
    result = np.zeros((len(test), count))
    result[:, best.classes_.astype(int)] = best.predict_proba(_flat(test))
    return result


def _flat(pixels: Pixels) -> npt.NDArray[np.float32]:
    """[N, C*h*w] float32 0..1, planes averaged down to at most SIDE."""
    step = -(-max(pixels.shape[2:]) // SIDE)
    height, width = (side - side % step for side in pixels.shape[2:])
    planes = pixels[:, :, :height, :width].astype(np.float32) / 255.0
    n, c = planes.shape[:2]
    small = planes.reshape(n, c, height // step, step, width // step, step).mean((3, 5))
    return np.ascontiguousarray(small.reshape(n, -1))
