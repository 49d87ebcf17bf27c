"""What a model must beat: the majority knows only shares, logistic regression learns what a line can tell."""

import numpy as np
import pytest

from models import baseline


def halves(samples: int, side: int, seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Dark and bright pictures [N, 1, S, S], by label."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    pixels = rng.integers(0, 80, (samples, 1, side, side)) + (labels * 60)[:, None, None, None]
    return pixels.astype(np.uint8), labels


@pytest.mark.parametrize("side", [6, 30, 50])
def test_logistic_regression_tells_what_a_line_can_tell(side: int) -> None:
    train, validation, test = (halves(60, side, seed) for seed in range(3))
    found = baseline.answers(train, validation, test[0], 2)["logistic_regression"]
    assert found.shape == (60, 2)
    assert (found.argmax(1) == test[1]).mean() > 0.95


def test_both_answer_with_probabilities_for_every_class() -> None:
    found = baseline.answers(halves(60, 8, 0, 3), halves(30, 8, 1, 3), halves(9, 8, 2, 3)[0], 3)
    assert set(found) == {"majority", "logistic_regression"}
    for answers in found.values():
        assert answers.shape == (9, 3)
        np.testing.assert_allclose(answers.sum(1), 1.0)
        assert answers.min() >= 0


def test_the_majority_answers_the_most_frequent_class_and_never_with_certainty() -> None:
    pixels, _ = halves(10, 8, 0)
    labels = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 1])
    found = baseline.answers((pixels, labels), (pixels, labels), pixels[:4], 3)["majority"]
    np.testing.assert_allclose(found, np.tile([4 / 13, 8 / 13, 1 / 13], (4, 1)))


def test_a_class_that_training_never_saw_gets_no_probability() -> None:
    train = halves(40, 8, 0)
    found = baseline.answers(train, train, train[0], 3)["logistic_regression"]
    assert found.shape == (40, 3)
    assert found[:, 2].max() == 0.0


def test_the_same_data_give_the_same_answers() -> None:
    given = (halves(40, 8, 0), halves(20, 8, 1), halves(10, 8, 2)[0], 2)
    first, again = baseline.answers(*given), baseline.answers(*given)
    for name, answers in first.items():
        np.testing.assert_array_equal(answers, again[name])
