"""The first layers: scaled numbers, flags of missing ones, and a point for every category."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from models import layers
from models.contract import Column, Contract

Make = Callable[..., Contract]
NAN = float("nan")


def made(contract: Make, *columns: Column) -> layers.Columns:
    numbers = [column.values is None for column in columns]
    return layers.Columns(
        contract(
            modality="tabular", shape=(len(columns),), columns=columns,
            mean=tuple(10.0 if number else 0.0 for number in numbers),
            std=tuple(2.0 if number else 1.0 for number in numbers),
        )
    ).eval()  # fmt: skip


def test_numbers_are_scaled_and_a_missing_one_is_the_mean(contract: Make) -> None:
    layer = made(contract, Column(name="a"), Column(name="b"))
    found = layer(torch.tensor([[12.0, NAN], [10.0, 4.0]]))
    assert found[:, :2].tolist() == [[1.0, 0.0], [0.0, -3.0]]
    assert found.shape == (2, layer.width)


def test_the_flag_of_a_column_rises_only_where_training_had_missing_values(contract: Make) -> None:
    layer = made(contract, Column(name="a"), Column(name="b"))
    layer.observe(torch.tensor([[1.0, NAN], [2.0, 3.0]]))
    assert layer(torch.tensor([[NAN, NAN]]))[0, 2:].tolist() == [0.0, 1.0]
    assert layer(torch.tensor([[1.0, 1.0]]))[0, 2:].tolist() == [0.0, 0.0]


def test_what_is_very_far_out_is_cut_and_stays_finite(contract: Make) -> None:
    layer = made(contract, Column(name="a"))
    assert layer(torch.tensor([[3e38], [-3e38], [NAN]]))[:, 0].tolist() == [layers.FAR, -layers.FAR, 0.0]


def test_each_category_has_its_own_point_and_an_unknown_one_starts_at_zero(contract: Make) -> None:
    layer = made(contract, Column(name="a", values=("x", "y", "z")))
    found = layer(torch.tensor([[0.0], [1.0], [2.0], [NAN]]))
    assert len({tuple(row) for row in found.tolist()}) == 4
    assert found[3].abs().sum() == 0
    torch.testing.assert_close(layer(torch.tensor([[77.0]])), found[3:])


@pytest.mark.parametrize("kinds", ["n", "c", "nc", "cnnc"])
def test_rows_and_windows_are_taken_alike(contract: Make, kinds: str) -> None:
    columns = [Column(name=f"c{i}", values=("x", "y") if kind == "c" else None) for i, kind in enumerate(kinds)]
    layer = made(contract, *columns)
    cells = np.random.default_rng(0).integers(0, 2, (3, 5, len(kinds))).astype(np.float32)
    windows = layer(torch.from_numpy(cells))
    assert windows.shape == (3, 5, layer.width)
    torch.testing.assert_close(windows[1], layer(torch.from_numpy(cells[1])))
