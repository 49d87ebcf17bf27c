"""The stability index: zero for what is expected, growing with the distance, finite for what was never seen."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2, ks_2samp, kstwobign

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


# Significance: how often unmoved data raise an alarm, and how surely moved ones do.


def profile(trained: np.ndarray) -> dict[str, Any]:
    """Of [M, F] numbers, ten bins each of which holds as many, as the ETL makes them."""
    found = {}
    for number, values in enumerate(trained.T):
        edges = np.unique(np.quantile(values, np.arange(11) / 10))
        shares = drift.histogram(values, edges) / len(values)
        found[str(number)] = {"edges": edges.tolist(), "shares": shares.tolist()}
    return found


def window(random: np.random.Generator, samples: int, trained: int, features: int, moved: float = 0.0) -> drift.Watch:
    """A window of normal numbers, one of whose features moved by so many deviations, over a profile of its own."""
    names = [str(number) for number in range(features)]
    watch = drift.Watch(profile(random.standard_normal((trained, features))), names, trained)
    seen = random.standard_normal((samples, features)).astype(np.float32)
    seen[:, 0] += np.float32(moved)
    watch.add(seen)
    return watch


@pytest.mark.parametrize("degrees", [1, 2, 5, 9, 10])
@pytest.mark.parametrize("value", [0.0, 0.3, 4.0, 20.0, 60.0])
def test_the_chi_square_tail_is_scipys(value: float, degrees: int) -> None:
    assert drift.chi_square_tail(value, degrees) == pytest.approx(chi2.sf(value, degrees), rel=1e-9)


@pytest.mark.parametrize("scaled", [0.3, 0.5, 0.8, 1.36, 2.5])
def test_the_kolmogorov_tail_is_scipys(scaled: float) -> None:
    root = 40.0
    distance = scaled / (root + 0.12 + 0.11 / root)
    assert drift.kolmogorov_tail(distance, root**2) == pytest.approx(kstwobign.sf(scaled), rel=1e-9)


@pytest.mark.parametrize(("samples", "trained", "features"), [(100, 400, 1), (100, 1000, 10), (1000, 5000, 4)])
def test_unmoved_data_are_significant_no_more_often_than_was_said(samples: int, trained: int, features: int) -> None:
    random, windows, alpha = np.random.default_rng(7), 400, 0.05
    found = sum(window(random, samples, trained, features).judge(alpha).significant for _ in range(windows))
    # More than this in 400 windows has a probability below one in a thousand, were the rate the one that was said.
    assert found <= binom.ppf(0.999, windows, alpha)


def test_the_bound_is_not_empty_some_windows_of_unmoved_data_are_significant() -> None:
    random = np.random.default_rng(8)
    assert sum(window(random, 200, 2000, 1).judge(0.2).significant for _ in range(200)) >= 10


@pytest.mark.parametrize(("samples", "moved"), [(100, 1.0), (400, 0.7)])
def test_data_that_moved_raise_the_alarm_nearly_always(samples: int, moved: float) -> None:
    random = np.random.default_rng(9)
    alarms = [window(random, samples, 2000, 10, moved).judge() for _ in range(50)]
    assert sum(one.alarm for one in alarms) >= 48
    assert {one.features[0].name for one in alarms if one.alarm} == {"0"}


def test_with_many_samples_a_small_shift_is_significant_and_no_alarm() -> None:
    found = window(np.random.default_rng(10), 20_000, 20_000, 2, 0.1).judge()
    assert found.significant and not found.alarm
    assert found.features[0].psi < 0.05


def test_a_large_index_of_few_samples_is_no_alarm() -> None:
    random = np.random.default_rng(11)
    found = [window(random, 12, 2000, 4).judge() for _ in range(100)]
    assert sum(one.psi > 0.25 for one in found) > 50
    assert sum(one.alarm for one in found) <= 5


def test_what_lies_where_training_had_nothing_is_seen_though_the_bins_around_are_full() -> None:
    binary = {"0": {"edges": [-2.0, -0.5, 0.5, 1.5, 3.0], "shares": [0.0, 0.5, 0.5, 0.0]}}
    watch = drift.Watch(binary, ["0"], 2000)
    watch.add(np.array([[0.0], [1.0]] * 50, np.float32))
    assert not watch.judge().significant
    watch.add(np.array([[2.5]] * 30, np.float32))
    assert watch.judge().alarm


def test_the_threshold_is_the_chi_square_quantile_for_the_sizes_at_hand() -> None:
    limit = drift.threshold(100, 400, alpha=0.01, features=4)
    assert limit == pytest.approx(chi2.isf(0.01 / (4 * drift.TESTS), 9) / 80, rel=1e-4)
    assert drift.threshold(1000, 4000, alpha=0.01, features=4) == pytest.approx(limit / 10, rel=1e-4)


def test_a_distance_over_bins_is_no_larger_than_the_real_one() -> None:
    random = np.random.default_rng(12)
    first, second = random.standard_normal(500), random.standard_normal(300) + 0.4
    edges = np.linspace(-4, 4, 9)
    binned = drift.ks(drift.histogram(first, edges).tolist(), drift.histogram(second, edges).tolist())
    assert 0 < binned <= ks_2samp(first, second).statistic


def test_a_watch_that_saw_nothing_judges_nothing() -> None:
    found = drift.Watch(PROFILE).judge()
    assert (found.alarm, found.significant, found.samples, found.p, found.features) == (False, False, 0, 1.0, ())
