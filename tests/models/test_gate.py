"""Both gates: what passes, what does not, and that each reason carries the figures that a person needs."""

import math
from typing import Any

import pytest

from models import gate

TARGETS = {"cloud-cpu": {"p95_ms": 20.0}, "edge-x86": {"p95_ms": 50.0}}
LIMITS = {"min_agreement": 0.995, "max_metric_drop": 0.01}


def report(accuracy: Any = 0.96, task: str = "classification", **other: Any) -> dict[str, Any]:
    test = {"accuracy": accuracy, "accuracy_low": 0.94, "accuracy_high": 0.98, "log_loss": 0.2, **other}
    baseline = {"majority": {"accuracy": 0.1}, "logistic_regression": {"accuracy": 0.95}}
    return {"task": task, "metrics": {"test": test, "baseline": baseline, "champion": None}}


def artifact(target: str, **other: Any) -> dict[str, Any]:
    row = {"target": target, "format": "onnx-fp32", "chosen": True, "skipped": None}
    return row | {"agreement": 1.0, "metric_drop": 0.0, "p95_ms": 2.0} | other


def release(*rows: dict[str, Any], thresholds: dict[str, Any] = LIMITS) -> gate.Decision:
    return gate.decide_release({"artifacts": list(rows)}, thresholds, TARGETS)


def test_a_report_that_meets_everything_passes_without_a_reason() -> None:
    decision = gate.decide(report(), {"accuracy": 0.95, "log_loss": 0.3, "beat_baseline": True, "beat_champion": True})
    assert decision == gate.Decision(True, [])


def test_nothing_asked_for_passes() -> None:
    assert gate.decide(report(accuracy=0.0), {}).passed


def test_too_little_of_what_more_is_better_of_fails_with_figure_interval_and_limit() -> None:
    decision = gate.decide(report(accuracy=0.93), {"accuracy": 0.95})
    assert not decision.passed
    assert decision.reasons == ["accuracy is 0.93 [0.94, 0.98], wanted is at least 0.95"]


def test_too_much_of_what_less_is_better_of_fails() -> None:
    assert gate.decide(report(), {"log_loss": 0.1}).reasons == ["log_loss is 0.2, wanted is at most 0.1"]


@pytest.mark.parametrize(("name", "limit"), [("accuracy", 0.96), ("log_loss", 0.2)])
def test_a_limit_that_is_just_met_passes(name: str, limit: float) -> None:
    assert gate.decide(report(), {name: limit}).passed


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.99", True, [1.0]])
def test_what_is_no_finite_number_misses_its_threshold(value: Any) -> None:
    assert not gate.decide(report(accuracy=value), {"accuracy": 0.5}).passed


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_figure_that_is_not_finite_meets_no_maximum(value: float) -> None:
    assert not gate.decide(report(log_loss=value), {"log_loss": 0.5}).passed


def test_a_figure_that_is_missing_is_said_to_be_not_measured() -> None:
    assert gate.decide(report(), {"auroc": 0.9}).reasons == ["auroc is not measured, wanted is at least 0.9"]


def test_a_misspelt_criterion_is_no_criterion_fewer() -> None:
    (reason,) = gate.decide(report(), {"acuracy": 0.9}).reasons
    assert reason.startswith("acuracy is no criterion; there are accuracy, ")


def test_every_miss_has_its_reason() -> None:
    decision = gate.decide(report(accuracy=0.5), {"accuracy": 0.95, "log_loss": 0.1, "beat_baseline": True})
    assert [reason.split()[0] for reason in decision.reasons] == ["accuracy", "log_loss", "accuracy"]


def test_a_model_below_a_baseline_fails_by_its_name() -> None:
    decision = gate.decide(report(accuracy=0.94), {"beat_baseline": True})
    assert decision.reasons == [
        "accuracy is 0.94 [0.94, 0.98], the baseline logistic_regression has 0.95",
    ]


def test_a_tie_with_the_baseline_is_no_win() -> None:
    assert not gate.decide(report(accuracy=0.95), {"beat_baseline": True}).passed
    assert gate.decide(report(accuracy=0.9500001), {"beat_baseline": True}).passed


