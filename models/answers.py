"""Answers of a model as the client accepts them: JSON, CSV, or numpy's own format.

application/json    {"model_version", "predictions": [{"label", "index", "confidence", "uncertain", "probabilities"}]},
                    a prediction being {"value", "uncertain"} where the answer is a number; null for no number
text/csv            a header, then a line per sample: label, confidence, uncertain, a probability per class; or the
                    value and uncertain
application/x-npy   float32 [N, K] as the model gave it: probabilities, or values with K = 1

N samples   K classes, or 1 where the answer is a number
"""

from __future__ import annotations

import csv
import functools
import io
import json
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import numpy as np
import numpy.typing as npt

from models.contract import Contract
from models.payload import BadRequest

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
Floats = npt.NDArray[np.float32]
_encode = json.JSONEncoder(separators=(",", ":")).encode


def predictions(answers: Floats, contract: Contract) -> list[dict[str, Any]]:
    """One object per sample of answers [N, K]."""
    if not contract.categorical:
        values = answers[:, 0].tolist()
        return [
            {"value": value if math.isfinite(value) else None, "uncertain": contract.uncertain(value)}
            for value in values
        ]
    found = []
    for index, row in zip(answers.argmax(axis=1).tolist(), answers.tolist(), strict=True):
        best = row[index]
        if not math.isfinite(best):  # NaN is the largest wherever it stands
            row, best = [value if math.isfinite(value) else None for value in row], None
        found.append(
            {
                "label": contract.classes[index],
                "index": index,
                "confidence": best,
                "uncertain": best is None or contract.uncertain(best),
                "probabilities": row,
            }
        )
    return found


def as_json(answers: Floats, contract: Contract, version: str) -> bytes:
    """The JSON document of answers [N, K]."""
    return _encode({"model_version": version, "predictions": predictions(answers, contract)}).encode()


def as_csv(answers: Floats, contract: Contract, version: str) -> bytes:
    """The same as lines of text; the version is in the response's header."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    rows = predictions(answers, contract)
    if contract.categorical:
        writer.writerow(["label", "confidence", "uncertain", *(f"p_{name}" for name in contract.classes)])
        writer.writerows(
            [row["label"], row["confidence"], str(row["uncertain"]).lower(), *row["probabilities"]] for row in rows
        )
    else:
        writer.writerow(["value", "uncertain"])
        writer.writerows([row["value"], str(row["uncertain"]).lower()] for row in rows)
    return stream.getvalue().encode()


def as_npy(answers: Floats, contract: Contract, version: str) -> bytes:
    """The bare numbers; whoever asks for them applies the labels."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(answers, np.float32), allow_pickle=False)
    return stream.getvalue()


WRITERS: dict[str, Callable[[Floats, Contract, str], bytes]] = {JSON: as_json, CSV: as_csv, NPY: as_npy}


@functools.lru_cache(maxsize=256)
def form_of(accept: str) -> str:
    """The form that an Accept header prefers, JSON when it has no wish. Raises BadRequest, a 406, for none of ours."""
    wishes = [_wish(part) for part in accept.split(",") if part.strip()]
    ranked = sorted((wish for wish in wishes if wish[1] > 0), key=lambda wish: -wish[1])
    if not wishes:
        return JSON
    refused = {name for name, weight in wishes if weight <= 0}
    for name, _ in ranked:
        for form in WRITERS:
            if form not in refused and name in (form, "*/*", form.partition("/")[0] + "/*"):
                return form
    message = f"{accept[:100]}; there are {', '.join(WRITERS)}"
    raise BadRequest(HTTPStatus.NOT_ACCEPTABLE, "accept", message)


def _wish(part: str) -> tuple[str, float]:
    """A media range and its weight (RFC 9110, section 12.4.2); a weight that is none counts as 1."""
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = min(1.0, max(0.0, float(value)))
            except ValueError:
                weight = 1.0
    return name, weight
