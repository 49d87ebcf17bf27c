"""A request's body as a batch of raw tensors, by its content type.

Whatever is none gets a 4xx that says why.

    image/png, image/jpeg   one picture
    application/x-npy       numbers [C, H, W] or [N, C, H, W]
    application/json        `{"instances": [[[…]]]}`, each instance [C, H, W]

Values are whole numbers from 0 to 255.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
import numpy.typing as npt

from models import features
from models.contract import Contract

LIMIT_BYTES = 6 * 1024 * 1024  # SageMaker's own limit of a request body
LIMIT_BATCH = 1024
HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

Pixels = npt.NDArray[np.uint8]


class BadRequest(Exception):
    """A request that gets a 4xx: `status`, a code for programs, a message for people."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def picture(body: bytes, contract: Contract) -> Pixels:
    """One encoded picture as a batch of one."""
    try:
        return features.decode(body, contract.shape)[None]
    except features.CorruptSample as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", str(error)) from error


def npy(body: bytes, contract: Contract) -> Pixels:
    """An array in numpy's own format. Kind and size are judged by its header, before any memory is spent on it."""
    stream = io.BytesIO(body)
    try:
        read_header = HEADERS[np.lib.format.read_magic(stream)]
        shape, fortran, kind = read_header(stream)
    except Exception as error:  # numpy parses headers as Python source, and raises what that raises
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", f"not a numpy array: {error}") from error
    check(shape, contract)
    if kind.kind not in "iuf" or len(body) - stream.tell() != math.prod(shape) * kind.itemsize:
        found = f"{kind} {list(shape)} in {len(body) - stream.tell()} bytes"
        raise BadRequest(
            HTTPStatus.BAD_REQUEST, "corrupt", f"expected numbers, as many as the header says, got {found}"
        )
    flat = np.frombuffer(body, kind, offset=stream.tell())
    return batch(flat.reshape(shape, order="F" if fortran else "C"), contract)


def instances(body: bytes, contract: Contract) -> Pixels:
    """`{"instances": [...]}` of nested lists."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", f"not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "schema", 'expected {"instances": [...]}')
    try:
        if not _numeric(document["instances"]):
            raise ValueError("they hold something else")
        array = np.asarray(document["instances"], np.float64)
    except (ValueError, OverflowError, RecursionError) as error:
        raise BadRequest(
            HTTPStatus.BAD_REQUEST, "schema", f"instances are not one array of numbers: {error}"
        ) from error
    return batch(array, contract)


def _numeric(value: Any) -> bool:
    """Nested lists of numbers alone; numpy would take "7" and true for numbers too."""
    return all(map(_numeric, value)) if isinstance(value, list) else type(value) in (int, float)


READERS: dict[str, Callable[[bytes, Contract], Pixels]] = {
    "image/png": picture,
    "image/jpeg": picture,
    "application/x-npy": npy,
    "application/json": instances,
}


def batch(array: npt.NDArray[Any], contract: Contract) -> Pixels:
    """`array` as uint8 [N, C, H, W]; BadRequest for another shape, kind, or values outside 0..255."""
    check(array.shape, contract)
    array = array.reshape(-1, *contract.shape)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, np.uint8)
    if array.dtype.kind not in "iuf" or not bool(np.all((array >= 0) & (array <= 255) & (array == np.floor(array)))):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "values", "pixels are whole numbers from 0 to 255")
    return np.ascontiguousarray(array, np.uint8)


def check(shape: Sequence[int], contract: Contract) -> None:
    """BadRequest unless `shape` is one sample [C, H, W] or a batch [N, C, H, W] of at most LIMIT_BATCH."""
    count = shape[0] if len(shape) == 4 else 1
    if len(shape) not in (3, 4) or tuple(shape[-3:]) != contract.shape or not 1 <= count <= LIMIT_BATCH:
        wanted = f"[N <= {LIMIT_BATCH}, {', '.join(map(str, contract.shape))}]"
        raise BadRequest(HTTPStatus.BAD_REQUEST, "shape", f"expected {wanted}, got {list(shape)}")


def read(content_type: str, body: bytes, contract: Contract) -> Pixels:
    """A request's body as a batch, by its content type."""
    reader = READERS.get(content_type.partition(";")[0].strip().lower())
    if reader is None:
        known = ", ".join(READERS)
        raise BadRequest(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content-type", f"{content_type or 'nothing'}; send one of {known}"
        )
    return reader(body, contract)
