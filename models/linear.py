"""The straight-line baselines: logistic and ridge regression.

N samples   K classes
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

Floats = npt.NDArray[np.float64]
Rows = tuple[Floats, npt.NDArray[np.float64] | npt.NDArray[np.int64]]
Answer = Callable[[Floats], Floats]

# Regularisation, chosen on the validation split as a careful person would.
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
# So wide a table, an image's pixels above all, is fitted with strong regularisation only: the rest never wins there.
WIDE, STRONG = 256, 3
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
# More rows than this make a line no better, only slower.
ROWS = 50_000
CATEGORIES = 100


def logistic(train: Rows, validation: Rows, categories: Sequence[bool], count: int) -> Answer:
    """Probabilities [N, K] of the strength that is right most often on the validation split."""
    inputs, labels = _some(train)
    if len(np.unique(labels)) < 2:  # scikit-learn fits no line to a single class
        only = np.eye(count)[int(labels[0])]
        return lambda rows: np.tile(only, (len(rows), 1))
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

    return answer


def ridge(train: Rows, validation: Rows, categories: Sequence[bool]) -> Answer:
    """Values [N, 1] of the penalty with the smallest error on the validation split."""
    inputs, labels = _some(train)
    prepare = _prepared(categories)
    scaled, held = prepare.fit_transform(inputs), prepare.transform(validation[0])
    fitted = []
    for penalty in PENALTIES:
        model = Ridge(alpha=penalty).fit(scaled, labels)
        fitted.append((float(np.square(model.predict(held) - validation[1]).mean()), -penalty, model))
    best = min(fitted, key=lambda row: row[:2])[2]
    return lambda rows: np.asarray(best.predict(prepare.transform(rows)), np.float64).reshape(-1, 1)


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


def _some(rows: Rows) -> Rows:
    if len(rows[1]) <= ROWS:
        return rows
    chosen = np.random.default_rng(0).choice(len(rows[1]), ROWS, replace=False)
    return rows[0][chosen], rows[1][chosen]
