"""Pictures as JSON, read without building a Python number per pixel: one pass of numpy per question.

A body `{"instances": [[[[12, 0, 255], ...]]]}` of whole numbers has a skeleton (its brackets, commas, spaces) that the
shape alone fixes. Where body and skeleton are equal byte by byte, the numbers are read from the digits' places; any
other body (other spaces, decimals, other keys, broken) is left to the JSON parser, which knows the whole language.

    b bytes of the body   n numbers in it
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Of a longer body the skeletons would take more memory than they are worth; json reads those.
NUMBERS = 1 << 18
ZERO = ord("0")
SEPARATORS = ((", ", ": "), (",", ":"))  # as Python and as JavaScript write JSON


def read(body: bytes | bytearray, shape: Sequence[int]) -> npt.NDArray[np.uint8] | None:
    """uint8 [N, *shape] of a body in its plain form, numbers from 0 to 255; None for any other body."""
    raw = np.frombuffer(body, np.uint8)
    digits = raw - ZERO  # [b]; what stands before "0" wraps around and is large
    digit = digits < 10
    if len(raw) < 3 or digit[0] or digit[-1]:
        return None
    last = digit.copy()  # the last digit of each number
    last[:-1] &= ~digit[1:]
    ends = np.flatnonzero(last)
    count, rest = divmod(len(ends), math.prod(shape))
    if rest or not count >= 1 or len(ends) > NUMBERS:
        return None
    reduced = raw[last | ~digit]  # each number as one digit
    reduced[(reduced - ZERO) < 10] = ZERO
    if reduced.tobytes() not in _skeletons(count, tuple(shape)):
        return None
    numbers = _numbers(digits, digit, ends)
    return None if numbers is None else numbers.reshape(count, *shape)


def _numbers(
    digits: npt.NDArray[np.uint8], digit: npt.NDArray[np.bool_], ends: npt.NDArray[np.intp]
) -> npt.NDArray[np.uint8] | None:
    """[n] from the places of their last digits; None when one is above 255 or written with a leading zero."""
    two = digit[ends - 1]
    three = two & digit[ends - 2]
    if (three & digit[ends - 3]).any():
        return None
    tens, hundreds = digits[ends - 1] * two, digits[ends - 2] * three
    values = digits[ends] + tens.astype(np.uint16) * 10 + hundreds.astype(np.uint16) * 100
    padded = (two & (tens == 0) & ~three) | (three & (hundreds == 0))
    return None if padded.any() or (values > 255).any() else values.astype(np.uint8)


@functools.lru_cache(maxsize=8)
def _skeletons(count: int, shape: tuple[int, ...]) -> tuple[bytes, ...]:
    """What a body of `count` samples looks like when every number is 0, for each habit of writing separators."""
    document = {"instances": np.zeros((count, *shape), np.uint8).tolist()}
    return tuple(json.dumps(document, separators=separators).encode() for separators in SEPARATORS)
