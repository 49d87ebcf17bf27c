"""The samples that quantisation may look at: of the training split, and of nothing else.

N samples, each a raw tensor of the contract's shape and type
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from models import curated

SPLIT = "train"
HELD_OUT = ("validation", "test")
COUNT = 512
SEED = 17
# Numbers are drawn evenly from so many parts of their range.
PARTS = 8


@final
class Calibration:
    """Up to 512 training samples, drawn evenly over classes or the target's range, the same ones each time.

    It is made from a curated folder and reads the training split there. It takes no array and no name of a split, its
    arrays are read only, and an exporter's `Source` takes nothing else: a set of test samples cannot be made. Raises
    curated.CuratedError for a folder without a training split, or whose training split holds held-out samples.
    """

    __slots__ = ("_folder", "_labels", "_tensors")

    def __init__(self, folder: Path) -> None:
        tensors, labels, sources = curated.read(folder, SPLIT)
        for split in HELD_OUT:
            if not curated.sources(folder, split).isdisjoint(sources):
                raise curated.CuratedError(f"{folder / SPLIT} holds samples of {split}; nothing is calibrated on those")
        chosen = _drawn(_strata(labels), COUNT)
        self._tensors = tensors[chosen]
        self._labels = labels[chosen]
        self._tensors.setflags(write=False)
        self._labels.setflags(write=False)
        self._folder = folder

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """The calibration set of a curated folder."""
        return cls(folder)

    @property
    def tensors(self) -> npt.NDArray[Any]:
        """Raw tensors [N, ...], read only."""
        return self._tensors

    def everything(self) -> npt.NDArray[Any]:
        """All raw tensors of the training split [M, ...], read anew."""
        return curated.read(self._folder, SPLIT)[0]

    @property
    def labels(self) -> npt.NDArray[Any]:
        """Labels [N], as `curated.read` gives them, read only."""
        return self._labels

    def __len__(self) -> int:
        return len(self._labels)


def _strata(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """[N] -> the part of each sample: its class, or an eighth of the target's values by rank."""
    if labels.dtype.kind == "i":
        return np.asarray(labels, np.int64)
    edges = np.quantile(labels, np.linspace(0, 1, PARTS + 1)[1:-1])
    return np.asarray(np.searchsorted(edges, labels, "right"), np.int64)


def _drawn(strata: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Up to `count` places, as evenly over the strata as their sizes allow, in rising order."""
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(strata))
    # The k-th sample of each stratum comes before the (k+1)-th of any.
    rank = np.empty(len(strata), np.int64)
    for stratum in np.unique(strata):
        places = order[strata[order] == stratum]
        rank[places] = np.arange(len(places))
    first = order[np.argsort(rank[order], kind="stable")]
    return np.sort(first[:count])
