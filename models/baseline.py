"""What a model must beat, by task: from the most frequent class to gradient boosting.

All are fitted on the training split in the same run, tuned on the validation split, and answer the same test samples as
the net.

N samples   K classes   F columns   T steps
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models import boosting, linear, threshold, window_features
from models.contract import Contract
from models.fitted import Answer, Fitted, Floats, Parts, constant

Tensors = npt.NDArray[Any]
Split = tuple[Tensors, npt.NDArray[Any]]

# A side of more than this is averaged down: logistic regression gains nothing from more, and takes minutes.
SIDE = 24


def answers(contract: Contract, train: Split, validation: Split, test: Tensors) -> dict[str, Floats]:
    """What each baseline answers for the raw test tensors: probabilities [N, K], or values [N, 1]."""
    return {name: answer(test) for name, answer in fit(contract, train, validation).items()}


def fit(contract: Contract, train: Split, validation: Split) -> dict[str, Fitted]:
    """Each baseline of the contract's task by its name; a split is raw tensors and labels."""
    if contract.task == "anomaly":
        return _detectors(contract, train, validation)
    columns = functools.partial(_columns, contract)
    learned, held = (columns(train[0]), train[1]), (columns(validation[0]), validation[1])
    categories = _categories(contract, learned[0].shape[1])

    def seen(fitted: Fitted) -> Fitted:
        """From raw tensors, as the fit is from columns."""
        step = {"step": _step(contract.shape)} if contract.modality == "image" else {}
        return Fitted(lambda tensors: fitted(columns(tensors)), fitted.form, lambda: {**fitted.parts(), **step})

    if contract.categorical:
        count = len(contract.classes)
        shares = (np.bincount(train[1], minlength=count) + 1) / (len(train[1]) + count)  # Laplace: never certain
        found = {"majority": constant(shares)}
        found["logistic_regression"] = seen(linear.logistic(learned, held, categories, count))
        if contract.modality != "image":
            found["gradient_boosting"] = seen(boosting.classifier(learned, held, categories, count))
        return found
    found = _constants(contract, train, validation)
    found["ridge"] = seen(linear.ridge(learned, held, categories))
    found["gradient_boosting"] = seen(boosting.regressor(learned, held, categories))
    return {
        name: dataclasses.replace(fitted, answer=functools.partial(_capped, contract, fitted.answer))
        for name, fitted in found.items()
    }


def _constants(contract: Contract, train: Split, validation: Split) -> dict[str, Fitted]:
    """Answers that need no fit: the mean, the mean life, and a series' own last value."""
    assert contract.target is not None
    mean = float(train[1].mean())
    if contract.task == "rul":
        return {"mean_life": _mean_life(contract, train, validation, mean)}
    found = {"mean": constant(np.array([mean]))}
    names = [column.name for column in contract.columns]
    if contract.modality == "timeseries" and contract.target.name in names:
        found["last_value"] = _last(names.index(contract.target.name), 1.0, 0.0, mean)
    return found


def _mean_life(contract: Contract, train: Split, validation: Split, mean: float) -> Fitted:
    """The mean life less the age, where the time is a column and validation says that it helps; else the mean rest."""
    names = [column.name for column in contract.columns]
    rest = constant(np.array([mean]))
    if contract.time not in names:
        return rest
    place = names.index(contract.time)
    uncapped = train[1] < (contract.target.cap if contract.target and contract.target.cap else np.inf)
    ages = window_features.last(train[0][:, :, [place]])[:, 0]
    lives = (ages + train[1])[uncapped & ~np.isnan(ages)]
    if not len(lives):
        return rest

    def missed(fitted: Fitted) -> float:
        return float(np.square(_capped(contract, fitted, validation[0])[:, 0] - validation[1]).mean())

    return min((rest, _last(place, -1.0, float(lives.mean()), mean)), key=missed)


def _last(place: int, factor: float, offset: float, instead: float) -> Fitted:
    """`factor` times the last value of the column at `place`, plus `offset`; `instead` where it is missing."""

    def answer(tensors: Tensors) -> Floats:
        values = factor * window_features.last(tensors[:, :, [place]]) + offset
        return np.where(np.isnan(values), instead, values)

    numbers = {"factor": factor, "offset": offset, "instead": instead}
    return Fitted(
        answer, "last", lambda: {"place": np.array([place]), **{name: np.array(v) for name, v in numbers.items()}}
    )


def _detectors(contract: Contract, train: Split, validation: Split) -> dict[str, Fitted]:
    """Scores that need no net, each with its threshold from the validation split."""
    normal = train[0][train[1] == 0] if (train[1] == 0).any() else train[0]
    scores = _picture_scores(normal) if contract.modality == "image" else _window_scores(contract, normal)
    return {name: _detector(name, *score, normal, validation) for name, score in scores.items()}


