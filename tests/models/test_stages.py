"""Figures of an endpoint: percentiles to a tenth, in memory that does not grow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.stages import EDGES, Figures, Histogram


@given(st.lists(st.floats(0.001, 10_000.0), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_a_percentile_is_right_to_a_tenth(times: list[float], percent: int) -> None:
    histogram = Histogram()
    for time in times:
        histogram.add(time)
    exact = float(np.percentile(times, percent, method="inverted_cdf"))
    assert exact <= histogram.percentile(percent) * 1.0001 <= exact * 1.11


def test_times_take_no_more_memory_than_there_are_buckets() -> None:
    histogram = Histogram()
    for time in np.random.default_rng(0).lognormal(0, 5, 50_000).tolist():
        histogram.add(time)
    assert len(histogram.counts) <= len(EDGES) + 1
    assert histogram.percentile(99) <= histogram.longest


def test_figures_begin_anew_once_they_are_taken() -> None:
    figures = Figures()
    figures.batch(2, 5)
    figures.stages["infer"].add(3.0, 2)
    figures.refused["corrupt"] += 1
    found = figures.take()
    assert found is not None
    assert (found["requests"], found["samples"], found["batches"], found["largest_batch"]) == (2, 5, 1, 5)
    assert found["infer_p50_ms"] == pytest.approx(3.0, rel=0.1)
    assert found["refused_by"] == {"corrupt": 1}
    assert "queue_p50_ms" not in found
    assert figures.take() is None
