"""The straight-line baselines: logistic and ridge regression.

N samples   K classes
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from models.fitted import Fitted, Parts, constant

Floats = npt.NDArray[np.float64]
Rows = tuple[Floats, npt.NDArray[np.float64] | npt.NDArray[np.int64]]

# Regularisation, chosen on the validation split as a careful person would.
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
# So wide a table, an image's pixels above all, is fitted with strong regularisation only: the rest never wins there.
WIDE, STRONG = 256, 3
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
# More rows than this make a line no better, only slower.
ROWS = 50_000
CATEGORIES = 100


def logistic(train: Rows, validation: Rows, categories: Sequence[bool], count: int) -> Fitted:
    """Probabilities [N, K] of the strength that is right most often on the validation split."""
    inputs, labels = _some(train)
    if len(np.unique(labels)) < 2:  # scikit-learn fits no line to a single class
        return constant(np.eye(count)[int(labels[0])])
    prepare = _prepared(categories)
    scaled, held = prepare.fit_transform(inputs), prepare.transform(validation[0])
    fitted = []
    for strength in STRENGTHS[:STRONG] if scaled.shape[1] > WIDE else STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=300)
        with warnings.catch_warnings():
            # Stopping early regularises too; the validation split judges what came out.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled, labels)
        fitted.append((model.score(held, validation[1]), -strength, model))
    best = max(fitted, key=lambda row: row[:2])[2]

    def answer(rows: Floats) -> Floats:
        result = np.zeros((len(rows), count))
        result[:, best.classes_.astype(int)] = best.predict_proba(prepare.transform(rows))
        return result

    def parts() -> Parts:
        seen = best.classes_.astype(int)
        places = np.full(count, len(seen), np.int64)  # beyond the last: never seen
        places[seen] = np.arange(len(seen))
        return {**_parts(prepare, best.coef_, best.intercept_), "places": places}

    return Fitted(answer, "linear", parts)


def ridge(train: Rows, validation: Rows, categories: Sequence[bool]) -> Fitted:
    """Values [N, 1] of the penalty with the smallest error on the validation split."""
    inputs, labels = _some(train)
    prepare = _prepared(categories)
    scaled, held = prepare.fit_transform(inputs), prepare.transform(validation[0])
    fitted = []
    for penalty in PENALTIES:
        model = Ridge(alpha=penalty).fit(scaled, labels)
        fitted.append((float(np.square(model.predict(held) - validation[1]).mean()), -penalty, model))
    best = min(fitted, key=lambda row: row[:2])[2]

    def answer(rows: Floats) -> Floats:
        return np.asarray(best.predict(prepare.transform(rows)), np.float64).reshape(-1, 1)

    return Fitted(answer, "linear", lambda: _parts(prepare, best.coef_, best.intercept_))


def _prepared(categories: Sequence[bool]) -> ColumnTransformer:
    """Numbers: the median for a missing one, a flag, then scaled. Categories: a column each, rare ones joined."""
    mask = np.array(categories, bool)
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    code = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=CATEGORIES, sparse_output=False)
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(impute, StandardScaler()), np.flatnonzero(~mask)),
            ("categories", code, np.flatnonzero(mask)),
        ],
        sparse_threshold=0.0,
    )


def _parts(prepare: ColumnTransformer, coefficients: Any, intercept: Any) -> Parts:
    """Preparation and line in one: columns, what fills them, weights [columns, O], a row of `table` per category."""
    weights = np.atleast_2d(np.asarray(coefficients, np.float64)).T
    places = {name: columns for name, _, columns in prepare.transformers_}
    numbers, categories = (np.asarray(places.get(name, []), np.int64) for name in ("numbers", "categories"))
    found: dict[str, Any] = {"bias": np.asarray(intercept, np.float64).reshape(-1)}
    start = 0
    if len(numbers):
        impute, scale = (step for _, step in prepare.named_transformers_["numbers"].steps)
        start = len(scale.scale_)
        scaled = weights[:start] / scale.scale_[:, None]
        flag = np.zeros((len(numbers), weights.shape[1]))
        flag[impute.indicator_.features_] = scaled[len(numbers) :]
        found["bias"] = found["bias"] - scale.mean_[len(numbers) :] @ scaled[len(numbers) :]
        found |= {"numbers": numbers, "fill": np.nan_to_num(impute.statistics_), "centre": scale.mean_[: len(numbers)]}
        found |= {"weight": scaled[: len(numbers)], "flag": flag}
    if len(categories):
        found |= {"categories": categories, **_tables(prepare.named_transformers_["categories"], weights[start:])}
    return found


def _tables(code: OneHotEncoder, weights: Floats) -> dict[str, Any]:
    """What each value of each category adds; the last rows of a column are an unknown and a missing one's."""
    nothing = np.full((1, len(code.categories_)), np.nan)
    missing = code.transform(nothing) @ weights
    tables = []
    for place, values in enumerate(code.categories_):
        known = np.asarray(values, np.float64)[~np.isnan(np.asarray(values, np.float64))]
        rows = np.repeat(nothing, int(known.max(initial=0)) + 3, axis=0)
        rows[:-1, place] = np.arange(len(rows) - 1)
        # What the other columns add is taken off, but once: the first column keeps it.
        tables.append(code.transform(rows) @ weights - (missing if place else 0.0))
    sizes = np.array([len(table) - 1 for table in tables], np.int64)
    return {"table": np.concatenate(tables), "size": sizes, "offset": np.cumsum(sizes + 1) - (sizes + 1)}


def _some(rows: Rows) -> Rows:
    if len(rows[1]) <= ROWS:
        return rows
    chosen = np.random.default_rng(0).choice(len(rows[1]), ROWS, replace=False)
    return rows[0][chosen], rows[1][chosen]
