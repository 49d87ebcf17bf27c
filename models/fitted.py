"""A baseline that has learned: its answers, and the numbers from which a net can give the same.

N samples   K classes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# Raw tensors [N, ...], or rows of columns, to probabilities [N, K] or values [N, 1].
Answer = Callable[[npt.NDArray[Any]], Floats]
# By name: arrays are a net's tensors, a whole number is part of its structure.
Parts = Mapping[str, npt.NDArray[Any] | int]


class Unshippable(Exception):
    """A baseline that no net can stand for; the message says why."""


@dataclass(frozen=True)
class Fitted:
    """Called, it answers. `form` is how a net computes the same, one of `shipped.FORMS`, from `parts`.

    `parts` is a function, for only what is shipped has to be taken apart; it may raise Unshippable.
    """

    answer: Answer
    form: str
    parts: Callable[[], Parts]

    def __call__(self, tensors: npt.NDArray[Any]) -> Floats:
        return self.answer(tensors)


def constant(values: npt.NDArray[Any]) -> Fitted:
    """The same answer for every sample: probabilities [K], or one number."""
    row = np.asarray(values, np.float64).reshape(-1)
    return Fitted(lambda tensors: np.tile(row, (len(tensors), 1)), "constant", lambda: {"values": row})
