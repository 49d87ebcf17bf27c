"""Splits on a real local Spark: nothing leaks, and what is rare reaches every split."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import local_spark
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.jobs import split

SPARK_TEST = [pytest.mark.slow, local_spark.QUIET]
# Few examples, each a handful of Spark's jobs; many rows an example.
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    with local_spark.session() as session:
        yield session


def frame(spark: Any, rows: list[tuple[str, str]]) -> Any:
    return spark.createDataFrame(rows, "key string, label string")


ROWS = st.lists(st.tuples(st.integers(0, 40).map(str), st.sampled_from("abc")), min_size=1, max_size=150)


class TestOnSpark:
    pytestmark = SPARK_TEST

    @FEW
    @given(rows=ROWS, seed=st.integers(0, 3))
    def test_equal_content_never_straddles_and_a_class_with_three_contents_reaches_every_split(
        self, spark: Any, rows: list[tuple[str, str]], seed: int
    ) -> None:
        found = split.assigned(frame(spark, rows), "key", "label", seed=seed).collect()
        assert len(found) == len(rows)
        sides, classes = defaultdict(set), defaultdict(set)
        least: dict[str, str] = {}
        for key, label in rows:
            least[key] = min(label, least.get(key, label))
        for row in found:
            sides[row["key"]].add(row["split"])
        for key, label in least.items():
            classes[label].add(key)
        assert all(len(side) == 1 for side in sides.values())
        for keys in classes.values():
            cut = [sum(sides[key] == {name} for key in keys) for name in split.SPLITS]
            assert tuple(cut) == split.allot(len(keys), split.SHARES)
            assert len(keys) < 3 or min(cut) >= 1

    @FEW
    @given(rows=ROWS, seed=st.integers(0, 3), anomaly=st.booleans())
    def test_a_group_never_straddles(self, spark: Any, rows: list[tuple[str, str]], seed: int, anomaly: bool) -> None:
        named = [(key, "anomaly" if label == "a" else "normal") for key, label in rows] if anomaly else rows
        marked = frame(spark, named)
        found = split.assigned(marked, "key", "label", seed=seed, grouped=True, anomaly=anomaly).collect()
        sides = defaultdict(set)
        for row in found:
            sides[row["key"]].add(row["split"])
        assert all(len(side) == 1 for side in sides.values())
        assert None not in {row["split"] for row in found}
        if len(sides) >= 9:
            assert set.union(*sides.values()) == set(split.SPLITS)

    @FEW
    @given(rows=st.lists(st.tuples(st.integers(0, 9).map(str), st.sampled_from(split.SPLITS)), min_size=1))
    def test_content_of_two_splits_stays_in_the_later_one_only(self, spark: Any, rows: list[tuple[str, str]]) -> None:
        found = split.settled(spark.createDataFrame(rows, "content string, split string")).collect()
        assert len(found) == len(rows)
        kept = defaultdict(set)
        for row in found:
            if row["split"]:
                kept[row["content"]].add(row["split"])
        for content in {content for content, _ in rows}:
            theirs = [side for name, side in rows if name == content]
            assert kept[content] == {max(theirs, key=split.SPLITS.index)}

    def test_a_large_class_is_cut_by_its_draw_alone(self, spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(split, "LIMIT", 500)
        rows = [(f"{at}", "large" if at % 10 else "small") for at in range(2000)]
        first = {
            row["key"]: row["split"] for row in split.assigned(frame(spark, rows), "key", "label", seed=1).collect()
        }
        more = rows + [(f"{at}", "large") for at in range(2000, 2400)]
        again = {
            row["key"]: row["split"] for row in split.assigned(frame(spark, more), "key", "label", seed=1).collect()
        }
        assert all(again[key] == side for key, side in first.items())
        large = [side for key, side in first.items() if int(key) % 10]
        assert large.count("train") / len(large) == pytest.approx(0.7, abs=0.04)
        small = [side for key, side in first.items() if int(key) % 10 == 0]
        assert [small.count(name) for name in split.SPLITS] == [140, 30, 30]


@given(count=st.integers(0, 20_000), shares=st.sampled_from([split.SHARES, split.REST, split.HELD_OUT]))
def test_an_allotment_is_whole_and_close_to_the_shares(count: int, shares: split.Shares) -> None:
    found = split.allot(count, shares)
    assert sum(found) == count
    assert all(number == 0 for number, share in zip(found, shares, strict=True) if not share)
    assert all(abs(number - share * count) <= 2 for number, share in zip(found, shares, strict=True))
    if count >= 3:
        assert all(number >= 1 for number, share in zip(found, shares, strict=True) if share)
    if count >= 8 and shares == split.SHARES:
        assert found[0] >= 5
        assert found[2] >= 2


@given(total=st.integers(200, 10**9), odd=st.sets(st.integers(20, split.PLACES - 1), min_size=0, max_size=6))
def test_cuts_by_time_come_in_order_and_leave_something_to_each(total: int, odd: set[int]) -> None:
    first, second = split.places(total, split.SHARES, dict.fromkeys(odd, 3))
    assert 0 < first < second < total


def test_cuts_by_time_move_so_that_validation_and_test_hold_an_anomaly_whole() -> None:
    flagged = dict.fromkeys((*range(50, 60), *range(320, 331), *range(345, 356)), 9)
    first, second = split.places(50_000, split.SHARES, flagged)
    assert 6000 < first <= 32_000
    assert 33_100 <= second <= 34_500


def test_the_shares_hold_without_an_anomaly() -> None:
    assert split.places(1000, split.SHARES, {}) == (700, 850)
