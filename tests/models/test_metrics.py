"""The figures against scikit-learn's, and intervals that hold what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from models import metrics

Case = tuple[np.ndarray, np.ndarray]
MEASURES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "auroc", "average_precision")


def case(samples: int = 200, classes: int = 4, seed: int = 0, rounded: int | None = None) -> Case:
    """Answers that are right more often than not; `rounded` to that many places makes ties."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, samples - classes)])
    scores = rng.normal(0, 1, (samples, classes)) + 1.2 * np.eye(classes)[labels]
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return labels, probabilities if rounded is None else probabilities.round(rounded)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_figures_are_those_of_scikit_learn(classes: int, seed: int) -> None:
    labels, probabilities = case(classes=classes, seed=seed)
    answers, truth = probabilities.argmax(1), np.eye(classes)[labels]
    found = metrics.figures(labels, probabilities)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, answers))
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, answers))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(labels, answers, average="macro"))
    assert found["log_loss"] == pytest.approx(reference.log_loss(labels, probabilities))
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(truth, probabilities, average="macro"))
    assert found["average_precision"] == pytest.approx(
        reference.average_precision_score(truth, probabilities, average="macro")
    )


def test_the_auroc_is_scikit_learns_one_against_the_rest() -> None:
    labels, probabilities = case(classes=5)
    expected = reference.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert metrics.figures(labels, probabilities)["auroc"] == pytest.approx(expected)


def test_equal_scores_are_taken_together_as_scikit_learn_does() -> None:
    labels, probabilities = case(rounded=1)
    truth = np.eye(4)[labels]
    found = metrics.figures(labels, probabilities)
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(truth, probabilities))
    assert found["average_precision"] == pytest.approx(reference.average_precision_score(truth, probabilities))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(20, 150))
def test_every_interval_contains_its_point(seed: int, classes: int, samples: int) -> None:
    found = metrics.figures(*case(samples, classes, seed))
    for name in MEASURES:
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"], name


def test_the_interval_narrows_with_more_samples() -> None:
    few, many = metrics.figures(*case(80)), metrics.figures(*case(2000))
    assert many["accuracy_high"] - many["accuracy_low"] < (few["accuracy_high"] - few["accuracy_low"]) / 2


def test_the_accuracys_interval_is_about_the_binomial_one() -> None:
    found = metrics.figures(*case(1000))
    p = found["accuracy"]
    expected = 2 * 1.96 * np.sqrt(p * (1 - p) / 1000)
    assert found["accuracy_high"] - found["accuracy_low"] == pytest.approx(expected, rel=0.25)


def test_the_same_seed_gives_the_same_figures() -> None:
    labels, probabilities = case()
    assert metrics.figures(labels, probabilities, 3) == metrics.figures(labels, probabilities, 3)
    assert metrics.figures(labels, probabilities, 3) != metrics.figures(labels, probabilities, 4)


def test_perfect_answers_have_perfect_figures() -> None:
    labels = np.array([0, 1, 2] * 10)
    found = metrics.figures(labels, np.eye(3)[labels])
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision"):
        assert found[name] == 1.0
    assert found["log_loss"] < 1e-6


