"""The trained net on the test split, against the baselines and the champion.

Writes `report.json`, which the gate, the report page and the notebook read, and the best baseline as a model folder.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models import baseline, curated, exhibits, gate, metrics, net, regression, shipped, threshold
from models.contract import Contract
from models.fitted import Fitted, Unshippable
from models.train import best_epoch

log = logging.getLogger(__name__)

Tensors = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# A shipped baseline gives the same answer to this share of samples; numbers are the same within NEAR deviations.
SAME, NEAR = 0.999, 1e-3


@dataclass(frozen=True)
class Test:
    """The test split, and how answers to it are judged: [N, K] probabilities or [N, 1] values."""

    contract: Contract
    tensors: Tensors
    labels: Tensors
    sources: list[str]
    groups: list[str]

    @property
    def leading(self) -> str:
        """The metric on which a model wins or loses."""
        return gate.LEADING[self.contract.task]

    def figures(self, answers: Floats) -> dict[str, float]:
        """Every metric with its interval."""
        if self.contract.categorical:
            return metrics.figures(self.labels, answers, groups=self.groups)
        return regression.figures(self.labels, answers[:, 0], rul=self.contract.task == "rul", groups=self.groups)

    def paired(self, ours: Floats, theirs: Floats) -> dict[str, Any]:
        """Both on the same samples, by the leading metric; a difference above 0 is ours."""
        if self.contract.categorical:
            return metrics.paired(self.labels, ours, theirs, metric=self.leading, groups=self.groups)
        return regression.paired(self.labels, ours[:, 0], theirs[:, 0], groups=self.groups)


def evaluate(model_dir: Path, data: Path, champion_dir: Path | None, out: Path, run: str = "") -> dict[str, Any]:
    """Measures the model in `model_dir` on `data` (curated folder) and writes `out/report.json`; returns the report.

    The best baseline goes to `out/baseline`, a model folder as training writes it; the report's `unshippable` says why
    when it cannot.
    """
    model, contract = net.load(model_dir)
    test = Test(contract, *curated.read(data, "test"), _groups(data, "test"))
    validation = curated.read(data, "validation")[:2]
    ours = answers(model, test.tensors)
    fitted = baseline.fit(contract, curated.read(data, "train")[:2], validation)
    others = {name: given(test.tensors) for name, given in fitted.items()}
    champion = _champion(champion_dir, contract, test.tensors)
    figures = test.figures(ours)
    rivals = {name: test.figures(given) for name, given in others.items()}
    best = gate.best_of(rivals, test.leading) or next(iter(rivals))
    paired = {"name": best, **test.paired(ours, others[best])}
    held = answers(model, validation[0])
    history = _history(model_dir)
    report: dict[str, Any] = {
        "schema": 1,
        "run": run,
        "dataset": contract.dataset,
        "modality": contract.modality,
        "task": contract.task,
        "classes": list(contract.classes),
        "target": contract.document()["target"],
        "counts": contract.document()["counts"],
        **_verdict(test.leading, figures, rivals[best], paired),
        "metrics": {
            "test": figures,
            "baseline": rivals,
            "champion": test.figures(champion) if champion is not None else None,
        },
        "paired": {
            "best_baseline": paired,
            "champion": test.paired(ours, champion) if champion is not None else None,
        },
        **(_of_classes(test, ours, validation[1], held, model) if contract.categorical else
           _of_numbers(test, ours[:, 0], validation[1], held[:, 0])),
        "per_slice": exhibits.per_slice(contract, test.labels, ours, test.groups),
        "worst": exhibits.worst(contract, test.tensors, test.labels, test.sources, ours),
        "samples": exhibits.samples(contract, test.tensors, test.labels),
        "training": {"epochs": len(history), "best_epoch": best_epoch(history) if history else None},
        "history": history,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    report["unshippable"] = _ship(test, best, fitted[best], others[best], out / "baseline")
    (out / "report.json").write_text(json.dumps(report) + "\n", "utf-8")
    return report


def _ship(test: Test, name: str, fitted: Fitted, wanted: Floats, folder: Path) -> str | None:
    """Writes a baseline as a model folder, once its net has shown that it answers the same; else says why not."""
    try:
        made = shipped.build(test.contract, name, fitted)
        found = answers(made, test.tensors)
        target = test.contract.target
        equal = found.argmax(1) == wanted.argmax(1) if target is None else np.abs(found - wanted) <= NEAR * target.std
        if equal.mean() < SAME:
            raise Unshippable(f"as a net it gives {equal.mean():.1%} of its answers, at least {SAME:.1%} are wanted")
    except Unshippable as error:
        log.warning("the baseline %s cannot be shipped: %s", name, error)
        return f"the baseline {name} cannot be shipped: {error}"
    net.save(made, test.contract, "", folder)
    return None


def answers(model: net.Net, tensors: Tensors) -> Floats:
    """The net's answers for raw tensors [N, ...]: probabilities [N, K], or values [N, 1]."""
    return net.answers(model, tensors).astype(np.float64)


