"""From an encoded picture to the raw tensor: the one preprocessing of ETL, training, endpoint and device.

Scaling and normalisation are not here: they are the net's first layer, and so part of every export.

    C, H, W   channels (1 grey, 3 colour), height, width; values uint8, 0..255
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

# A picture that claims more is refused before it is unpacked: small files can unfold to gigabytes.
MAX_PIXELS = 50_000_000
SPLITS = (("train", 0.7), ("validation", 0.15), ("test", 0.15))
COLOURLESS = frozenset({"1", "L", "LA", "I", "I;16", "F"})


class CorruptSample(Exception):
    """A picture that cannot be decoded; the message says why."""


def channels(data: bytes) -> int:
    """1 for a grey picture, 3 for any other. Raises CorruptSample."""
    with _opened(data) as image:
        return 1 if image.mode in COLOURLESS else 3


def decode(data: bytes, shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The picture as uint8 [C, H, W] of `shape`, resized with an antialiasing filter where it must be.

    Raises CorruptSample for what is no picture, is cut short or is too large.
    """
    count, height, width = shape
    with _opened(data) as image:
        try:
            pixels = image.convert("L" if count == 1 else "RGB")
            if pixels.size != (width, height):
                pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error) as error:
            raise CorruptSample(f"cannot be decoded: {error}") from error
    array = np.asarray(pixels, np.uint8).reshape(height, width, count)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def sample_id(tensor: npt.NDArray[np.uint8]) -> str:
    """sha256 of a raw tensor: what its content is called, whatever its file was."""
    return hashlib.sha256(np.ascontiguousarray(tensor).tobytes()).hexdigest()


def split_of(sample: str, seed: int) -> str:
    """train, validation or test, from a sample's id and the seed alone.

    The same content is always on the same side, so no copy leaks across, and new data never move old samples.
    """
    drawn = int.from_bytes(hashlib.sha256(f"{seed}:{sample}".encode()).digest()[:8], "big") / 2**64
    below = 0.0
    for name, share in SPLITS:
        below += share
        if drawn < below:
            return name
    return SPLITS[-1][0]


def _opened(data: bytes) -> Any:
    try:
        image = Image.open(io.BytesIO(data))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptSample("is no picture in a format that is read here" if data else "is empty") from error
    if image.width * image.height > MAX_PIXELS:
        raise CorruptSample(f"is {image.width}x{image.height}, more than {MAX_PIXELS} pixels")
    return image
