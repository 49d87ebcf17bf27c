"""Mean, deviation and profile from the sums of parts, against numpy on the samples themselves."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from models import drift
from models.contract import Column
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


def test_moments_of_parts_joined_are_those_of_the_whole_however_far_from_zero() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal([0, 1e9, -3], [1, 0.1, 100], (1000, 3))
    values[rng.random(values.shape) < 0.2] = np.nan
    total = np.zeros((3, 3))
    for part in np.split(values, [10, 11, 400]):
        total = fit.joined(total, fit.moments(part))
    np.testing.assert_array_equal(total[0], (~np.isnan(values)).sum(axis=0))
    np.testing.assert_allclose(total[1], np.nanmean(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(np.sqrt(total[2] / total[0]), np.nanstd(values, axis=0), rtol=1e-6)


def test_a_partition_gives_moments_of_every_step_and_statistics_of_the_samples_that_were_drawn() -> None:
    rng = np.random.default_rng(6)
    tensors = rng.normal(5, 2, (600, 4, 2)).astype(np.float32)
    rows = {
        "id": [f"{at:08x}" for at in range(600)],
        "tensor": [tensor.tobytes() for tensor in tensors],
        "label": [float(at) for at in range(600)],
    }
    columns = [Column(name="a"), Column(name="b")]
    (found,) = fit.parts([pa.RecordBatch.from_pydict(rows)], columns, below=f"{99:08x}")
    total = np.frombuffer(found["moments"][0].as_py()).reshape(3, 3)
    np.testing.assert_array_equal(total[0], [2400, 2400, 600])
    np.testing.assert_allclose(total[1], [*tensors.mean((0, 1), np.float64), 299.5])
    seen = np.frombuffer(found["seen"][0].as_py()).reshape(-1, 2)
    np.testing.assert_allclose(seen, tensors[:100].mean(1, np.float64))


@pytest.mark.parametrize(
    "values",
    [np.full(50, 3.0), np.arange(50) % 2.0, np.linspace(0, 1, 50), np.r_[np.zeros(95), 1.0:6.0], np.full(9, np.nan)],
)
def test_the_bins_of_a_column_fit_what_it_has_and_notice_what_it_has_not(values: npt.NDArray[np.float64]) -> None:
    profile = fit.binned_columns(values[:, None], [Column(name="x")])
    if np.isnan(values).all():
        assert profile == {}
        return
    part = profile["x"]
    assert np.all(np.diff(part["edges"]) > 0)
    assert sum(part["shares"]) == pytest.approx(1)
    assert len(part["shares"]) <= fit.SHARES
    same, moved = drift.Watch(profile, ["x"]), drift.Watch(profile, ["x"])
    same.add(values[:, None].astype(np.float32))
    moved.add(np.full((50, 1), 9.0, np.float32))
    assert same.worst() < 0.01
    assert moved.worst() > 0.25
