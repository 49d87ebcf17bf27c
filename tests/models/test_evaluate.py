"""The evaluation report: every key that gate, report page and notebook read, and figures that agree with the data."""

import base64
import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models import baseline, evaluate, exhibits, gate, net, train
from models import curated as reader
from models.contract import Column, Contract
from models.export import release
from models.fitted import Fitted

KEYS = {
    "schema", "run", "dataset", "modality", "task", "classes", "counts", "metrics", "paired", "calibration",
    "confusion", "per_class", "worst", "samples", "history", "winner", "verdict", "threshold", "per_slice", "target",
    "training", "unshippable",
}  # fmt: skip
MEASURES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision", "log_loss")


@pytest.fixture(scope="module")
def report(trained: Path, curated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluate.evaluate(trained, curated, trained, tmp_path_factory.mktemp("report"), run="run-1")


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def test_the_report_is_written_as_it_is_returned(trained: Path, curated: Path, tmp_path: Path) -> None:
    found = evaluate.evaluate(trained, curated, None, tmp_path / "new" / "folder", run="run-7")
    assert json.loads((tmp_path / "new" / "folder" / "report.json").read_text("utf-8")) == found
    assert (found["schema"], found["run"]) == (1, "run-7")
    assert found["metrics"]["champion"] is None
    assert found["paired"]["champion"] is None


def test_the_report_has_every_key(report: dict[str, Any], curated: Path) -> None:
    contract = Contract.load(curated / "contract.json")
    assert set(report) >= KEYS
    assert report["classes"] == list(contract.classes)
    assert report["counts"] == contract.document()["counts"]
    assert (report["dataset"], report["modality"], report["task"]) == ("surface-defects", "image", "classification")
    assert [row["epoch"] for row in report["history"]] == [1, 2, 3]


def test_every_number_is_finite(report: dict[str, Any]) -> None:
    assert finite(report)


def test_model_baselines_and_champion_have_the_same_figures_with_intervals(report: dict[str, Any]) -> None:
    wanted = {f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")}
    assert set(report["metrics"]["baseline"]) == {"majority", "logistic_regression"}
    found = [report["metrics"]["test"], report["metrics"]["champion"], *report["metrics"]["baseline"].values()]
    for figures in found:
        assert set(figures) == wanted


def test_the_confusion_counts_every_test_sample_and_gives_the_accuracy(report: dict[str, Any], curated: Path) -> None:
    labels = reader.read(curated, "test")[1]
    matrix = np.array(report["confusion"])
    assert matrix.sum(1).tolist() == np.bincount(labels, minlength=4).tolist()
    assert report["metrics"]["test"]["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
    assert [row["support"] for row in report["per_class"]] == matrix.sum(1).tolist()
    assert [row["class"] for row in report["per_class"]] == report["classes"]


def test_a_champion_that_is_the_model_itself_is_a_tie(report: dict[str, Any]) -> None:
    assert report["metrics"]["champion"] == report["metrics"]["test"]
    assert report["paired"]["champion"]["difference"] == 0.0
    assert not gate.decide(report, {"beat_champion": True}).passed


def test_the_best_baseline_is_compared_pair_by_pair(report: dict[str, Any]) -> None:
    baselines = report["metrics"]["baseline"]
    paired = report["paired"]["best_baseline"]
    best = max(figures["accuracy"] for figures in baselines.values())
    assert baselines[paired["name"]]["accuracy"] == best
    assert paired["difference"] == pytest.approx(report["metrics"]["test"]["accuracy"] - best)


def test_the_worst_mistakes_come_first_and_are_mistakes(report: dict[str, Any]) -> None:
    rows = report["worst"]
    assert 0 < len(rows) <= exhibits.SHOWN_MISTAKES
    assert [row["confidence"] for row in rows] == sorted((row["confidence"] for row in rows), reverse=True)
    for row in rows:
        assert row["label"] != row["predicted"]
        assert row["source"].startswith(f"{row['label']}/")


def test_pictures_are_pngs_and_small_ones_are_enlarged(report: dict[str, Any]) -> None:
    assert {row["label"] for row in report["samples"]} == set(report["classes"])
    for row in [*report["samples"], *report["worst"]]:
        with Image.open(io.BytesIO(base64.b64decode(row["png_base64"]))) as image:
            assert (image.format, image.size) == ("PNG", (64, 64))


def test_a_colour_picture_keeps_its_colours() -> None:
    tensor = np.zeros((3, 100, 80), np.uint8)
    tensor[0] = 255
    with Image.open(io.BytesIO(base64.b64decode(exhibits.png(tensor)))) as image:
        assert (image.size, image.getpixel((3, 3))) == ((80, 100), (255, 0, 0))


def test_the_net_answers_with_probabilities(trained: Path, curated: Path) -> None:
    answers = evaluate.answers(net.load(trained)[0], reader.read(curated, "test")[0])
    np.testing.assert_allclose(answers.sum(1), 1.0, atol=1e-6)


def test_a_champion_of_other_classes_is_no_rival(trained: Path, curated: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(trained, tmp_path / "champion"))
    document = Contract.load(trained / "contract.json").document() | {"classes": ["a", "b", "c", "d"]}
    (other / "contract.json").write_text(json.dumps(document))
    found = evaluate.evaluate(trained, curated, other, tmp_path / "report")
    assert found["metrics"]["champion"] is None


def test_a_report_of_the_evaluation_goes_through_the_gate(report: dict[str, Any]) -> None:
    assert gate.decide(report, {"accuracy": 0.0, "log_loss": 100.0}).passed
    assert not gate.decide(report, {"accuracy": 1.01}).passed


class Trial(NamedTuple):
    """A report, and the folders of the data that it is about and that it lies in."""

    found: dict[str, Any]
    contract: Contract
    data: Path
    out: Path


@pytest.fixture(scope="module")
def trial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """The report of a short training on the data set that the parameter names, its own champion."""
    data = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    train.train(train.Config(epochs=6, rate=0.01), data, folder / "model", folder / "checkpoints", lambda figures: None)
    found = evaluate.evaluate(folder / "model", data, folder / "model", folder / "report", run="run-1")
    return Trial(found, Contract.load(data / "contract.json"), data, folder / "report")


every = pytest.mark.parametrize("trial", ["table", "prices", "engines", "machine"], indirect=True)
numbers = pytest.mark.parametrize("trial", ["prices", "engines"], indirect=True)


@every
def test_every_task_has_the_whole_report_and_it_goes_through_the_gate(trial: Trial) -> None:
    found, contract, *_ = trial
    leading = gate.LEADING[contract.task]
    assert set(found) >= KEYS
    assert finite(found)
    assert found["metrics"]["champion"] == found["metrics"]["test"]
    best = found["paired"]["best_baseline"]
    assert best["name"] == gate.best_of(found["metrics"]["baseline"], leading)
    assert best["metric"] == leading
    ours, theirs = found["metrics"]["test"][leading], found["metrics"]["baseline"][best["name"]][leading]
    assert best["difference"] == pytest.approx(ours - theirs if gate.METRICS[leading] else theirs - ours)
    assert (
        gate.decide(found, {"beat_baseline": True}).passed == (found["winner"] == "model") == (best["difference"] > 0)
    )
    shipped = gate.decide(found, {"beat_baseline": True, "ship_baseline": True})
    assert shipped.ship == found["winner"]
    assert found["training"]["best_epoch"] <= found["training"]["epochs"] == len(found["history"])


@every
def test_the_verdict_names_winner_figures_and_whether_it_may_be_chance(trial: Trial) -> None:
    found, *_ = trial
    best, chance = found["paired"]["best_baseline"], "may be chance" in found["verdict"]
    ahead = "is ahead of" if chance else "beats"
    assert found["verdict"].startswith(f"The model {ahead if found['winner'] == 'model' else 'does not beat'} ")
    assert chance == (best["difference_low"] <= 0 <= best["difference_high"])
    assert best["name"].replace("_", " ") in found["verdict"]
    assert chance or "is real" in found["verdict"]


@numbers
def test_numbers_show_how_they_scatter(trial: Trial) -> None:
    found, contract, *_ = trial
    count = contract.counts["test"]["all"]
    assert set(found["metrics"]["test"]) >= {"mae", "rmse", "r2", "rmse_low", "rmse_high"}
    assert ("nasa_score" in found["metrics"]["test"]) == (contract.task == "rul")
    assert len(found["predicted"]) == min(count, exhibits.SHOWN_PAIRS)
    assert sum(found["residuals"]["counts"]) == count
    assert len(found["residuals"]["edges"]) == len(found["residuals"]["counts"]) + 1
    assert 0 <= found["calibration"]["coverage"] <= 1
    errors = [abs(row["error"]) for row in found["worst"]]
    assert errors == sorted(errors, reverse=True)
    assert (found["classes"], found["confusion"], found["threshold"]) == ([], [], None)


@pytest.mark.parametrize("trial", ["table", "machine"], indirect=True)
def test_of_two_classes_the_threshold_is_validations_and_its_figures_are_tests(
    trial: Trial,
) -> None:
    found, contract, *_ = trial
    cut = found["threshold"]
    assert cut["class"] in contract.classes
    assert cut["chosen_on"] == "validation"
    assert 0 < cut["value"] < 1
    assert {"precision", "recall", "f1", "f1_low", "f1_high"} <= set(cut["test"])
    if contract.task == "anomaly":
        assert cut["value"] == 0.5
        assert cut["test"]["accuracy"] == found["metrics"]["test"]["accuracy"]


@pytest.mark.parametrize("trial", ["engines"], indirect=True)
def test_the_units_that_fare_worst_are_named(trial: Trial) -> None:
    rows = trial[0]["per_slice"]
    assert {row["slice"] for row in rows} == {"u20", "u21", "u22", "u23"}
    assert [row["rmse"] for row in rows] == sorted((row["rmse"] for row in rows), reverse=True)
    assert sum(row["samples"] for row in rows) == trial[1].counts["test"]["all"]


def test_data_without_units_have_no_slices(report: dict[str, Any]) -> None:
    assert report["per_slice"] == []


@every
def test_a_sample_is_shown_as_its_modality_wants(trial: Trial) -> None:
    found, contract, *_ = trial
    assert found["samples"]
    for row in [*found["samples"], *found["worst"]]:
        assert "png_base64" not in row
        if contract.modality == "tabular":
            assert set(row["values"]) == {"x", "y", "kind", "noise"}
            assert row["values"]["kind"] in ("a", "b", "c", None)
        else:
            assert row["column"] == contract.columns[0].name
            assert len(row["window"]) == contract.shape[0]


def test_a_missing_value_and_a_long_window_are_shown_in_short(contract: Callable[..., Contract]) -> None:
    given = contract(modality="timeseries", shape=(1000, 1), columns=(Column(name="load"),))
    line = exhibits.look(given, np.full((1000, 1), np.nan, np.float32))["window"]
    assert line == [None] * exhibits.POINTS


def test_units_are_read_in_the_order_of_the_samples(engines: Path) -> None:
    sources = reader.read(engines, "test")[2]
    table = pa.concat_tables([pq.read_table(part) for part in (engines / "test").glob("*.parquet")])
    unit = dict(zip(table["source"].to_pylist(), table["group"].to_pylist(), strict=True))
    assert evaluate._groups(engines, "test") == [unit[source] for source in sources]


@every
def test_the_best_baseline_is_left_as_a_model_folder(
    trial: Trial,
) -> None:
    found, contract, data, out = trial
    folder = out / "baseline"
    assert found["unshippable"] is None
    assert sorted(path.name for path in folder.iterdir()) == ["contract.json", "model.json", "model.safetensors"]
    best = found["paired"]["best_baseline"]["name"]
    assert json.loads((folder / "model.json").read_text("utf-8"))["kind"] == best
    loaded, known = net.load(folder)
    assert known == contract
    tensors, labels, _ = reader.read(data, "test")
    again = evaluate.Test(contract, tensors, labels, [], []).figures(evaluate.answers(loaded, tensors))
    leading = gate.LEADING[contract.task]
    assert again[leading] == pytest.approx(found["metrics"]["baseline"][best][leading], rel=1e-3)


def test_a_baseline_that_no_net_can_stand_for_is_told_and_breaks_nothing(
    trained: Path, curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = baseline.fit

    def neighbours(*given: Any) -> dict[str, Fitted]:
        return {name: Fitted(fitted.answer, "neighbours", dict) for name, fitted in fit(*given).items()}

    monkeypatch.setattr(baseline, "fit", neighbours)
    found = evaluate.evaluate(trained, curated, None, tmp_path / "report")
    assert found["unshippable"].endswith("cannot be shipped: no net computes the form 'neighbours'")
    assert json.loads((tmp_path / "report" / "report.json").read_text("utf-8")) == found
    assert not (tmp_path / "report" / "baseline").exists()


def test_a_baseline_whose_net_answers_otherwise_is_not_left(
    trained: Path, curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = baseline.fit

    def wrong(*given: Any) -> dict[str, Fitted]:
        return {
            name: Fitted(fitted.answer, "constant", lambda: {"values": np.array([0.0, 0.0, 0.0, 1.0])})
            for name, fitted in fit(*given).items()
        }

    monkeypatch.setattr(baseline, "fit", wrong)
    found = evaluate.evaluate(trained, curated, None, tmp_path / "report")
    assert "as a net it gives" in found["unshippable"]
    assert not (tmp_path / "report" / "baseline").exists()


@pytest.mark.slow
@every
def test_a_baseline_is_released_and_later_met_as_champion_as_a_net_is(trial: Trial, tmp_path: Path) -> None:
    _, contract, data, out = trial
    folder = out / "baseline"
    targets = {"cloud-cpu": {"formats": ["onnx-fp32"], "p95_ms": 5000.0, "measure": "allowed"}}
    manifest = release.release(folder, data, tmp_path / "releases", targets, "run-1")
    assert [row["chosen"] for row in manifest["artifacts"]] == [True]
    limits = {"min_agreement": 0.999, "max_metric_drop": 0.001}
    assert gate.decide_release(manifest, limits, targets).passed
    later = evaluate.evaluate(folder, data, folder, tmp_path / "report")
    assert later["metrics"]["champion"] == later["metrics"]["test"]
    assert set(later) >= KEYS
    assert (later["threshold"] is None) == (len(contract.classes) != 2)
