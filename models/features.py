"""From an encoded picture or a text with a table to the raw tensor: the one preprocessing there is.

ETL, training, endpoint and device all call it. Scaling and normalisation are not here: they are the net's first
layer, and so part of every export.

    C, H, W   channels (1 grey, 3 colour), height, width; values uint8, 0..255
    T, F      steps of a window, columns; values float32, see tables.py
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from models import tables
from models.contract import Contract

# A picture that claims more is refused before it is unpacked: small files can unfold to gigabytes.
MAX_PIXELS = 50_000_000
# Pillow knows dozens of formats, some of which start other programs; these are what cameras and people save.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
SPLITS = (("train", 0.7), ("validation", 0.15), ("test", 0.15))
DEEP = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
COLOURLESS = frozenset({"1", "L", "LA", "I", "F"}) | DEEP


class CorruptSample(Exception):
    """A picture that cannot be decoded, or a table that cannot be read; the message says why."""


def read(data: bytes, contract: Contract, most: int | None = None) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
    """What a file or a request holds, as a batch of the contract's raw tensors.

    uint8 [1, C, H, W] of a picture, float32 [N, F] of a table's rows, float32 [N, T, F] of a series' windows. Raises
    CorruptSample, also when N is above `most`.
    """
    if contract.modality == "image":
        return decode(data, contract.shape)[None]
    try:
        return tables.read(data, contract, most)
    except tables.CorruptTable as error:
        raise CorruptSample(str(error)) from error


def channels(data: bytes) -> int:
    """1 for a grey picture, 3 for any other. Raises CorruptSample."""
    with _opened(data) as image:
        return 1 if image.mode in COLOURLESS else 3


def decode(data: bytes, shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The picture as uint8 [C, H, W] of `shape`, resized with an antialiasing filter where it must be.

    Of 16 bits the upper 8 are kept. Raises CorruptSample for what is no picture, is cut short, is too large, or has
    values without a fixed range.
    """
    count, height, width = shape
    pixels = picture(data).convert("L" if count == 1 else "RGB")
    if pixels.size != (width, height):
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(pixels, np.uint8).reshape(height, width, count)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def picture(data: bytes) -> Image.Image:
    """The whole picture in 8 bits, in its own size and colours. Raises CorruptSample as `decode` does."""
    with _opened(data) as image:
        try:
            image.load()
            return _eight_bits(image).copy()
        except Exception as error:  # a decoder may raise anything over bytes that someone made up
            if isinstance(error, CorruptSample):
                raise
            raise CorruptSample(f"cannot be decoded: {error}") from error


def sample_id(tensor: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> str:
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


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow's own conversion of deeper pixels cuts all above 255 to white, so it is done here or refused."""
    if image.mode in DEEP:
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise CorruptSample("has 32-bit values, whose range nothing says; save it with 8 or 16 bits")
    return image


def _opened(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise CorruptSample(f"has more than {MAX_PIXELS} pixels") from error
    except Exception as error:  # a decoder may raise anything over bytes that someone made up
        raise CorruptSample("is no picture in a format that is read here" if data else "is empty") from error
    if image.width * image.height > MAX_PIXELS:
        raise CorruptSample(f"is {image.width}x{image.height}, more than {MAX_PIXELS} pixels")
    return image