@pytest.mark.parametrize("count", [4, 30, 172])
def test_no_error_in_few_samples_is_no_proof_of_none(count: int) -> None:
    labels = np.arange(count) % 2
    exact = stats.binomtest(count, count).proportion_ci(method="exact")
    found = metrics.figures(labels, np.eye(2)[labels])
    assert found["accuracy_low"] == pytest.approx(exact.low) and found["accuracy_high"] == 1.0
    units = metrics.figures(labels, np.eye(2)[labels], groups=[str(number // 2) for number in range(count)])
    assert units["accuracy_low"] < found["accuracy_low"], "two samples of one unit prove no more than one"


def test_a_certain_and_wrong_answer_costs_much_and_not_everything() -> None:
    found = metrics.figures(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert 5 < found["log_loss"] < 20


def test_a_test_set_of_one_class_leaves_out_what_it_cannot_tell() -> None:
    found = metrics.figures(np.zeros(20, int), np.tile([0.7, 0.3], (20, 1)))
    assert found["accuracy"] == 1.0
    assert "auroc" not in found
    assert "average_precision" not in found


def test_a_class_that_nobody_has_does_not_spoil_the_means() -> None:
    labels = np.array([0, 1] * 20)
    found = metrics.figures(labels, np.eye(3)[labels])
    assert found["balanced_accuracy"] == found["macro_f1"] == found["average_precision"] == 1.0


def test_confusion_and_per_class_are_those_of_scikit_learn() -> None:
    labels, probabilities = case()
    answers = probabilities.argmax(1)
    matrix = metrics.confusion(labels, answers, 4)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(labels, answers))
    precision, recall, f1, support = reference.precision_recall_fscore_support(labels, answers)
    rows = metrics.per_class(matrix, ("a", "b", "c", "d"))
    assert [row["class"] for row in rows] == ["a", "b", "c", "d"]
    for key, expected in (("precision", precision), ("recall", recall), ("f1", f1), ("support", support)):
        assert [row[key] for row in rows] == pytest.approx(expected.tolist())


def test_a_class_without_answers_and_labels_has_zeros() -> None:
    rows = metrics.per_class(metrics.confusion(np.array([0, 1]), np.array([0, 1]), 3), ("a", "b", "c"))
    assert rows[2] == {"class": "c", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_the_paired_difference_tells_the_better_model_from_the_worse() -> None:
    labels, probabilities = case(500)
    worse = np.roll(probabilities, 1, axis=0)
    found = metrics.paired(labels, probabilities, worse)
    assert found["difference"] == pytest.approx(
        (probabilities.argmax(1) == labels).mean() - (worse.argmax(1) == labels).mean()
    )
    assert 0 < found["difference_low"] <= found["difference"] <= found["difference_high"]
    assert found["p_not_better"] == 0.0
    assert metrics.paired(labels, worse, probabilities)["p_not_better"] == 1.0


def test_a_model_is_not_better_than_itself() -> None:
    labels, probabilities = case()
    found = metrics.paired(labels, probabilities, probabilities)
    assert (found["difference"], found["difference_low"], found["difference_high"]) == (0.0, 0.0, 0.0)
    assert found["p_not_better"] == 1.0


def test_a_model_that_knows_how_sure_it_may_be_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1.0, 20_000)
    labels = (rng.random(20_000) > sure).astype(int)
    found = metrics.calibration(labels, np.stack([sure, 1 - sure], axis=1))
    assert found["ece"] < 0.02
    assert sum(row["count"] for row in found["bins"]) == 20_000


def test_a_model_that_is_always_sure_is_as_badly_calibrated_as_it_is_wrong() -> None:
    found = metrics.calibration(np.array([0, 0, 0, 1]), np.tile([1.0, 0.0], (4, 1)))
    assert found["ece"] == pytest.approx(0.25)
    assert found["bins"] == [{"confidence": 1.0, "accuracy": 0.75, "count": 4}]


def test_pairs_are_compared_by_macro_f1_where_that_leads() -> None:
    labels, probabilities = case(400, classes=2)
    worse = np.roll(probabilities, 1, axis=0)
    found = metrics.paired(labels, probabilities, worse, metric="macro_f1")
    expected = [reference.f1_score(labels, given.argmax(1), average="macro") for given in (probabilities, worse)]
    assert found["difference"] == pytest.approx(expected[0] - expected[1])
    assert found["metric"] == "macro_f1"
    assert 0 < found["difference_low"] <= found["difference"] <= found["difference_high"]
    with pytest.raises(ValueError, match="not by auroc"):
        metrics.paired(labels, probabilities, worse, metric="auroc")


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_alike_samples_of_few_units_make_the_intervals_wider(metric: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 2, 20), 30)
    right = np.repeat(rng.random(20) < 0.7, 30)
    ours = np.eye(2)[np.where(right, labels, 1 - labels)]
    theirs = np.eye(2)[1 - labels]
    groups = np.repeat([f"u{i}" for i in range(20)], 30)
    alone, known = (metrics.paired(labels, ours, theirs, metric=metric, groups=given) for given in (None, groups))
    assert known["difference"] == pytest.approx(alone["difference"])
    assert known["difference_high"] - known["difference_low"] > 2 * (alone["difference_high"] - alone["difference_low"])
    alone, known = (metrics.figures(labels, ours, groups=given) for given in (None, groups))
    assert known[f"{metric}_high"] - known[f"{metric}_low"] > 2 * (alone[f"{metric}_high"] - alone[f"{metric}_low"])


def test_figures_at_a_threshold_are_those_of_scikit_learn() -> None:
    labels, probabilities = case(300, classes=2)
    found = metrics.at_threshold(labels == 1, probabilities[:, 1], 0.3)
    called = probabilities[:, 1] >= 0.3
    precision, recall, f1, _ = reference.precision_recall_fscore_support(labels, called, average="binary")
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((precision, recall, f1))
    assert found["f1_low"] < found["f1"] < found["f1_high"]
