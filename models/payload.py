"""A request's body as a batch of raw tensors, by its content type.

Whatever is none gets a 4xx that says why.

    image/png, image/jpeg            one picture
    text/csv                         rows of a table or series, as `models.tables` reads them
    application/x-npy                numbers of one sample, or of a batch; read in place
    application/json                 `{"instances": [...]}`: nested lists of numbers, or of a table objects by column
    application/vnd.apache.parquet   rows as in text/csv, where pyarrow is installed

Pixels are whole numbers from 0 to 255; in a table, null stands for what is missing.
"""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
import numpy.typing as npt

from models import features, pixels, tables
from models.contract import Contract

LIMIT_BYTES = 6 * 1024 * 1024  # SageMaker's own limit of a request body
LIMIT_BATCH = 1024
# A body up to so many bytes is read at once; a longer one, or one that unfolds, is worth a thread.
QUICK_BYTES = 128 * 1024
LIMIT_LINES = 100_000  # of a table as text: each becomes a list of Python texts on the way
LIMIT_UNFOLDED = 64 * 1024 * 1024  # of a Parquet file, whose columns are compressed
HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

Batch = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Body = bytes | bytearray


class BadRequest(Exception):
    """A request that gets a 4xx: `status`, a code for programs, a message for people, more header lines if need be."""

    def __init__(self, status: HTTPStatus, code: str, message: str, headers: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


def encoded(body: Body, contract: Contract) -> Batch:
    """One encoded picture as a batch of one, or a table as text."""
    if contract.modality != "image" and body.count(b"\n") > LIMIT_LINES:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "shape", f"more than {LIMIT_LINES} lines")
    try:
        found = features.read(bytes(body), contract, LIMIT_BATCH)
    except features.CorruptSample as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", str(error)) from error
    check(found.shape, contract)
    return found


def npy(body: Body, contract: Contract) -> Batch:
    """An array in numpy's own format. Kind and size are judged by its header, before any memory is spent on it."""
    # Magic, version, the header's length in 2 bytes: clients send the same header again and again.
    end = 10 + int.from_bytes(body[8:10], "little")
    if body[6:7] != b"\x01":
        end = 12 + int.from_bytes(body[8:12], "little")
    try:
        shape, fortran, kind, start = _npy_header(bytes(body[: min(end, 1 << 16)]))
    except Exception as error:  # numpy parses headers as Python source, and raises what that raises
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", f"not a numpy array: {error}") from error
    check(shape, contract)
    if kind.kind not in "iuf" or len(body) - start != math.prod(shape) * kind.itemsize:
        found = f"{kind} {list(shape)} in {len(body) - start} bytes"
        raise BadRequest(
            HTTPStatus.BAD_REQUEST, "corrupt", f"expected numbers, as many as the header says, got {found}"
        )
    flat = np.frombuffer(body, kind, offset=start)
    return batch(flat.reshape(shape, order="F" if fortran else "C"), contract)


@functools.lru_cache(maxsize=64)
def _npy_header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether columns come first, kind of number, and where the numbers start."""
    stream = io.BytesIO(head)
    shape, fortran, kind = HEADERS[np.lib.format.read_magic(stream)](stream)
    return shape, fortran, kind, stream.tell()


def instances(body: Body, contract: Contract) -> Batch:
    """`{"instances": [...]}` of nested lists, or of objects by column."""
    if contract.modality == "image":
        plain = pixels.read(body, contract.shape)
        if plain is not None:
            return batch(plain, contract)
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
        return tables.matrix(cells, contract.columns, contract.missing, contract.decimal)
    except tables.CorruptTable as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "values", str(error)) from error


def _numeric(value: Any, nulls: bool) -> bool:
    """Nested lists of numbers alone, and nulls where allowed; numpy would take "7" and true for numbers too."""
    if isinstance(value, list):
        return all(_numeric(item, nulls) for item in value)
    return type(value) in (int, float) or (nulls and value is None)


def parquet(body: Body, contract: Contract) -> Batch:
    """Rows of a Parquet file, as the same table in text/csv gives. 415 where pyarrow, 150 MB, is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet as pq
    except ImportError:
        message = "Parquet needs pyarrow, which this endpoint does not have; send text/csv or application/x-npy"
        raise BadRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content-type", message) from None
    try:
        with pq.ParquetFile(pyarrow.BufferReader(bytes(body))) as file:
            about = file.metadata
            unfolded = sum(about.row_group(place).total_byte_size for place in range(about.num_row_groups))
            if not 0 <= unfolded <= LIMIT_UNFOLDED or about.num_rows > LIMIT_LINES:
                most = f"at most {LIMIT_UNFOLDED} in {LIMIT_LINES} are taken"
                raise tables.CorruptTable(f"unfolds to {unfolded} bytes in {about.num_rows} rows; {most}")
            wanted = {column.name for column in contract.columns} | {contract.group}
            found = file.read(columns=[name for name in file.schema_arrow.names if name in wanted], use_threads=False)
            cells = {name: found.column(name).to_pylist() for name in found.column_names}
        rows = tables.samples(cells, contract, LIMIT_BATCH)
    except (pyarrow.ArrowException, tables.CorruptTable, OSError, ValueError, TypeError, OverflowError) as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "corrupt", f"no table in Parquet: {error}") from error
    check(rows.shape, contract)
    return rows


READERS: dict[str, Callable[[Body, Contract], Batch]] = {
    "image/png": encoded,
    "image/jpeg": encoded,
    "text/csv": encoded,
    "application/x-npy": npy,
    "application/json": instances,
    "application/vnd.apache.parquet": parquet,
    "application/x-parquet": parquet,
}
PICTURES = frozenset({"image/png", "image/jpeg"})
TABLES = frozenset({"text/csv", "application/vnd.apache.parquet", "application/x-parquet"})
# What may unfold to far more than its bytes.
FOLDED = PICTURES | TABLES - {"text/csv"}


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


@functools.lru_cache(maxsize=256)
def kind_of(content_type: str, modality: str) -> str:
    """The reader's name for a Content-Type. Raises BadRequest for one that this modality has no reader for."""
    kind = content_type.partition(";")[0].strip().lower()
    known = [name for name in READERS if name not in (TABLES if modality == "image" else PICTURES)]
    if kind not in known:
        raise BadRequest(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "content-type",
            f"{content_type or 'nothing'}; send one of {', '.join(known)}",
        )
    return kind


def quick(kind: str, size: int) -> bool:
    """Whether reading a body of `size` bytes takes no longer than handing it to a thread is worth."""
    return kind == "application/x-npy" or (size <= QUICK_BYTES and kind not in FOLDED)


def read(content_type: str, body: Body, contract: Contract) -> Batch:
    """A request's body as a batch, by its content type."""
    return READERS[kind_of(content_type, contract.modality)](body, contract)