def _detector(name: str, score: Answer, parts: Parts, normal: Tensors, validation: Split) -> Fitted:
    cut, scale = threshold.fit(validation[1], score(validation[0]), score(normal))
    return Fitted(
        lambda tensors: threshold.probabilities(score(tensors), cut, scale),
        name,
        lambda: {**parts, "threshold": np.array(cut, np.float64), "scale": np.array(scale, np.float64)},
    )


def _picture_scores(normal: Tensors) -> dict[str, tuple[Answer, Parts]]:
    mean = normal.mean(axis=0, dtype=np.float64)
    spread = normal.std(axis=0, dtype=np.float64)
    spread = np.maximum(spread, max(0.1 * float(spread.mean()), 1.0))

    def distance(tensors: Tensors) -> Floats:
        parts = np.split(tensors, range(256, len(tensors), 256))
        found = [np.square((part - mean) / spread).reshape(len(part), -1).mean(axis=1) for part in parts]
        return np.asarray(np.log(np.concatenate(found) + 1e-6), np.float64)

    return {"mean_image": (distance, {"mean": mean, "spread": spread})}


def _window_scores(contract: Contract, normal: Tensors) -> dict[str, tuple[Answer, Parts]]:
    numbers = [place for place, column in enumerate(contract.columns) if column.values is None]
    mean, std = (np.array(values)[numbers] for values in (contract.mean, contract.std))
    steps = np.abs(np.diff(normal[:, :, numbers].astype(np.float64), axis=1))
    usual = np.sqrt(np.nan_to_num(_mean(np.square(steps).reshape(-1, len(numbers)))))
    usual = np.where(usual > 0, usual, std)

    def furthest(tensors: Tensors) -> Floats:
        return _largest(np.abs((tensors[:, :, numbers] - mean) / std))

    def jump(tensors: Tensors) -> Floats:
        return _largest(np.abs(np.diff(tensors[:, :, numbers].astype(np.float64), axis=1)) / usual)

    places = np.array(numbers, np.int64)
    return {
        "z_score": (furthest, {"numbers": places, "mean": mean, "std": std}),
        "persistence": (jump, {"numbers": places, "usual": usual}),
    }


def _mean(values: Floats) -> Floats:
    """Of each column, missing ones left out; NaN for a column of nothing else."""
    there = ~np.isnan(values)
    return np.where(
        there.any(axis=0), np.where(there, values, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1), np.nan
    )


def _largest(values: npt.NDArray[np.floating]) -> Floats:
    """The logarithm of each window's largest value, of 0 where all is missing: [N, ...] -> [N]."""
    flat = np.where(np.isnan(values), 0.0, values).reshape(len(values), -1)
    largest = flat.max(axis=1) if flat.shape[1] else np.zeros(len(values))
    return np.asarray(np.log(largest + 1e-6), np.float64)


def _capped(contract: Contract, answer: Answer, tensors: Tensors) -> Floats:
    """As the net's answers: a remaining life is neither below 0 nor above the cap."""
    cap = contract.target.cap if contract.target else None
    return answer(tensors) if cap is None else np.clip(answer(tensors), 0.0, cap)


def _columns(contract: Contract, tensors: Tensors) -> Floats:
    """Raw tensors as rows for scikit-learn, float64 [N, features]."""
    if contract.modality == "image":
        return _flat(tensors)
    if contract.modality == "tabular":
        return tensors.astype(np.float64)
    return window_features.rows(tensors, contract)[0]


def _categories(contract: Contract, width: int) -> list[bool]:
    """Which of those columns are categories."""
    if contract.modality == "tabular":
        return [column.values is not None for column in contract.columns]
    last = sum(column.values is not None for column in contract.columns)
    return [False] * (width - last) + [True] * last


def _flat(pixels: Tensors) -> Floats:
    """uint8 [N, C, H, W] -> [N, C*h*w], 0..1, planes averaged down to at most SIDE."""
    step = _step(pixels.shape[1:])
    n, c, height, width = pixels.shape
    planes = pixels[:, :, : height - height % step, : width - width % step].astype(np.float32) / 255.0
    small = planes.reshape(n, c, height // step, step, width // step, step).mean((3, 5))
    return np.ascontiguousarray(small.reshape(n, -1), np.float64)


def _step(shape: Sequence[int]) -> int:
    """Pixels a side that become one; a plane that is narrower stays as it is."""
    step = -(-max(shape[1:]) // SIDE)
    return step if min(shape[1:]) >= step else 1
