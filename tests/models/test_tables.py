"""Cells of a table to the raw tensor, the same for every way in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import features, tables
from models.contract import SCHEMA, Column, Contract, Target

COLUMNS = (Column(name="age"), Column(name="colour", values=("blue", "red")))


def contract(modality: str = "tabular", **changes: object) -> Contract:
    shape = (2,) if modality == "tabular" else (3, 2)
    told: dict[str, object] = {
        "schema": SCHEMA,
        "dataset": "d",
        "modality": modality,
        "task": "regression",
        "shape": shape,
        "classes": (),
        "mean": (0.0, 0.0),
        "std": (1.0, 1.0),
        "counts": {},
        "profile": {},
        "columns": COLUMNS,
        "target": Target(name="y", mean=0.0, std=1.0),
        "missing": ("?",),
    }
    return Contract(**{**told, **changes})  # type: ignore[arg-type]


def test_numbers_categories_and_what_is_missing() -> None:
    found = tables.matrix(
        {"age": [" 1.5", "?", "", None, 7], "colour": ["red", "blue", "green", "?", None]}, COLUMNS, ["?"]
    )
    nan = float("nan")
    expected = np.array([[1.5, 1], [nan, 0], [nan, nan], [nan, nan], [7, nan]], np.float32)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


def test_text_in_a_number_is_named_with_column_and_row() -> None:
    with pytest.raises(tables.CorruptTable, match=r"column 'age', row 3: 'twelve' is no number"):
        tables.matrix({"age": ["1", "?", "twelve"], "colour": ["red"] * 3}, COLUMNS, ["?"])


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [
        ("1,234.5", ".", 1234.5), ("-12,345,678", ".", -12345678), ("1\u202f234.5", ".", 1234.5),
        ("1'234.5", ".", 1234.5), ("1.234,5", ",", 1234.5), ("0,5", ",", 0.5), ("1 234,5", ",", 1234.5),
        ("1.234", ",", 1234), ("1,5e3", ",", 1500), ("12.5", ",", 12.5), ("7", ",", 7),
    ],
)  # fmt: skip
def test_numbers_as_countries_write_them(text: str, decimal: str, value: float) -> None:
    assert tables.numbers([text, None], [], "age", decimal)[0] == value


@pytest.mark.parametrize(("text", "decimal"), [("1,23", "."), ("1,2345", "."), ("1,234'567", "."), ("1,2,3", ",")])
def test_a_comma_at_another_place_is_no_number(text: str, decimal: str) -> None:
    with pytest.raises(tables.CorruptTable, match=f"row 2: '{text}' is no number"):
        tables.numbers(["1", text], [], "age", decimal)


@pytest.mark.parametrize("body", ["age;colour\n1,5;red\n", "1,5;red\n", 'age,colour\n"1,5",red\n', "1,5\tred\n"])
def test_a_request_is_read_with_the_contract_s_decimals(body: str) -> None:
    assert tables.read(body.encode(), contract(decimal=",")).tolist() == [[1.5, 1.0]]


def test_a_lacking_column_is_named() -> None:
    with pytest.raises(tables.CorruptTable, match="the column 'colour' is missing; there are age"):
        tables.matrix({"age": ["1"]}, COLUMNS, [])


@pytest.mark.parametrize("text", ["inf", "-Infinity", "1e300", "nan"])
def test_what_is_no_finite_number_is_missing(text: str) -> None:
    assert np.isnan(tables.numbers([text], [], "age")).all()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=20))
def test_a_number_gives_the_same_tensor_as_text_and_as_number(values: list[float]) -> None:
    columns = [Column(name="x")]
    as_numbers = tables.matrix({"x": values}, columns, [])
    as_texts = tables.matrix({"x": [repr(value) for value in values]}, columns, [])
    np.testing.assert_array_equal(as_numbers, as_texts)
    np.testing.assert_array_equal(as_numbers[:, 0], np.array(values, np.float32))


@pytest.mark.parametrize(("cell", "name"), [(1, "1"), (1.0, "1"), ("1", "1"), (" a ", "a"), (None, None), ("?", None)])
def test_a_category_is_called_the_same_whatever_it_comes_as(cell: object, name: str | None) -> None:
    assert tables.category(cell, ["?"]) == name


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9))
def test_windows_end_with_the_last_step_and_lie_a_stride_apart(length: int, steps: int, stride: int) -> None:
    series = np.arange(length * 2, dtype=np.float32).reshape(length, 2)
    found = tables.windows(series, steps, stride)
    assert found.shape[1:] == (steps, 2)
    np.testing.assert_array_equal(found[-1, -1], series[-1])
    ends = found[:, -1, 0] / 2
    assert (np.diff(ends) == stride).all()
    assert len(found) == (1 if length <= steps else (length - steps) // stride + 1)


def test_a_series_shorter_than_a_window_lacks_its_first_steps() -> None:
    found = tables.windows(np.ones((2, 1), np.float32), 4, 1)
    np.testing.assert_array_equal(np.isnan(found[0, :, 0]), [True, True, False, False])


@pytest.mark.parametrize(
    "text",
    [
        "age,colour\n1,red\n2,blue\n",
        "colour;age\r\nred;1\r\nblue;2\r\n",
        "1\tred\n2\tblue\n",
        "\ufeffage|other|colour\n1|x|red\n2|y|blue",
    ],
)
def test_a_text_is_read_whatever_its_delimiter_and_its_order(text: str) -> None:
    found = features.read(text.encode(), contract())
    np.testing.assert_array_equal(found, np.array([[1, 1], [2, 0]], np.float32))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"age,colour\n", "has a header and no row"),
        (b"age,colour\n1\n", "row 1 has 1 cells, the table has 2 columns"),
        (b"1,red,3\n", "has 3 columns and no header; 2 are expected"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"age,colour\nx,red\n", "column 'age', row 1: 'x' is no number"),
    ],
)
def test_a_text_that_is_no_table_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(features.CorruptSample, match=message):
        features.read(data, contract())


def test_each_unit_of_a_series_gives_its_own_windows() -> None:
    rows = "".join(f"{unit},{step},red\n" for unit in "ab" for step in range(4))
    found = features.read(f"unit,age,colour\n{rows}".encode(), contract("timeseries", group="unit"))
    assert found.shape == (4, 3, 2)
    np.testing.assert_array_equal(found[:, -1, 0], [2, 3, 2, 3])
