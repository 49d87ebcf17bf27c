"""What an evaluation shows beside its figures: mistakes, samples, slices, scatter.

N samples   K classes   T steps   F columns
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.contract import Contract

SHOWN_MISTAKES = 12
SHOWN_SAMPLES = 24
SHOWN_PAIRS = 500
SHOWN_SLICES = 10
# A slice of fewer samples says nothing.
SLICE = 5
# Points of a window's line.
POINTS = 120
# Columns of a row that are listed.
COLUMNS = 30
# Small pictures are shown larger, pixel by pixel.
SHOWN_SIDE = 64

Tensors = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def worst(contract: Contract, tensors: Tensors, labels: Tensors, sources: list[str], ours: Floats) -> list[Any]:
    """The mistakes made with most confidence; of numbers the largest errors."""
    if not contract.categorical:
        errors = np.abs(ours[:, 0] - labels)
        return [
            {
                "source": sources[i], "label": float(labels[i]), "predicted": float(ours[i, 0]),
                "error": float(ours[i, 0] - labels[i]), **look(contract, tensors[i]),
            }
            for i in np.argsort(-errors, kind="stable")[:SHOWN_MISTAKES]
        ]  # fmt: skip
    predicted, confidence = ours.argmax(1), ours.max(1)
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN_MISTAKES]
    return [
        {
            "source": sources[i], "label": contract.classes[labels[i]], "predicted": contract.classes[predicted[i]],
            "confidence": float(confidence[i]), **look(contract, tensors[i]),
        }
        for i in order
    ]  # fmt: skip


def samples(contract: Contract, tensors: Tensors, labels: Tensors) -> list[dict[str, Any]]:
    """Some of every class, in turn; of numbers some from the smallest to the largest."""
    if not contract.categorical:
        order = np.argsort(labels, kind="stable")
        chosen = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN_SAMPLES, len(order))).astype(int))]
        return [{"label": float(labels[i]), **look(contract, tensors[i])} for i in chosen]
    places = [np.flatnonzero(labels == k) for k in range(len(contract.classes))]
    turns = [place[turn] for turn in range(SHOWN_SAMPLES) for place in places if turn < len(place)]
    return [{"label": contract.classes[labels[i]], **look(contract, tensors[i])} for i in turns[:SHOWN_SAMPLES]]


def look(contract: Contract, tensor: Tensors) -> dict[str, Any]:
    """What a person sees of one sample: `png_base64`, `values` by column, or the first column's `window`."""
    if contract.modality == "image":
        return {"png_base64": png(tensor)}
    if contract.modality == "tabular":
        cells = zip(contract.columns[:COLUMNS], tensor, strict=False)
        return {"values": {column.name: _cell(column.values, float(value)) for column, value in cells}}
    steps = np.unique(np.linspace(0, len(tensor) - 1, min(POINTS, len(tensor))).astype(int))
    line = [_cell(None, float(value)) for value in tensor[steps, 0]]
    return {"column": contract.columns[0].name, "window": line}


def _cell(values: Sequence[str] | None, value: float) -> float | str | None:
    """A number, a category's name, or None for a missing one."""
    if math.isnan(value):
        return None
    return value if values is None else values[int(value)]


def png(tensor: npt.NDArray[np.uint8]) -> str:
    """A tensor uint8 [C, H, W] as a PNG in base64, small ones enlarged."""
    image = Image.fromarray(tensor[0] if tensor.shape[0] == 1 else tensor.transpose(1, 2, 0))
    factor = max(1, SHOWN_SIDE // max(image.size))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def per_slice(contract: Contract, labels: Tensors, ours: Floats, groups: Sequence[str]) -> list[dict[str, Any]]:
    """The units on which the model does worst, by accuracy or RMSE; empty where the data know no units."""
    names, places = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    if len(names) < 2:
        return []
    count = np.bincount(places)
    if contract.categorical:
        figure = np.bincount(places, weights=ours.argmax(1) == labels) / count
        metric, order = "accuracy", np.argsort(figure, kind="stable")
    else:
        figure = np.sqrt(np.bincount(places, weights=np.square(ours[:, 0] - labels)) / count)
        metric, order = "rmse", np.argsort(-figure, kind="stable")
    told = [i for i in order if count[i] >= SLICE] or list(order)
    return [{"slice": str(names[i]), "samples": int(count[i]), metric: float(figure[i])} for i in told[:SHOWN_SLICES]]


def scatter(labels: Floats, values: Floats) -> list[list[float]]:
    """Pairs of truth and answer, a fixed draw of a large test set."""
    chosen = np.arange(len(labels))
    if len(labels) > SHOWN_PAIRS:
        chosen = np.sort(np.random.default_rng(0).choice(len(labels), SHOWN_PAIRS, replace=False))
    return [[float(labels[i]), float(values[i])] for i in chosen]


def residuals(labels: Floats, values: Floats, bins: int = 30) -> dict[str, list[float]]:
    """Histogram of answer less truth: `edges` and `counts`."""
    counts, edges = np.histogram(values - labels, bins=bins)
    return {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]}
