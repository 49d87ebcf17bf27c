"""What an expert would say a column is for, on shapes that public tables have."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapted import Adapt, measures, table

START = datetime.date(2015, 1, 1)


@pytest.fixture
def adapt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Adapt:
    return Adapt(tmp_path, capsys)


def noise(count: int, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).normal(size=count).round(4).tolist()


def test_a_column_of_row_names_without_a_name_is_called_by_its_place(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[n, *row] for n, row in enumerate(measures(80))]
    data = adapt(table(tmp_path / "a.csv", ["", "width", "height", "label"], rows)).data
    assert (data["modality"], data["target"], data["exclude"]) == ("tabular", "label", ["c0"])


def test_a_separator_at_the_end_of_every_line_is_an_empty_column(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[*row, ""] for row in measures(80)]
    data = adapt(table(tmp_path / "a.csv", ["width", "height", "label", ""], rows)).data
    assert (data["target"], data["exclude"]) == ("label", ["c3"])


@pytest.mark.parametrize("name", ["quarter", "Month", "weekday", "id", "customer_id"])
def test_no_calendar_and_no_identifier_is_guessed_to_be_the_target(adapt: Adapt, tmp_path: Path, name: str) -> None:
    rows = [[a, b, n % 5] for n, (a, b) in enumerate(zip(noise(90), noise(90, 1), strict=True))]
    assert adapt(table(tmp_path / "a.csv", ["load", "yield", name], rows)).data["target"] == "yield"


def test_a_count_with_lone_values_is_a_quantity(adapt: Adapt, tmp_path: Path) -> None:
    counts = [*np.random.default_rng(0).integers(0, 8, 398).tolist(), 11, 15]
    rows = [[a, count] for a, count in zip(noise(400), counts, strict=True)]
    data = adapt(table(tmp_path / "a.csv", ["age", "visits"], rows)).data
    assert (data["target"], data["task"]) == ("visits", "regression")


def test_rows_of_one_person_stay_together(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [[int(rng.integers(40)), a, "yes" if a + rng.normal() > 0 else "no"] for a in noise(120)]
    assert adapt(table(tmp_path / "a.csv", ["id", "age", "smokes"], rows)).data["group"] == "id"


def monthly(count: int) -> list[str]:
    return [f"{START.year + n // 12}-{n % 12 + 1:02}-01" for n in range(count)]


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("date", monthly(96)), ("Month", [day[:7] for day in monthly(96)]), ("YEAR", list(range(1700, 1796))),
        ("date", [day.replace("-", "") for day in monthly(96)]),
        ("day", [f"{day[5:7]}/{day[8:]}/{day[:4]}" for day in monthly(96)]),
        ("", [str(START + datetime.timedelta(weeks=n)) for n in range(96)]),
    ],
)  # fmt: skip
def test_a_time_and_one_reading_are_a_series(adapt: Adapt, tmp_path: Path, name: str, times: list[Any]) -> None:
    rows = list(zip(times, noise(96), strict=True))
    data = adapt(table(tmp_path / "a.csv", [name, "sunspots"], rows)).data
    assert (data["modality"], data["task"], data["time"]) == ("timeseries", "anomaly", name or "c0")


def test_two_columns_without_header_of_which_one_counts_are_a_series(adapt: Adapt, tmp_path: Path) -> None:
    data = adapt(table(tmp_path / "a.csv", [], zip(range(1821, 1921), noise(100), strict=True))).data
    assert (data["modality"], data["time"], data["header"]) == ("timeseries", "c0", False)


def test_classes_whose_samples_are_numbered_are_no_machines(adapt: Adapt, tmp_path: Path) -> None:
    sizes = (("Adelie", 70), ("Chinstrap", 40), ("Gentoo", 60))
    rows = [[number, kind, *noise(2, number)] for kind, count in sizes for number in range(1, count + 1)]
    data = adapt(table(tmp_path / "a.csv", ["Sample Number", "Species", "depth", "mass"], rows)).data
    assert (data["modality"], data["task"], data["target"]) == ("tabular", "classification", "Species")


def test_units_that_start_at_different_times_did_not_run_to_failure(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for country in range(20):
        first = int(rng.integers(1946, 1970))
        rows += [[f"country {country}", first + n, *noise(2, country)] for n in range(int(rng.integers(20, 40)))]
    data = adapt(table(tmp_path / "a.csv", ["country", "year", "gdp", "trade"], rows)).data
    assert (data["group"], data["time"], data["task"]) == ("country", "year", "anomaly")


def test_a_refusal_of_a_guessed_target_says_that_it_was_a_guess(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[a, b, kind] for a, b, kind in measures(60)]
    rows[4][2] = "odd"
    path = table(tmp_path / "a.csv", ["width", "height", "state"], rows)
    assert "it is a guess (it is the last column): --target COLUMN names another" in adapt.refused(path)
    assert "guess" not in adapt.refused(path, "--target", "state")


def test_an_invisible_character_in_a_number_is_shown(adapt: Adapt, tmp_path: Path) -> None:
    rows = measures(60)
    rows[10][1] = "6.2\x1a"
    assert r"'6.2\x1a' is no number" in adapt.refused(table(tmp_path / "a.csv", ["width", "height", "label"], rows))


def test_rows_with_names_that_the_header_leaves_out_are_told(adapt: Adapt, tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.csv", ["width", "height", "label"], [[f"part {n}", *row] for n, row in enumerate(measures())]
    )
    said = adapt.refused(path)
    assert "line 1 has 3 names, the rows have 4 cells" in said and "name the first column too" in said


def test_lines_above_the_header_are_told_apart_from_ragged_rows(adapt: Adapt, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ["width", "height", "label"], measures(60))
    rows = path.read_text().replace("label", "label,", 1)  # a name too many, as exports have
    path.write_text("Line 4, shift B\n\nExported 2024-01-31\n" + rows)
    said = adapt.refused(path)
    assert "line 1 is no row of the table, which starts in line 4" in said and "above" in said
