"""Times as people write them."""

import pytest

from models import moments

NOON = 1706702400.0  # 2024-01-31 12:00 UTC


@pytest.mark.parametrize(
    "text", ["2024-01-31 12:00", "2024-01-31T12:00:00Z", "2024-01-31 13:00:00+01:00", "20240131T120000"]
)
def test_iso_dates_need_no_pattern(text: str) -> None:
    assert moments.moment(text) == NOON


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("31.01.2024 12:00", "%d.%m.%Y %H:%M"), ("1/31/2024 12:00 PM", "%m/%d/%Y %I:%M %p"),
        ("31-Jan-2024 12:00:00", "%d-%b-%Y %H:%M:%S"), ("2024/01/31 12:00", "%Y/%m/%d %H:%M"),
        ("31.01.24 12:00", "%d.%m.%y %H:%M"), ("January 31, 2024 12:00", "%B %d, %Y %H:%M"),
    ],
)  # fmt: skip
def test_other_dates_are_read_by_the_pattern_that_fits_them(text: str, pattern: str) -> None:
    assert next(moments.patterns([text])) == (pattern, 1.0) and moments.moment(text, pattern) == NOON
    assert moments.moment(text) is None and moments.is_written(text)


@pytest.mark.parametrize("text", ["2024-01", "2024 Jan", "Jan-24", "January 2024", "01/2024", "Jan-1-2024"])
def test_a_month_is_its_first_day(text: str) -> None:
    pattern = next((found for found, _ in moments.patterns([text])), "")
    assert moments.moment(text, pattern) == moments.moment("2024-01-01")


@pytest.mark.parametrize(
    "text",
    ["", "soon", "31.02.2024", "12.5", "1.2.3", "V57", "10 mm", "a-b-c", "2024-13-01", "May", "march 7th", "1/2"],
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert moments.moment(text) is None and not moments.is_written(text)


def test_day_and_month_are_told_apart_by_the_days_above_twelve() -> None:
    found = dict(moments.patterns(["01/02/2024", "02/13/2024", "03/01/2024"]))
    assert found == {"%m/%d/%Y": 1.0, "%d/%m/%Y": 2 / 3}
