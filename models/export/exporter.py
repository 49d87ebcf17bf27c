"""What every exporter takes and gives: a trained net with its calibration set in, the files of an artefact out.

A module of this folder that makes formats has one function, `export(source, form, folder) -> Exported`; one that
quantises takes a recipe as well, `export(source, form, folder, recipe=PLAIN)`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from models.contract import Contract
from models.export.calibration import Calibration


class Unavailable(Exception):
    """A format that cannot be made or measured here; the message says why, and what would mend it."""


@dataclass(frozen=True, eq=False)
class Source:
    """A trained net that is ready to answer. Two sources are never equal, so that a cache can hold what one gave.

    net          raw tensors [N, ...] -> logits [N, K], or [N, 1] in deviations of the target
    answer       raw tensors [N, ...] -> answers: probabilities [N, K], or values [N, 1] in the target's unit
    calibration  training samples, for what quantises; no exporter may read other data
    """

    net: nn.Module
    answer: nn.Module
    contract: Contract
    calibration: Calibration

    def __post_init__(self) -> None:
        if type(self.calibration) is not Calibration:
            raise TypeError("a source's calibration set is a Calibration: made from a curated folder's training split")


@dataclass(frozen=True)
class Exported:
    """What an exporter wrote: names of files in its folder, the one that a runtime loads first, and remarks."""

    files: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True)
class Recipe:
    """How a net is quantised; `models.export.remedies` tries others where the plain one costs too much.

    ranges  how the range of an activation follows from the calibration set: minmax, percentile or entropy
    floats  the nodes of the ONNX graph that stay in float, by name
    bits    of a weight. An x86 core without VNNI adds two products in 16 bits, which overflow in silence; seven cannot
    """

    ranges: str = "minmax"
    floats: tuple[str, ...] = ()
    bits: int = 8


PLAIN = Recipe()
Export = Callable[[Source, str, Path], Exported]
Quantise = Callable[[Source, str, Path, Recipe], Exported]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters print their steps and warn about their own internals; their errors still rise."""
    loggers = [logging.getLogger(), logging.getLogger("torch"), logging.getLogger("torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
