"""The baseline that is hard to beat on tables: gradient-boosted trees.

N samples   K classes
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from models import trees
from models.fitted import Fitted, Parts, constant

Floats = npt.NDArray[np.float64]
Rows = tuple[Floats, npt.NDArray[np.float64] | npt.NDArray[np.int64]]

# What is tried: few leaves and small leaves suit little data, many and slow steps suit much.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"learning_rate": 0.1, "max_leaf_nodes": 31, "min_samples_leaf": 20},
    {"learning_rate": 0.05, "max_leaf_nodes": 15, "min_samples_leaf": 20, "l2_regularization": 1.0},
    {"learning_rate": 0.1, "max_leaf_nodes": 7, "min_samples_leaf": 5, "l2_regularization": 1.0},
)
ROUNDS = 400
# A tree per class and round: many classes get fewer rounds.
TREES = 1200
# Rows that are learned from, at most: more takes minutes and changes the third digit.
ROWS = 200_000
# A category of more values than a histogram has bins is taken as a number.
BINS = 255
FLOOR = 1e-9


def classifier(train: Rows, validation: Rows, categories: Sequence[bool], count: int) -> Fitted:
    """Probabilities [N, K] of the setting that finds the validation labels most likely."""
    inputs, labels = _some(train)
    if len(np.unique(labels)) < 2:
        return constant(np.eye(count)[int(labels[0])])
    known = np.isin(validation[1], labels)
    rounds = max(20, min(ROUNDS, TREES // (count if count > 2 else 1)))

    def fitted(setting: dict[str, Any]) -> tuple[float, Any]:
        model = HistGradientBoostingClassifier(**_given(setting, inputs, categories, rounds, known))
        model.fit(inputs, labels, **_held(validation, known))
        found = _wide(model, validation[0], count)[np.arange(len(validation[1])), validation[1]]
        return float(-np.log(np.maximum(found, FLOOR)).mean()), model

    best = min((fitted(setting) for setting in SETTINGS), key=lambda row: row[0])[1]

    def parts() -> Parts:
        seen = best.classes_.astype(int)
        places = np.full(count, len(seen), np.int64)  # beyond the last: never seen
        places[seen] = np.arange(len(seen))
        return {**trees.parts(best), "places": places}

    return Fitted(lambda rows: _wide(best, rows, count), "trees", parts)


def regressor(train: Rows, validation: Rows, categories: Sequence[bool]) -> Fitted:
    """Values [N, 1] of the setting with the smallest error on the validation split."""
    inputs, labels = _some(train)
    known = np.full(len(validation[1]), True)

    def fitted(setting: dict[str, Any]) -> tuple[float, Any]:
        model = HistGradientBoostingRegressor(**_given(setting, inputs, categories, ROUNDS, known))
        model.fit(inputs, labels, **_held(validation, known))
        return float(np.square(model.predict(validation[0]) - validation[1]).mean()), model

    best = min((fitted(setting) for setting in SETTINGS), key=lambda row: row[0])[1]

    def answer(rows: Floats) -> Floats:
        return np.asarray(best.predict(rows), np.float64).reshape(-1, 1)

    return Fitted(answer, "trees", lambda: trees.parts(best))


def _given(
    setting: dict[str, Any], inputs: Floats, categories: Sequence[bool], rounds: int, known: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    largest = np.where(np.isnan(inputs), 0.0, inputs).max(axis=0)
    mask = [bool(category and top < BINS) for category, top in zip(categories, largest, strict=True)]
    return {
        **setting, "max_iter": rounds, "random_state": 0, "early_stopping": bool(known.any()), "n_iter_no_change": 20,
        "categorical_features": mask if any(mask) else None,
    }  # fmt: skip


def _held(validation: Rows, known: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """The validation split on which rounds stop; labels that training never saw cannot be scored there."""
    return {"X_val": validation[0][known], "y_val": validation[1][known]} if known.any() else {}


def _wide(model: Any, rows: Floats, count: int) -> Floats:
    """A class that training never saw has probability 0."""
    result = np.zeros((len(rows), count))
    result[:, model.classes_.astype(int)] = model.predict_proba(rows)
    return result


def _some(rows: Rows) -> Rows:
    if len(rows[1]) <= ROWS:
        return rows
    chosen = np.random.default_rng(0).choice(len(rows[1]), ROWS, replace=False)
    return rows[0][chosen], rows[1][chosen]
