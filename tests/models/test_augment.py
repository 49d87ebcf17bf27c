"""Augmentation: what it changes of a picture, and what it leaves."""

import pytest
import torch

from models import augment


def drawn() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_shifted_pixels_stay_the_same_picture_moved_by_at_most_the_share() -> None:
    pixels = torch.zeros((40, 1, 20, 20), dtype=torch.uint8)
    pixels[:, 0, 10, 10] = 200
    moved = augment.shifted(pixels, 0.1, drawn())
    assert moved.shape == pixels.shape
    places = moved[:, 0].nonzero()
    assert len(places) == 40
    assert int((places[:, 1:] - 10).abs().max()) == 2
    assert len({tuple(place[1:].tolist()) for place in places}) > 5


def test_a_share_of_nothing_moves_nothing() -> None:
    pixels = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    assert torch.equal(augment.shifted(pixels, 0.0, torch.Generator()), pixels)


def test_light_changes_within_the_share_and_the_picture_stays_the_same() -> None:
    pixels = torch.randint(60, 190, (30, 3, 8, 8), dtype=torch.uint8, generator=drawn())
    changed = augment.jittered(pixels, 0.2, drawn())
    assert changed.shape == pixels.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 255
    ratio = changed.std((1, 2, 3)) / pixels.float().std((1, 2, 3))
    assert 0.79 <= float(ratio.min()) < float(ratio.max()) <= 1.21
    for one, other in zip(pixels, changed, strict=True):
        assert torch.corrcoef(torch.stack([one.flatten().float(), other.flatten()]))[0, 1] > 0.999


def test_a_uniform_picture_stays_finite() -> None:
    assert bool(torch.isfinite(augment.jittered(torch.zeros((3, 1, 4, 4), dtype=torch.uint8), 0.2, drawn())).all())


@pytest.mark.parametrize(("flip", "axes"), [("horizontal", [3]), ("vertical", [2]), ("both", [2, 3])])
def test_pictures_are_mirrored_about_half_the_time_and_only_as_asked(flip: str, axes: list[int]) -> None:
    pixels = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).repeat(200, 1, 1, 1)
    changed = augment.flipped(pixels, flip, drawn())
    kinds = {tuple(one.flatten().tolist()) for one in changed}
    assert len(kinds) == 2 ** len(axes)
    assert tuple(pixels[:1].flip(axes).flatten().tolist()) in kinds
    assert 0.3 < float((changed == pixels).flatten(1).all(1).float().mean()) * len(axes) < 0.7


def test_what_must_not_be_mirrored_is_not() -> None:
    pixels = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).repeat(50, 1, 1, 1)
    assert torch.equal(augment.pictures(pixels, drawn(), shift=0.0, jitter=0.0, flip="none"), pixels)