@pytest.mark.parametrize("baseline", [None, {}])
def test_beating_a_baseline_that_was_not_measured_fails(baseline: Any) -> None:
    found = report()
    found["metrics"]["baseline"] = baseline
    (reason,) = gate.decide(found, {"beat_baseline": True}).reasons
    assert "has no baseline" in reason
    assert gate.decide(found, {"beat_baseline": False}).passed


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_model_without_a_figure_beats_nobody(value: Any) -> None:
    assert not gate.decide(report(accuracy=value), {"beat_baseline": True}).passed


def test_the_champion_counts_only_where_the_criteria_say_so() -> None:
    found = report()
    found["metrics"]["champion"] = {"accuracy": 0.97, "accuracy_low": 0.95, "accuracy_high": 0.99}
    assert gate.decide(found, {"beat_champion": False}).passed
    assert gate.decide(found, {"beat_champion": True}).reasons == [
        "accuracy is 0.96 [0.94, 0.98], the champion has 0.97 [0.95, 0.99]"
    ]


def test_a_tie_with_the_champion_is_no_win() -> None:
    found = report()
    found["metrics"]["champion"] = {"accuracy": 0.96}
    assert not gate.decide(found, {"beat_champion": True}).passed


def test_the_first_model_has_no_champion_to_beat() -> None:
    assert gate.decide(report(), {"beat_champion": True}).passed


def test_a_regression_wins_by_a_smaller_error() -> None:
    found = report(task="regression", rmse=2.0)
    found["metrics"]["baseline"] = {"mean": {"rmse": 3.0}}
    assert gate.decide(found, {"beat_baseline": True, "rmse": 2.5}).passed
    found["metrics"]["baseline"] = {"mean": {"rmse": 2.0}}
    assert not gate.decide(found, {"beat_baseline": True}).passed


@pytest.mark.parametrize(("task", "metric"), [("rul", "rmse"), ("anomaly", "macro_f1")])
def test_each_task_has_the_metric_it_must_win_on(task: str, metric: str) -> None:
    found = report(task=task, rmse=2.0, macro_f1=0.8)
    found["metrics"]["baseline"] = {"simple": {"rmse": 2.5, "macro_f1": 0.7, "accuracy": 1.0}}
    assert gate.decide(found, {"beat_baseline": True}).passed
    found["metrics"]["baseline"] = {"simple": {"rmse": 1.5, "macro_f1": 0.9, "accuracy": 0.0}}
    (reason,) = gate.decide(found, {"beat_baseline": True}).reasons
    assert reason.startswith(f"{metric} is ")


BEATEN = {"beat_baseline": True, "ship_baseline": True}


def test_what_is_shipped_is_the_model_unless_a_baseline_is_allowed_and_better() -> None:
    assert gate.decide(report(), BEATEN) == gate.Decision(True, [], "model")
    assert gate.decide(report(accuracy=0.94), {"beat_baseline": True}).ship == "model"
    assert gate.decide(report(accuracy=0.94), BEATEN) == gate.Decision(True, [], "logistic_regression")
    assert gate.decide(report(accuracy=0.94), {"ship_baseline": True}) == gate.Decision(True, [], "model")


def test_a_baseline_that_is_shipped_has_to_meet_the_criteria_itself() -> None:
    decision = gate.decide(report(accuracy=0.94), {**BEATEN, "accuracy": 0.97})
    assert decision.reasons == ["accuracy is 0.95, wanted is at least 0.97"]
    found = report(accuracy=0.94)
    found["metrics"]["champion"] = {"accuracy": 0.96}
    assert not gate.decide(found, {**BEATEN, "beat_champion": True}).passed


def test_of_several_baselines_the_best_is_shipped_smallest_error_first() -> None:
    found = report(task="rul", rmse=9.0)
    found["metrics"]["baseline"] = {"a": {"rmse": 3.0}, "b": {"rmse": 2.0}, "c": {"rmse": math.nan}, "d": {}}
    assert gate.decide(found, BEATEN).ship == "b"
    found["metrics"]["baseline"] = {}
    assert not gate.decide(found, BEATEN).passed


