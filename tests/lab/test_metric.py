"""Which metric leads, and which row is best by it."""

import pytest

from lab import metric

ROWS = {"a": {"accuracy": 0.9, "rmse": 3.0}, "b": {"accuracy": 0.8, "rmse": 2.0}, "c": {"mae": 1.0}}


@pytest.mark.parametrize(
    ("task", "leading", "best"),
    [("classification", "accuracy", "a"), ("rul", "rmse", "b"), ("regression", "rmse", "b")],
)
def test_an_error_is_better_when_it_is_smaller(task: str, leading: str, best: str) -> None:
    assert metric.leading(task) == leading
    assert metric.best(ROWS, leading) == best


def test_no_row_is_best_where_none_was_measured() -> None:
    assert metric.best(ROWS, "auroc") is None
    assert metric.best({}, "accuracy") is None


def test_a_figure_is_shown_with_its_interval() -> None:
    assert metric.text({"rmse": 2.5}, "rmse") == "2.5000"
    assert metric.text({"rmse": 2.5, "rmse_low": 2.0, "rmse_high": 3.0}, "rmse") == "2.5000 [2.0000, 3.0000]"
