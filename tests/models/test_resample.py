"""Resampling: whole units where there are units, fewer draws where there are many samples."""

import numpy as np

from models import resample


def test_a_unit_is_drawn_whole_or_not_at_all() -> None:
    groups = np.array(["a", "b", "b", "c", "a", "c", "c"])
    for pick in resample.picks(7, groups, 0):
        for name in "abc":
            members = np.flatnonzero(groups == name)
            drawn = [int((pick == member).sum()) for member in members]
            assert len(set(drawn)) == 1


def test_one_unit_alone_is_no_grouping() -> None:
    assert resample.units(["a", "a", "a"]) is None
    assert resample.units([]) is None
    assert resample.units(None) is None
    assert all(len(pick) == 3 for pick in resample.picks(3, ["a"] * 3, 0))


def test_a_large_test_set_is_drawn_less_often_but_often_enough() -> None:
    assert sum(1 for _ in resample.picks(100, None, 0)) == resample.RESAMPLES
    assert sum(1 for _ in resample.picks(1_000_000, None, 0)) == resample.FEWEST
