"""Figures of numbers against scikit-learn's, the NASA score by hand, and intervals that know units."""

import numpy as np
import pytest
from sklearn import metrics as reference

from models import regression


def case(samples: int = 300, seed: int = 0, noise: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.uniform(0, 50, samples)
    return labels, labels + rng.normal(0, noise, samples)


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_those_of_scikit_learn(seed: int) -> None:
    labels, values = case(seed=seed)
    found = regression.figures(labels, values)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(labels, values))
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(labels, values))
    assert found["r2"] == pytest.approx(reference.r2_score(labels, values))
    assert "nasa_score" not in found
    for name in ("mae", "rmse", "r2"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_the_nasa_score_punishes_a_late_answer_more_than_an_early_one() -> None:
    truth = np.array([50.0])
    assert regression.nasa_score(truth, truth) == 0.0
    assert regression.nasa_score(truth, truth - 13) == pytest.approx(np.e - 1)
    assert regression.nasa_score(truth, truth + 10) == pytest.approx(np.e - 1)
    assert regression.nasa_score(np.array([50.0, 50.0]), np.array([60.0, 50.0])) == pytest.approx((np.e - 1) / 2)
    assert np.isfinite(regression.nasa_score(truth, np.array([1e9])))


def test_a_remaining_life_has_its_score_with_an_interval() -> None:
    found = regression.figures(*case(), rul=True)
    assert found["nasa_score_low"] < found["nasa_score"] < found["nasa_score_high"]


def test_equal_labels_leave_out_what_they_cannot_tell() -> None:
    assert "r2" not in regression.figures(np.full(20, 3.0), np.arange(20.0))


def test_the_better_model_is_told_from_the_worse() -> None:
    labels, good = case(noise=1.0)
    _, bad = case(noise=4.0)
    found = regression.paired(labels, good, bad)
    assert found["difference"] == pytest.approx(regression.rmse(labels, bad) - regression.rmse(labels, good))
    assert 0 < found["difference_low"] < found["difference"] < found["difference_high"]
    assert (found["metric"], found["p_not_better"]) == ("rmse", 0.0)
    assert regression.paired(labels, bad, good)["p_not_better"] == 1.0


def test_a_model_is_not_better_than_itself() -> None:
    labels, values = case()
    assert regression.paired(labels, values, values)["p_not_better"] == 1.0


@pytest.mark.parametrize("paired", [False, True])
def test_alike_samples_of_few_units_make_the_interval_wider(paired: bool) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.uniform(0, 50, 10), 50)
    values = labels + np.repeat(rng.normal(0, 3, 10), 50)
    groups = np.repeat([f"u{i}" for i in range(10)], 50)

    def width(groups: np.ndarray | None) -> float:
        if paired:
            found = regression.paired(labels, values, labels + 2.5, groups=groups)
            return found["difference_high"] - found["difference_low"]
        figures = regression.figures(labels, values, groups=groups)
        return figures["rmse_high"] - figures["rmse_low"]

    assert width(groups) > 3 * width(None)


def test_two_thirds_of_normal_errors_lie_within_one_deviation() -> None:
    found = regression.coverage(*case(20_000, noise=2.0), 2.0)
    assert found["coverage"] == pytest.approx(found["expected"], abs=0.02)
    assert found["width"] == 2.0
