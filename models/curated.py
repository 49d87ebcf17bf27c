"""Reads what the ETL curated: one split as arrays.

N samples, each a raw tensor of the contract's shape and type
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.contract import Contract

Split = tuple[npt.NDArray[Any], npt.NDArray[Any], list[str]]


class CuratedError(Exception):
    """A curated folder that is not whole; the message names the split."""


def read(folder: Path, split: str) -> Split:
    """Raw tensors [N, ...], labels, and the source of each sample, ordered by sample id.

    Labels are int64 [N], a place in the contract's classes, or float64 [N], the target's value. Raises CuratedError
    when the split has no sample, or one that is not of the contract's shape.
    """
    contract = Contract.load(folder / "contract.json")
    parts = sorted((folder / split).glob("*.parquet"))
    tables = [pq.read_table(part, columns=["id", "source", "label", "tensor"]) for part in parts]
    if not tables or not sum(table.num_rows for table in tables):
        raise CuratedError(f"{folder / split} holds no sample")
    table = pa.concat_tables(tables).sort_by([("id", "ascending"), ("source", "ascending")])
    tensors = np.frombuffer(b"".join(table["tensor"].to_pylist()), contract.dtype)
    if tensors.size != table.num_rows * int(np.prod(contract.shape)):
        raise CuratedError(f"{folder / split}: tensors are not all of shape {list(contract.shape)}")
    labels = table["label"].to_numpy().astype(np.int64 if contract.categorical else np.float64)
    return tensors.reshape(-1, *contract.shape), labels, table["source"].to_pylist()


def sources(folder: Path, split: str) -> set[str]:
    """Where the samples of a split come from; empty for a split that is not there."""
    parts = (folder / split).glob("*.parquet")
    return {source for part in parts for source in pq.read_table(part, columns=["source"])["source"].to_pylist()}
