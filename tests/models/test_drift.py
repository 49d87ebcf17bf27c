"""The stability index: zero for what is expected, growing with the distance, finite for what was never seen."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import drift

Counts = st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(any)
PROFILE: dict[str, Any] = {
    "mean": {"edges": [0.0, 64.0, 128.0, 192.0, 256.0], "shares": [0.25, 0.25, 0.25, 0.25]},
    "contrast": {"edges": [0.0, 40.0, 80.0, 128.0], "shares": [0.3, 0.4, 0.3]},
}


def flat(*values: int) -> np.ndarray:
    """One flat picture [1, 4, 4] of each value."""
    return np.stack([np.full((1, 4, 4), value, np.uint8) for value in values])


@given(Counts)
def test_a_histogram_does_not_differ_from_itself(counts: list[int]) -> None:
    assert drift.psi(counts, counts) == 0.0


@given(Counts, st.integers(1, 50))
def test_only_shares_count(counts: list[int], factor: int) -> None:
    assert drift.psi(counts, [factor * count for count in counts]) == pytest.approx(0.0, abs=1e-9)


@given(st.integers(2, 12).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 99), min_size=n, max_size=n)] * 2)))
def test_it_is_never_negative_always_finite_and_the_same_both_ways(pair: tuple[list[int], list[int]]) -> None:
    if not any(pair[0]) or not any(pair[1]):
        return
    index = drift.psi(*pair)
    assert np.isfinite(index)
    assert index >= 0.0
    assert index == pytest.approx(drift.psi(pair[1], pair[0]))


def test_it_is_the_sum_of_its_definition() -> None:
    expected = (0.5 - 0.2) * np.log(0.5 / 0.2) + (0.5 - 0.8) * np.log(0.5 / 0.8)
    assert drift.psi([0.2, 0.8], [5, 5]) == pytest.approx(expected)


def test_it_grows_with_the_distance() -> None:
    steps = [drift.psi([50, 50], [50 + moved, 50 - moved]) for moved in (0, 10, 20, 40, 50)]
    assert steps == sorted(steps)
    assert len(set(steps)) == len(steps)


@pytest.mark.parametrize("bad", [[], [0, 0], [np.nan, 1.0], [np.inf, 1.0]])
def test_what_is_no_histogram_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one bin"):
        drift.psi([1, 1], bad)


def test_histograms_of_other_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 3 bins"):
        drift.psi([1, 1], [1, 1, 1])


def test_a_pictures_statistics_are_mean_and_deviation() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 3, 6, 7), np.uint8)
    found = drift.summarize(pictures)
    np.testing.assert_allclose(found["mean"], [picture.mean() for picture in pictures])
    np.testing.assert_allclose(found["contrast"], [picture.std() for picture in pictures])


def test_values_beyond_the_edges_fall_into_the_outer_bins() -> None:
    counts = drift.histogram(np.array([-5.0, 0.0, 1.5, 2.0, 99.0]), np.array([0.0, 1.0, 2.0]))
    assert counts.tolist() == [2.0, 3.0]


def test_a_watch_has_no_score_until_something_was_seen() -> None:
    watch = drift.Watch(PROFILE)
    assert watch.score() == {}
    assert watch.worst() == 0.0


def test_a_stream_as_expected_scores_zero_and_a_dark_one_does_not() -> None:
    watch = drift.Watch({"mean": PROFILE["mean"]})
    watch.add(flat(10, 100, 150, 250))
    assert (watch.seen, watch.worst()) == (4, 0.0)
    watch.add(flat(*[3] * 40))
    assert watch.seen == 44
    assert watch.worst() > 0.25


def test_the_score_does_not_depend_on_how_the_stream_is_cut() -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (30, 1, 4, 4), np.uint8)
    whole, parts = drift.Watch(PROFILE), drift.Watch(PROFILE)
    whole.add(pictures)
    for part in np.array_split(pictures, 7):
        parts.add(part)
    assert whole.score() == parts.score()
    assert set(whole.score()) == {"mean", "contrast"}


def test_a_reset_starts_a_new_window() -> None:
    watch = drift.Watch(PROFILE)
    watch.add(flat(*[3] * 40))
    watch.reset()
    assert watch.score() == {}
    fresh = drift.Watch(PROFILE)
    for one in (watch, fresh):
        one.add(flat(10, 100))
    assert watch.score() == fresh.score()


def test_the_worst_statistic_leads() -> None:
    watch = drift.Watch(PROFILE)
    watch.add(flat(10, 100, 150, 250))
    assert watch.worst() == max(watch.score().values())