def test_a_release_whose_chosen_artefacts_are_within_the_limits_passes() -> None:
    assert release(artifact("cloud-cpu"), artifact("edge-x86")) == gate.Decision(True, [])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"agreement": 0.99},
            "edge-x86 (onnx-fp32): agreement is 0.99, min_agreement wants at least 0.995",
        ),
        (
            {"metric_drop": 0.02},
            "edge-x86 (onnx-fp32): metric_drop is 0.02, max_metric_drop wants at most 0.01",
        ),
        ({"p95_ms": 50.5}, "edge-x86 (onnx-fp32): p95_ms is 50.5, p95_ms wants at most 50"),
        ({"p95_ms": None}, "edge-x86 (onnx-fp32): p95_ms is not measured, p95_ms wants at most 50"),
    ],
)
def test_each_limit_of_a_release_holds(changed: dict[str, Any], reason: str) -> None:
    assert release(artifact("cloud-cpu"), artifact("edge-x86", **changed)).reasons == [reason]


LIMITS = {"min_agreement": 0.995, "max_metric_drop": 0.01}
TARGET = {"formats": ["onnx-fp32"], "threads": 1, "p95_ms": 50.0, "memory_mb": 200, "disk_mb": 300}


def dropped(target: dict[str, Any] = TARGET, limits: dict[str, Any] = LIMITS, **changed: Any) -> list[str]:
    measured = {"bytes": 2_000_000, "peak_mb": 90.0, "install_mb": 140.0, "cpu_per_wall": 0.99}
    return gate.drops(artifact("edge-x86", **measured, **changed), limits, target)


def test_a_candidate_that_keeps_every_limit_is_not_dropped() -> None:
    assert dropped() == []
    assert dropped({}, {}, agreement=0.1) == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"agreement": 0.9949}, "agreement is 0.9949, min_agreement wants at least 0.995"),
        ({"metric_drop": 0.02, "metric_drop_low": 0.001}, "metric_drop is 0.02, max_metric_drop wants at most 0.01"),
        ({"p95_ms": 51.0}, "p95_ms is 51, p95_ms wants at most 50"),
        ({"peak_mb": 383.0}, "peak_mb is 383, memory_mb wants at most 200"),
        ({"install_mb": 741.0}, "disk_mb is 743, disk_mb wants at most 300"),
        ({"cpu_per_wall": 1.9}, "it used 1.90 cores where the target gives it 1"),
        ({"format": "openvino-bf16"}, "not among [targets.edge-x86] formats"),
    ],
)
def test_each_limit_drops_a_candidate_with_the_figure(changed: dict[str, Any], reason: str) -> None:
    row = {"bytes": 2_000_000, "peak_mb": 90.0, "install_mb": 140.0, "cpu_per_wall": 0.99, **changed}
    assert gate.drops(artifact("edge-x86", **row), LIMITS, TARGET) == [reason]


def test_a_loss_that_chance_explains_drops_nothing_and_passes_the_gate() -> None:
    chance = {"metric_drop": 0.02, "metric_drop_low": -0.003, "metric_drop_high": 0.04}
    assert dropped(**chance) == []
    assert release(artifact("cloud-cpu"), artifact("edge-x86", **chance)).passed


def test_a_limit_that_is_not_set_is_no_limit() -> None:
    assert release(artifact("cloud-cpu", agreement=0.1), artifact("edge-x86"), thresholds={}).passed


def test_a_model_that_got_better_by_its_export_passes() -> None:
    assert release(artifact("cloud-cpu", metric_drop=-0.02), artifact("edge-x86")).passed


def test_only_the_chosen_artefact_is_judged() -> None:
    worse = artifact("edge-x86", format="onnx-int8", chosen=False, agreement=0.5)
    assert release(artifact("cloud-cpu"), artifact("edge-x86"), worse).passed


def test_a_target_without_an_artefact_fails_with_what_was_skipped() -> None:
    skipped = artifact("edge-x86", chosen=False, skipped="no exporter for tflite")
    slow = artifact("edge-x86", format="onnx-int8", chosen=False, dropped="p95_ms is 60")
    (reason,) = release(artifact("cloud-cpu"), skipped, slow).reasons
    assert reason == "edge-x86: no artefact: onnx-fp32: no exporter for tflite; onnx-int8: p95_ms is 60"
    assert release(artifact("cloud-cpu")).reasons == ["edge-x86: no artefact: nothing was exported for it"]


def test_a_baseline_that_cannot_ship_does_not_stand_for_the_model() -> None:
    found = gate.decide({**report(accuracy=0.9), "unshippable": "its trees are too many"}, BEATEN)
    assert not found.passed
    assert any("cannot ship: its trees are too many" in reason for reason in found.reasons)
