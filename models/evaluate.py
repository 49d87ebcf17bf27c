"""The trained net on the test split, against the baselines and the champion.

Writes `report.json`, which the gate, the report page and the notebook read.
"""

from __future__ import annotations

import base64
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import nn

from models import baseline, curated, metrics, net
from models.contract import Contract

SHOWN_MISTAKES = 12
SHOWN_SAMPLES = 24
# Small pictures are shown larger, pixel by pixel.
SHOWN_SIDE = 64

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def evaluate(model_dir: Path, data: Path, champion_dir: Path | None, out: Path, run: str = "") -> dict[str, Any]:
    """Measures the model in `model_dir` on `data` (curated folder) and writes `out/report.json`; returns the report."""
    model, contract = net.load(model_dir)
    pixels, labels, sources = curated.read(data, "test")
    ours = answers(model, pixels)
    others = baseline.answers(
        curated.read(data, "train")[:2], curated.read(data, "validation")[:2], pixels, len(contract.classes)
    )
    champion = _champion(champion_dir, contract, pixels)
    rivals = {name: metrics.figures(labels, given) for name, given in others.items()}
    best = max(rivals, key=lambda name: rivals[name]["accuracy"])
    matrix = metrics.confusion(labels, ours.argmax(1), len(contract.classes))
    report: dict[str, Any] = {
        "schema": 1,
        "run": run,
        "dataset": contract.dataset,
        "modality": contract.modality,
        "task": contract.task,
        "classes": list(contract.classes),
        "counts": contract.document()["counts"],
        "metrics": {
            "test": metrics.figures(labels, ours),
            "baseline": rivals,
            "champion": metrics.figures(labels, champion) if champion is not None else None,
        },
        "paired": {
            "best_baseline": {"name": best, **metrics.paired(labels, ours, others[best])},
            "champion": metrics.paired(labels, ours, champion) if champion is not None else None,
        },
        "calibration": metrics.calibration(labels, ours),
        "confusion": matrix.tolist(),
        "per_class": metrics.per_class(matrix, contract.classes),
        "worst": _worst(contract, pixels, labels, sources, ours),
        "samples": _samples(contract, pixels, labels),
        "history": _history(model_dir),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report) + "\n", "utf-8")
    return report


def answers(model: nn.Module, pixels: Pixels) -> Floats:
    """The net's probabilities [N, K] for uint8 [N, C, H, W]."""
    return net.answers(model, pixels).astype(np.float64)


def _champion(folder: Path | None, contract: Contract, pixels: Pixels) -> Floats | None:
    """The champion's answers; None without one, or when it was trained for other classes or another shape."""
    if folder is None:
        return None
    model, theirs = net.load(folder)
    if theirs.classes != contract.classes or theirs.shape != contract.shape:
        log.warning(
            "the champion is not compared: it knows %s of shape %s, the data have %s of shape %s",
            *(", ".join(theirs.classes), list(theirs.shape), ", ".join(contract.classes), list(contract.shape)),
        )
        return None
    return answers(model, pixels)


def _history(model_dir: Path) -> list[dict[str, Any]]:
    path = model_dir / "history.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else []


def _worst(
    contract: Contract, pixels: Pixels, labels: npt.NDArray[np.int64], sources: list[str], ours: Floats
) -> list[dict[str, Any]]:
    """The mistakes made with most confidence."""
    predicted, confidence = ours.argmax(1), ours.max(1)
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN_MISTAKES]
    return [
        {
            "source": sources[i],
            "label": contract.classes[labels[i]],
            "predicted": contract.classes[predicted[i]],
            "confidence": float(confidence[i]),
            "png_base64": png(pixels[i]),
        }
        for i in order
    ]


def _samples(contract: Contract, pixels: Pixels, labels: npt.NDArray[np.int64]) -> list[dict[str, str]]:
    """Some of every class, in turn."""
    places = [np.flatnonzero(labels == k) for k in range(len(contract.classes))]
    turns = [place[turn] for turn in range(SHOWN_SAMPLES) for place in places if turn < len(place)]
    return [{"label": contract.classes[labels[i]], "png_base64": png(pixels[i])} for i in turns[:SHOWN_SAMPLES]]


def png(tensor: Pixels) -> str:
    """A tensor uint8 [C, H, W] as a PNG in base64, small ones enlarged."""
    image = Image.fromarray(tensor[0] if tensor.shape[0] == 1 else tensor.transpose(1, 2, 0))
    factor = max(1, SHOWN_SIDE // max(image.size))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
