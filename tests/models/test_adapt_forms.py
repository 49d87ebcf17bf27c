"""Files as other countries and programs write them: decimals, thousands, dates, and what the settings say of them."""

import datetime
from pathlib import Path

import numpy as np
import pytest
from adapted import Adapt, measures, table

HEADER = ["width", "height", "label"]
START = datetime.datetime(2024, 1, 5, 6)


@pytest.fixture
def adapt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Adapt:
    return Adapt(tmp_path, capsys)


def with_comma(value: float) -> str:
    return str(value).replace(".", ",")


@pytest.mark.parametrize("header", [HEADER, []])
@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_comma_before_decimals_is_found(adapt: Adapt, tmp_path: Path, delimiter: str, header: list[str]) -> None:
    rows = [[with_comma(a), with_comma(b), c] for a, b, c in measures()]
    data = adapt(table(tmp_path / "a.csv", header, rows, delimiter=delimiter)).data
    assert (data["decimal"], data["delimiter"], data.get("categories")) == (",", delimiter, None)
    assert data["target"] == (header or ["c0", "c1", "c2"])[-1]


def test_numbers_with_a_comma_alone_are_told_apart_from_cells(adapt: Adapt, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"{with_comma(a)} {with_comma(b)} {c}" for a, b, c in measures()))
    data = adapt(tmp_path / "a.txt").data
    assert (data["decimal"], data["format"], data["header"]) == (",", "whitespace", False)


@pytest.mark.parametrize(
    ("cell", "delimiter", "decimal"),
    [("{:,.1f}", ",", None), ("{:,.0f}", ",", None), ("{:,.1f}", "swapped", ","), ("{:,.0f}", ";", ",")],
)
def test_separators_of_thousands_are_no_text(
    adapt: Adapt, tmp_path: Path, cell: str, delimiter: str, decimal: str | None
) -> None:
    texts = [cell.format(1000 * (3 + a)) for a, _, _ in measures()]
    if delimiter == "swapped":
        delimiter, texts = ";", [text.translate(str.maketrans(",.", ".,")) for text in texts]
    rows = [[text, b, c] for text, (_, b, c) in zip(texts, measures(), strict=True)]
    rows = [[a, "" if decimal else b, c] for a, b, c in rows]
    found = adapt(table(tmp_path / "a.csv", HEADER, rows, delimiter=delimiter))
    assert (found.rc, found.data.get("decimal"), found.data.get("categories")) == (0, decimal, None)


def test_a_number_that_could_be_read_in_two_ways_is_asked_about(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[f"1,{n + 100}", "x" if n % 2 else "y", c] for n, (_, _, c) in enumerate(measures())]
    said = adapt(table(tmp_path / "a.csv", HEADER, rows)).out
    assert "decimal: ." in said and "[data] decimal in lab.toml" in said


def test_words_with_a_comma_stay_words(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[a, ("1,5 mm", "2,5 mm", "none")[n % 3], c] for n, (a, _, c) in enumerate(measures())]
    data = adapt(table(tmp_path / "a.csv", HEADER, rows)).data
    assert data["categories"] == ["height"] and "decimal" not in data


def test_numbers_with_a_sign_in_each_cell_are_told(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[a, f"{n} %", c] for n, (a, _, c) in enumerate(measures())]
    found = adapt(table(tmp_path / "a.csv", HEADER, rows))
    assert found.data["exclude"] == ["height"] and "'0 %'; write the numbers alone" in found.out


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d/%m/%Y %H:%M:%S", "%d-%b-%Y %H:%M"])
def test_dates_of_other_forms_order_a_series(adapt: Adapt, tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(0)
    rows = [[(START + datetime.timedelta(hours=n)).strftime(form), rng.normal()] for n in range(900)]
    data = adapt(table(tmp_path / "a.csv", ["Zeit", "value"], rows)).data
    assert (data["modality"], data["time"], data["dates"]) == ("timeseries", "Zeit", form)


def test_day_and_month_that_could_be_either_are_told_apart_by_their_order(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    days = [START.replace(month=month, day=day) for month in range(1, 11) for day in range(1, 11)]
    rows = [[day.strftime("%m/%d/%Y"), rng.normal(), rng.normal()] for day in days]
    assert adapt(table(tmp_path / "a.csv", ["when", "value", "y"], rows)).data["dates"] == "%m/%d/%Y"
