"""Where a score is cut: best on validation, and sensible where validation has nothing to choose by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from models import threshold


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(4, 40), st.booleans())
def test_no_other_cut_has_a_better_f1(seed: int, count: int, macro: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.integers(0, 2, count - 2)])
    scores = rng.normal(labels, 1.0).round(1)
    average = "macro" if macro else "binary"

    def quality(cut: float) -> float:
        return float(f1_score(labels, scores >= cut, average=average, zero_division=0.0))

    found = quality(threshold.best(labels, scores, macro=macro))
    assert found == pytest.approx(max(quality(cut) for cut in scores))


def test_the_cut_lies_halfway_between_what_it_parts() -> None:
    assert threshold.best(np.array([0, 0, 1, 1]), np.array([0.0, 1.0, 3.0, 4.0]), macro=False) == 2.0


def test_without_an_anomaly_one_normal_sample_in_a_hundred_is_above() -> None:
    scores = np.arange(1000.0)
    cut, scale = threshold.fit(np.zeros(1000, int), scores, scores)
    assert (scores >= cut).sum() == 10
    assert scale == pytest.approx(scores.std())


def test_without_anything_normal_training_says_where_the_cut_is() -> None:
    cut, _ = threshold.fit(np.ones(5, int), np.full(5, 900.0), np.arange(100.0))
    assert 97 < cut < 99


def test_probabilities_are_half_at_the_cut_and_grow_with_the_score() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.3).astype(int)
    scores = rng.normal(2.0 * labels, 1.0)
    cut, scale = threshold.fit(labels, scores, scores[labels == 0])
    found = threshold.probabilities(np.array([cut, cut + 1, cut - 1, 1e9, -1e9]), cut, scale)
    assert found[0].tolist() == [0.5, 0.5]
    assert found[1, 1] > 0.5 > found[2, 1]
    np.testing.assert_allclose(found[3:], [[0, 1], [1, 0]])
    calibrated = threshold.probabilities(scores, cut, scale)[:, 1]
    assert abs(calibrated.mean() - 0.3) < 0.1


def test_scores_that_are_all_equal_break_nothing() -> None:
    cut, scale = threshold.fit(np.array([0, 1, 0, 1]), np.full(4, 2.0), np.full(3, 2.0))
    assert np.isfinite(threshold.probabilities(np.full(4, 2.0), cut, scale)).all()