def _of_classes(test: Test, ours: Floats, labels: Tensors, held: Floats, model: net.Net) -> dict[str, Any]:
    matrix = metrics.confusion(test.labels, ours.argmax(1), len(test.contract.classes))
    return {
        "calibration": metrics.calibration(test.labels, ours),
        "confusion": matrix.tolist(),
        "per_class": metrics.per_class(matrix, test.contract.classes),
        "threshold": _threshold(test, ours, labels, held, model),
    }


def _threshold(test: Test, ours: Floats, labels: Tensors, held: Floats, model: net.Net) -> dict[str, Any] | None:
    """Of two classes: from which probability on the rarer one is called, chosen on validation, scored once on test.

    A detector's is 0.5, for the probability has it inside; `score` is the threshold there.
    """
    classes = test.contract.classes
    if len(classes) != 2:
        return None
    if test.contract.task == "anomaly":
        positive, cut, inside = 1, 0.5, {"score": float(model.get_buffer("threshold"))}
    else:
        counts = test.contract.counts.get("train", {})
        positive = 0 if counts.get(classes[0], 0) < counts.get(classes[1], 0) else 1
        truth = (labels == positive).astype(np.int64)
        both = 0 < truth.sum() < len(truth)
        cut, inside = (threshold.best(truth, held[:, positive], macro=False) if both else 0.5), {}
    return {
        "class": classes[positive], "value": cut, **inside, "chosen_on": "validation",
        "test": metrics.at_threshold(test.labels == positive, ours[:, positive], cut, test.groups),
    }  # fmt: skip


def _of_numbers(test: Test, ours: Floats, labels: Tensors, held: Floats) -> dict[str, Any]:
    return {
        "calibration": regression.coverage(test.labels, ours, regression.rmse(labels, held)),
        "confusion": [],
        "per_class": [],
        "threshold": None,
        "predicted": exhibits.scatter(test.labels, ours),
        "residuals": exhibits.residuals(test.labels, ours),
    }


def _verdict(
    leading: str, ours: Mapping[str, float], theirs: Mapping[str, float], paired: Mapping[str, Any]
) -> dict[str, str]:
    """Who won, and a sentence that says so with figures and whether the difference could be chance."""
    ahead = gate.METRICS[leading] == (ours[leading] > theirs[leading]) and ours[leading] != theirs[leading]
    winner = gate.MODEL if ahead else str(paired["name"])
    called = str(paired["name"]).replace("_", " ")
    mine, other = _told(leading, ours), _told(leading, theirs)
    low, high = paired["difference_low"], paired["difference_high"]
    real = low > 0 or high < 0
    first = (
        f"The model {'beats' if real else 'is ahead of'} the best baseline, {called}: {leading} {mine} against {other}"
        if ahead
        else f"The model does not beat the baseline {called}, which has {leading} {other}; the model has {mine}"
    )
    pairs = f"in pairs {paired['difference']:+.4g} [{low:+.4g}, {high:+.4g}]"
    chance = "the difference is real" if real else "so small a difference may be chance"
    return {"winner": winner, "verdict": f"{first} ({pairs}: {chance})."}


def _told(name: str, figures: Mapping[str, float]) -> str:
    return f"{figures[name]:.4g} [{figures[f'{name}_low']:.4g}, {figures[f'{name}_high']:.4g}]"


def _champion(folder: Path | None, contract: Contract, tensors: Tensors) -> Floats | None:
    """The champion's answers; None without one, or when it was trained for another question or other inputs."""
    if folder is None:
        return None
    model, theirs = net.load(folder)
    if _question(theirs) != _question(contract):
        log.warning(
            "the champion is not compared: it knows %s of shape %s, the data have %s of shape %s",
            *(_wanted(theirs), list(theirs.shape), _wanted(contract), list(contract.shape)),
        )
        return None
    return answers(model, tensors)


def _question(contract: Contract) -> tuple[Any, ...]:
    """What two models must share to be compared; a vocabulary is part of it, for categories come as its places."""
    target = contract.target.name if contract.target else ""
    return contract.modality, contract.task, contract.shape, contract.classes, contract.columns, target


def _wanted(contract: Contract) -> str:
    return ", ".join(contract.classes) or f"the number {contract.target.name if contract.target else ''}"


def _groups(data: Path, split: str) -> list[str]:
    """Each sample's unit, in the order in which `curated.read` gives the samples; empty where there are none."""
    parts = sorted((data / split).glob("*.parquet"))
    if not all("group" in pq.read_schema(part).names for part in parts):
        return []
    table = pa.concat_tables([pq.read_table(part, columns=["id", "source", "group"]) for part in parts])
    found: list[str] = table.sort_by([("id", "ascending"), ("source", "ascending")])["group"].to_pylist()
    return found if any(found) else []


def _history(model_dir: Path) -> list[dict[str, Any]]:
    path = model_dir / "history.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else []
