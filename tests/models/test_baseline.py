"""What a model must beat: the baselines of every task learn what they can, answer in the right unit, and repeat."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models import baseline, regression
from models import curated as reader
from models.contract import ANOMALY, Column, Contract, Target

Make = Callable[..., Contract]
NAMES = {
    "table": {"majority", "logistic_regression", "gradient_boosting"},
    "prices": {"mean", "ridge", "gradient_boosting"},
    "engines": {"mean_life", "ridge", "gradient_boosting"},
    "machine": {"z_score", "persistence"},
    "curated": {"majority", "logistic_regression"},
}


def halves(samples: int, side: int, seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Dark and bright pictures [N, 1, S, S], by label."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    pixels = rng.integers(0, 80, (samples, 1, side, side)) + (labels * 60)[:, None, None, None]
    return pixels.astype(np.uint8), labels


def found(data: Path) -> tuple[dict[str, np.ndarray], np.ndarray, Contract]:
    contract = Contract.load(data / "contract.json")
    train, validation, test = (reader.read(data, split)[:2] for split in ("train", "validation", "test"))
    return baseline.answers(contract, train, validation, test[0]), test[1], contract


@pytest.mark.parametrize("side", [6, 30, 50])
def test_logistic_regression_tells_what_a_line_can_tell(contract: Make, side: int) -> None:
    train, validation, test = (halves(60, side, seed) for seed in range(3))
    answers = baseline.answers(contract(shape=(1, side, side)), train, validation, test[0])["logistic_regression"]
    assert answers.shape == (60, 2)
    assert (answers.argmax(1) == test[1]).mean() > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_every_task_has_its_baselines_and_they_answer_as_a_net_does(name: str, request: pytest.FixtureRequest) -> None:
    answers, labels, contract = found(request.getfixturevalue(name))
    assert set(answers) == NAMES[name]
    for given in answers.values():
        assert given.shape == (len(labels), len(contract.classes) or 1)
        assert np.isfinite(given).all()
        if contract.categorical:
            np.testing.assert_allclose(given.sum(1), 1.0)
            assert given.min() >= 0


def test_boosting_finds_in_a_table_what_no_line_can(table: Path) -> None:
    answers, labels, _ = found(table)
    right = {name: (given.argmax(1) == labels).mean() for name, given in answers.items()}
    assert right["gradient_boosting"] > 0.95 > right["logistic_regression"] > right["majority"]


def test_baselines_of_numbers_answer_in_the_targets_unit(prices: Path) -> None:
    answers, labels, _ = found(prices)
    errors = {name: regression.rmse(labels, given[:, 0]) for name, given in answers.items()}
    assert errors["gradient_boosting"] < errors["ridge"] < errors["mean"] < 1.1 * labels.std()


def test_boosting_on_window_features_tells_a_remaining_life_within_its_cap(engines: Path) -> None:
    answers, labels, _ = found(engines)
    errors = {name: regression.rmse(labels, given[:, 0]) for name, given in answers.items()}
    assert errors["gradient_boosting"] < 3 < errors["mean_life"]
    for given in answers.values():
        assert given.min() >= 0
        assert given.max() <= 40


def test_the_majority_answers_the_most_frequent_class_and_never_with_certainty(contract: Make) -> None:
    pixels, _ = halves(10, 8, 0)
    labels = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 1])
    three = contract(classes=("a", "b", "c"))
    answers = baseline.answers(three, (pixels, labels), (pixels, labels), pixels[:4])["majority"]
    np.testing.assert_allclose(answers, np.tile([4 / 13, 8 / 13, 1 / 13], (4, 1)))


def test_a_class_that_training_never_saw_gets_no_probability(contract: Make) -> None:
    train = halves(40, 8, 0)
    answers = baseline.answers(contract(classes=("a", "b", "c")), train, train, train[0])["logistic_regression"]
    assert answers.shape == (40, 3)
    assert answers[:, 2].max() == 0.0


def test_classes_that_only_validation_knows_break_nothing(table: Path) -> None:
    contract = Contract.load(table / "contract.json")
    train, validation = (reader.read(table, split)[:2] for split in ("train", "validation"))
    three = Contract.load(table / "contract.json").document() | {"classes": ["no", "yes", "never"]}
    wide = Contract(
        **{**contract.__dict__, "classes": tuple(three["classes"])},
    )
    labels = validation[1].copy()
    labels[0] = 2
    for given in baseline.answers(wide, train, (validation[0], labels), validation[0]).values():
        assert given.shape == (len(labels), 3)


def test_a_training_split_of_one_class_is_answered_with_it(table: Path) -> None:
    contract = Contract.load(table / "contract.json")
    rows, labels = reader.read(table, "train")[:2]
    answers = baseline.answers(contract, (rows, np.ones_like(labels)), (rows, labels), rows[:5])
    for given in answers.values():
        assert given.argmax(1).tolist() == [1] * 5


def test_the_same_data_give_the_same_answers(table: Path) -> None:
    first, again = found(table)[0], found(table)[0]
    for name, answers in first.items():
        np.testing.assert_array_equal(answers, again[name])


def series(contract: Make, **other: object) -> Contract:
    given = {
        "modality": "timeseries", "task": "regression", "shape": (4, 2), "classes": (), "mean": (0.0, 0.0),
        "std": (1.0, 1.0), "columns": (Column(name="load"), Column(name="hour")),
        "target": Target(name="load", mean=0.0, std=1.0),
    }  # fmt: skip
    return contract(**given | other)


def test_the_last_value_is_that_of_the_targets_own_column_and_the_mean_where_it_is_missing(contract: Make) -> None:
    rng = np.random.default_rng(0)
    windows = rng.normal(0, 1, (40, 4, 2)).astype(np.float32)
    windows[0, :, 0] = np.nan
    windows[1, 3, 0] = np.nan
    labels = windows[:, -1, 1].astype(np.float64)
    split = (windows, labels)
    answers = baseline.answers(series(contract), split, split, windows)["last_value"][:, 0]
    np.testing.assert_allclose(answers[2:], windows[2:, -1, 0])
    assert answers[0] == pytest.approx(labels.mean())
    assert answers[1] == pytest.approx(windows[1, 2, 0])
    other = series(contract, target=Target(name="price", mean=0.0, std=1.0))
    assert "last_value" not in baseline.answers(other, split, split, windows)


def test_the_mean_life_counts_the_age_where_the_time_is_a_column(contract: Make) -> None:
    ages = np.tile(np.arange(20.0), 3)
    windows = np.zeros((60, 4, 2), np.float32)
    windows[:, -1, 0] = ages
    split = (windows, 19 - ages)
    given = series(
        contract, task="rul", time="cycle", columns=(Column(name="cycle"), Column(name="heat")),
        target=Target(name="rul", mean=9.5, std=5.8, cap=125.0),
    )  # fmt: skip
    np.testing.assert_allclose(baseline.answers(given, split, split, windows)["mean_life"][:, 0], 19 - ages)


def test_a_picture_far_from_the_mean_image_is_an_anomaly(contract: Make) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(100, 110, (60, 1, 8, 8)).astype(np.uint8)
    labels = (np.arange(60) % 6 == 0).astype(np.int64)
    pixels[labels == 1, 0, 2:4, 2:4] = 200
    given = contract(task="anomaly", classes=ANOMALY)
    normal = (pixels[labels == 0][:30], np.zeros(30, np.int64))
    answers = baseline.answers(given, normal, (pixels, labels), pixels)
    assert set(answers) == {"mean_image"}
    assert (answers["mean_image"].argmax(1) == labels).all()
