"""Reads what the ETL curated: one split as arrays.

N samples   C, H, W channels, height, width
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.contract import Contract

Split = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], list[str]]


class CuratedError(Exception):
    """A curated folder that is not whole; the message names the split."""


def read(folder: Path, split: str) -> Split:
    """Pixels uint8 [N, C, H, W], labels int64 [N], and the source of each sample, ordered by sample id.

    Raises CuratedError when the split has no sample, or one that is not of the contract's shape.
    """
    shape = Contract.load(folder / "contract.json").shape
    parts = sorted((folder / split).glob("*.parquet"))
    tables = [pq.read_table(part, columns=["id", "source", "label", "tensor"]) for part in parts]
    if not tables or not sum(table.num_rows for table in tables):
        raise CuratedError(f"{folder / split} holds no sample")
    table = pa.concat_tables(tables).sort_by("id")
    pixels = np.frombuffer(b"".join(table["tensor"].to_pylist()), np.uint8)
    if pixels.size != table.num_rows * int(np.prod(shape)):
        raise CuratedError(f"{folder / split}: tensors are not all of shape {list(shape)}")
    labels = table["label"].to_numpy().astype(np.int64)
    return pixels.reshape(-1, *shape), labels, table["source"].to_pylist()
