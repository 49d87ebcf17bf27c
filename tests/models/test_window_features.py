"""Windows as rows: each statistic is what numpy says, and a missing value is left out."""

import warnings
from collections.abc import Callable

import numpy as np

from models import window_features
from models.contract import Column, Contract


def given(contract: Callable[..., Contract], columns: int, *categories: int) -> Contract:
    made = tuple(Column(name=f"c{i}", values=("a", "b", "c") if i in categories else None) for i in range(columns))
    return contract(
        modality="timeseries", shape=(9, columns), mean=(0.0,) * columns, std=(1.0,) * columns, columns=made
    )


def test_the_statistics_are_numpys_with_missing_values_left_out(contract: Callable[..., Contract]) -> None:
    rng = np.random.default_rng(0)
    windows = rng.normal(3, 2, (50, 9, 2)).astype(np.float32)
    windows[rng.random(windows.shape) < 0.2] = np.nan
    windows[0, :, 0] = np.nan
    found, categories = window_features.rows(windows, given(contract, 2))
    assert found.shape == (50, 14)
    assert categories == [False] * 14
    values = windows.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = {1: np.nanmean, 2: np.nanstd, 3: np.nanmin, 4: np.nanmax}
        for place, statistic in expected.items():
            np.testing.assert_allclose(found[:, 2 * place : 2 * place + 2], statistic(values, axis=1))
        differences = np.nanstd(np.diff(values, axis=1), axis=1)
    np.testing.assert_allclose(found[1:, 12:14], differences[1:], atol=1e-12)
    assert np.isnan(found[0, [0, 2, 4, 6, 8, 10, 12]]).all()
    for i in range(1, 5):
        there = np.flatnonzero(~np.isnan(values[i, :, 1]))
        assert found[i, 1] == values[i, there[-1], 1]
        np.testing.assert_allclose(found[i, 11], np.polyfit(there, values[i, there, 1], 1)[0])


def test_of_a_category_the_last_value_counts(contract: Callable[..., Contract]) -> None:
    windows = np.zeros((2, 9, 2), np.float32)
    windows[:, :, 1] = [[0, 1, 2, 2, 2, 1, 0, 2, 1], [0] * 8 + [np.nan]]
    found, categories = window_features.rows(windows, given(contract, 2, 1))
    assert found.shape == (2, 8)
    assert categories == [False] * 7 + [True]
    assert found[:, 7].tolist() == [1.0, 0.0]


def test_many_windows_are_taken_in_chunks_with_the_same_result(contract: Callable[..., Contract]) -> None:
    windows = np.random.default_rng(0).normal(0, 1, (window_features.CHUNK + 3, 9, 1)).astype(np.float32)
    found = window_features.rows(windows, given(contract, 1))[0]
    np.testing.assert_array_equal(found[-3:], window_features.rows(windows[-3:], given(contract, 1))[0])
