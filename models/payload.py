"""A request's body as a batch of raw tensors, by its content type.

Whatever is none gets a 4xx that says why.

    image/png, image/jpeg   one picture
    text/csv                rows of a table or series, as `models.tables` reads them
    application/x-npy       numbers of one sample, or of a batch
    application/json        `{"instances": [...]}`: each a nested list of numbers, or of a table an object by column

Pixels are whole numbers from 0 to 255; in a table, null stands for what is missing.
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

from models import features, tables
from models.contract import Contract

LIMIT_BYTES = 6 * 1024 * 1024  # SageMaker's own limit of a request body
LIMIT_BATCH = 1024
HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

Batch = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


class BadRequest(Exception):
    """A request that gets a 4xx: `status`, a code for programs, a message for people."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def encoded(body: bytes, contract: Contract) -> Batch:
    """One encoded picture as a batch of one, or a table as text."""
    try:
        found = features.read(body, contract)
    except features.CorruptSample as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", str(error)) from error
    check(found.shape, contract)
    return found


def npy(body: bytes, contract: Contract) -> Batch:
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


def instances(body: bytes, contract: Contract) -> Batch:
    """`{"instances": [...]}` of nested lists, or of objects by column."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", f"not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "schema", 'expected {"instances": [...]}')
    given = document["instances"]
    if contract.modality == "tabular" and given and all(isinstance(row, dict) for row in given):
        return _records(given, contract)
    try:
        if not _numeric(given, contract.modality != "image"):
            raise ValueError("they hold something else")
        array = np.asarray(given, np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadRequest(
            HTTPStatus.BAD_REQUEST, "schema", f"instances are not one array of numbers: {error}"
        ) from error
    return batch(array, contract)


def _records(rows: Sequence[dict[str, Any]], contract: Contract) -> Batch:
    """Objects by column name; a column that one lacks is missing there, one that the contract lacks is refused."""
    names = [column.name for column in contract.columns]
    unknown = sorted({str(name) for row in rows for name in row} - set(names))
    if unknown:
        message = f"there is no column '{unknown[0]}'; there are {', '.join(names)}"
        raise BadRequest(HTTPStatus.BAD_REQUEST, "schema", message)
    check((len(rows), *contract.shape), contract)
    cells = {name: [row.get(name) for row in rows] for name in names}
    try:
        return tables.matrix(cells, contract.columns, contract.missing)
    except tables.CorruptTable as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "values", str(error)) from error


def _numeric(value: Any, nulls: bool) -> bool:
    """Nested lists of numbers alone, and nulls where allowed; numpy would take "7" and true for numbers too."""
    if isinstance(value, list):
        return all(_numeric(item, nulls) for item in value)
    return type(value) in (int, float) or (nulls and value is None)


READERS: dict[str, Callable[[bytes, Contract], Batch]] = {
    "image/png": encoded,
    "image/jpeg": encoded,
    "text/csv": encoded,
    "application/x-npy": npy,
    "application/json": instances,
}
PICTURES = frozenset({"image/png", "image/jpeg"})
TABLES = frozenset({"text/csv"})


def batch(array: npt.NDArray[Any], contract: Contract) -> Batch:
    """`array` as raw tensors; BadRequest for another shape or kind, or for pixels outside 0..255."""
    check(array.shape, contract)
    array = array.reshape(-1, *contract.shape)
    if contract.modality != "image":
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(array, np.float32)
        return np.where(np.isfinite(values), values, np.float32(np.nan))
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, np.uint8)
    if array.dtype.kind not in "iuf" or not bool(np.all((array >= 0) & (array <= 255) & (array == np.floor(array)))):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "values", "pixels are whole numbers from 0 to 255")
    return np.ascontiguousarray(array, np.uint8)


def check(shape: Sequence[int], contract: Contract) -> None:
    """BadRequest unless `shape` is one sample of the contract or a batch of at most LIMIT_BATCH."""
    rank = len(contract.shape)
    count = shape[0] if len(shape) == rank + 1 else 1
    fits = len(shape) in (rank, rank + 1) and tuple(shape[len(shape) - rank :]) == contract.shape
    if not fits or not 1 <= count <= LIMIT_BATCH:
        wanted = f"[N <= {LIMIT_BATCH}, {', '.join(map(str, contract.shape))}]"
        raise BadRequest(HTTPStatus.BAD_REQUEST, "shape", f"expected {wanted}, got {list(shape)}")


def read(content_type: str, body: bytes, contract: Contract) -> Batch:
    """A request's body as a batch, by its content type."""
    kind = content_type.partition(";")[0].strip().lower()
    known = [name for name in READERS if name not in (TABLES if contract.modality == "image" else PICTURES)]
    if kind not in known:
        raise BadRequest(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "content-type",
            f"{content_type or 'nothing'}; send one of {', '.join(known)}",
        )
    return READERS[kind](body, contract)
