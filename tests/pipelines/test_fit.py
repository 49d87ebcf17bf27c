"""Mean, deviation and profile from whole-number sums, against numpy on the samples themselves."""

import numpy as np
import numpy.typing as npt
import pytest

from models import drift
from pipelines.jobs import curate, fit

Pixels = npt.NDArray[np.uint8]


def facts(pixels: Pixels) -> fit.Facts:
    """What Spark would have summed up, cut anywhere."""
    found: dict[str, npt.NDArray[np.int64]] = {
        "pixels": np.zeros(1, np.int64),
        "sum": np.zeros(pixels.shape[1], np.int64),
        "squares": np.zeros(pixels.shape[1], np.int64),
        "mean": np.zeros(curate.BINS, np.int64),
        "contrast": np.zeros(curate.BINS, np.int64),
    }
    for part in np.array_split(pixels, 3):
        rows = iter([(sample.tobytes(),) for sample in part])
        for (name, at), value in curate.sums(rows, pixels.shape[1:]):
            found[name][at] += value
    return found


@pytest.fixture
def pixels() -> Pixels:
    rng = np.random.default_rng(17)
    bright = rng.integers(20, 230, (500, 1, 1, 1))
    return np.clip(rng.normal(bright, 15, (500, 3, 6, 6)), 0, 255).astype(np.uint8)


def test_mean_and_deviation_are_those_of_the_pixels(pixels: Pixels) -> None:
    found = facts(pixels)
    np.testing.assert_allclose(fit.mean(found), pixels.mean((0, 2, 3), np.float64), rtol=1e-12)
    np.testing.assert_allclose(fit.deviation(found), pixels.std((0, 2, 3), np.float64), rtol=1e-9)


def test_the_profile_has_even_bins_and_finds_the_training_split_unmoved(pixels: Pixels) -> None:
    profile = fit.profile(facts(pixels))
    for part in profile.values():
        assert part["edges"][0] == 0.0
        assert part["edges"][-1] == 255.0
        assert np.all(np.diff(part["edges"]) > 0)
        assert sum(part["shares"]) == pytest.approx(1)
        assert max(part["shares"]) < 0.2
    watch = drift.Watch(profile)
    watch.add(pixels)
    assert watch.worst() < 0.01


def test_the_profile_notices_brighter_pictures(pixels: Pixels) -> None:
    watch = drift.Watch(fit.profile(facts(pixels)))
    watch.add(np.clip(pixels.astype(np.int64) + 90, 0, 255).astype(np.uint8))
    assert watch.worst() > 0.25


def test_pictures_that_are_all_one_grey_give_a_usable_contract() -> None:
    found = facts(np.full((20, 1, 4, 4), 128, np.uint8))
    assert fit.mean(found) == (128.0,)
    assert fit.deviation(found) == (1.0,)
    assert all(len(part["edges"]) >= 2 for part in fit.profile(found).values())
