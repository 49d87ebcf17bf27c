"""Decoding pictures of every kind, refusing what is none, and the split that content alone decides."""

import io
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models import features

GREY = (1, 8, 8)
COLOUR = (3, 8, 8)


def encoded(pixels: np.ndarray, form: str = "PNG", mode: str | None = None) -> bytes:
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, form)
    return buffer.getvalue()


def grey(side: int = 8) -> np.ndarray:
    return np.arange(side * side, dtype=np.uint8).reshape(side, side)


def colour(side: int = 8) -> np.ndarray:
    return np.stack([grey(side), 255 - grey(side), np.full((side, side), 7, np.uint8)], axis=2)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims width x height."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def test_a_grey_png_comes_back_exactly() -> None:
    tensor = features.decode(encoded(grey()), GREY)
    assert tensor.dtype == np.uint8
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor, grey()[None])


def test_a_colour_png_comes_back_channels_first() -> None:
    np.testing.assert_array_equal(features.decode(encoded(colour()), COLOUR), colour().transpose(2, 0, 1))


@pytest.mark.parametrize("form", ["JPEG", "BMP", "TIFF", "WEBP", "GIF"])
def test_other_formats_decode_to_about_the_same(form: str) -> None:
    flat = np.full((8, 8), 120, np.uint8)
    tensor = features.decode(encoded(flat, form), GREY)
    assert tensor.shape == GREY
    assert np.abs(tensor.astype(int) - 120).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "CMYK"])
@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_every_mode_is_brought_to_the_shape(mode: str, shape: tuple[int, int, int]) -> None:
    data = encoded(colour(), "TIFF" if mode == "CMYK" else "PNG", mode)
    assert features.decode(data, shape).shape == shape


def test_grey_becomes_three_equal_channels_where_the_shape_wants_colour() -> None:
    tensor = features.decode(encoded(grey()), COLOUR)
    np.testing.assert_array_equal(tensor, np.repeat(grey()[None], 3, axis=0))


def test_one_bit_pictures_decode_to_black_and_white() -> None:
    tensor = features.decode(encoded((grey() > 31).astype(np.uint8) * 255, mode="1"), GREY)
    assert set(np.unique(tensor)) == {0, 255}


@pytest.mark.parametrize(("form", "order"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")])
def test_sixteen_bit_grey_keeps_its_shades(form: str, order: str) -> None:
    shades = np.linspace(0, 65535, 64).astype(order).reshape(8, 8)
    tensor = features.decode(encoded(shades, form), GREY)
    assert np.abs(tensor[0].astype(int) - shades / 257).max() <= 1


def test_another_size_is_resized() -> None:
    tensor = features.decode(encoded(np.full((40, 24), 90, np.uint8)), GREY)
    np.testing.assert_array_equal(tensor, np.full(GREY, 90))


def test_fine_patterns_are_averaged_when_made_smaller() -> None:
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    tensor = features.decode(encoded(checkers), GREY)
    assert np.abs(tensor.astype(int) - 127).max() < 12


@pytest.mark.parametrize(
    ("pixels", "mode", "count"),
    [(grey(), None, 1), (colour(), None, 3), (colour(), "RGBA", 3), (grey(), "1", 1), (grey(), "LA", 1)],
)
def test_channels_tell_grey_from_colour(pixels: np.ndarray, mode: str | None, count: int) -> None:
    assert features.channels(encoded(pixels, mode=mode)) == count


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bit_grey_has_one_channel(order: str) -> None:
    assert features.channels(encoded(grey().astype(order), "TIFF")) == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "is no picture"),
        (b"just some text", "is no picture"),
        (b"\x89PNG\r\n\x1a\n", "is no picture"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(features.CorruptSample, match=why):
        features.decode(data, GREY)
    with pytest.raises(features.CorruptSample, match=why):
        features.channels(data)


@pytest.mark.parametrize("form", ["DDS", "PPM", "ICO"])
def test_formats_that_nobody_asked_for_are_not_decoded(form: str) -> None:
    with pytest.raises(features.CorruptSample, match="is no picture in a format that is read here"):
        features.decode(encoded(colour(16), form), COLOUR)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_truncated_picture_is_refused(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    data = encoded(noise, form)
    with pytest.raises(features.CorruptSample):
        features.decode(data[: len(data) // 2], GREY)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(8_000, 7_000), (10_000, 9_000), (30_000, 30_000)])
def test_a_picture_that_would_unfold_to_gigabytes_is_refused_unopened(width: int, height: int) -> None:
    data = bomb(width, height)
    assert len(data) < 200
    with pytest.raises(features.CorruptSample):
        features.decode(data, GREY)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        assert features.decode(data, GREY).shape == GREY
    except features.CorruptSample as error:
        assert str(error)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=200, deadline=None)
@given(st.sampled_from(features.FORMATS), st.data())
def test_a_damaged_picture_decodes_or_is_refused(form: str, data: st.DataObject) -> None:
    good = bytearray(encoded(grey(16), form))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert features.decode(bytes(good), GREY).shape == GREY
    except features.CorruptSample as error:
        assert str(error)


def test_equal_content_has_one_name_whatever_its_file() -> None:
    first, second = encoded(grey()), encoded(grey(), "BMP")
    assert first != second
    names = {features.sample_id(features.decode(data, GREY)) for data in (first, second)}
    assert len(names) == 1
    assert features.sample_id(grey()[None] + 1) not in names


def test_the_name_does_not_depend_on_the_memory_layout() -> None:
    tensor = colour().transpose(2, 0, 1)
    assert not tensor.flags.c_contiguous
    assert features.sample_id(tensor) == features.sample_id(np.ascontiguousarray(tensor))


@given(st.text(max_size=70), st.integers(0, 2**31))
def test_the_same_content_is_always_on_the_same_side(sample: str, seed: int) -> None:
    side = features.split_of(sample, seed)
    assert side in {"train", "validation", "test"}
    assert features.split_of(sample, seed) == side


@pytest.mark.parametrize("seed", [0, 1, 17])
def test_the_splits_have_their_shares(seed: int) -> None:
    found = Counter(features.split_of(f"sample {n}", seed) for n in range(20_000))
    for name, share in features.SPLITS:
        assert found[name] / 20_000 == pytest.approx(share, abs=0.012)


def test_another_seed_splits_otherwise() -> None:
    names = [f"sample {n}" for n in range(200)]
    assert [features.split_of(name, 1) for name in names] != [features.split_of(name, 2) for name in names]
