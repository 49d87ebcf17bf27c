"""What is tried when eight bits cost too much: seven, other ranges, layers in float, fine-tuning; in this order.

Each attempt is a candidate like any other, measured in its own process on the samples of the release and judged by the
same gate. The first that keeps it wins and takes the place of the plain artefact, with the remedy in its row's notes.
Nothing is tried for an artefact that would not be the fastest, so that a release that needs no remedy pays for none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from models import gate
from models.export import candidates, sensitivity, tuning
from models.export.candidates import Candidates, Made
from models.export.exporter import PLAIN, Recipe, Source, Unavailable
from models.export.trials import Conditions

# For all remedies of one format, and of it for fine-tuning and for the scan.
SECONDS, TUNING, SCAN = 300.0, 120.0, 60.0
# So many of the most sensitive layers are left in float, one after the other, but never more than a share of all.
FLOATS, SHARE = (1, 2, 4, 8), 0.5
# What is changed in a format's recipe, one after the other, each on top of the best so far; whether layers can stay in
# float.
SEVEN, PERCENTILE, ENTROPY = {"bits": 7}, {"ranges": "percentile"}, {"ranges": "entropy"}
LADDERS: dict[str, tuple[tuple[dict[str, Any], ...], bool]] = {
    "onnx-int8": ((SEVEN, PERCENTILE, ENTROPY), True),
    "onnx-int8-dynamic": ((SEVEN,), True),
    "openvino-int8": ((SEVEN, PERCENTILE, ENTROPY), True),
    "executorch-int8": ((), False),
}
# What a remedy can mend.
MENDED = {"agreement", "metric_drop", "logit_slope", "logit_l2"}
log = logging.getLogger(__name__)

Row = dict[str, Any]
Table = Any


@dataclass(frozen=True)
class Attempt:
    """One artefact with its row, whether it keeps the gate, and what it is in words."""

    made: Made
    row: Row
    keeps: bool
    words: str

    @property
    def score(self) -> tuple[bool, float, float]:
        """What is better is larger."""
        return self.keeps, self.row["agreement"], -self.row["logit_l2"]


def apply(tried: Candidates, rows: list[Row], conditions: Conditions, target: Table, limits: Table) -> None:
    """Mends rows of a target in place, the fastest first, until one that keeps the gate is the fastest."""
    broken = [row for row in rows if _mendable(row, target, limits)]
    for row in sorted(broken, key=lambda row: float(row["p50_ms"])):
        fits = [other["p50_ms"] for other in rows if other["skipped"] is None and other["dropped"] is None]
        if fits and row["p50_ms"] >= min(fits):
            return
        ladder = _Ladder(tried, row, conditions, target, limits, min(fits, default=float("inf")))
        row |= ladder.climb()


def _mendable(row: Row, target: Table, limits: Table) -> bool:
    """Whether a row is dropped for its answers and for nothing else."""
    if row["format"] not in LADDERS or row["skipped"] is not None or not row["dropped"]:
        return False
    missed = gate.missed(row, limits, target)
    return bool(missed) and set(missed) <= MENDED and len(missed) == len(gate.drops(row, limits, target))


class _Ladder:
    """The remedies of one format, from the cheapest to the dearest."""

    def __init__(
        self, tried: Candidates, row: Row, conditions: Conditions, target: Table, limits: Table, fastest: float
    ) -> None:
        self._tried, self._row, self._conditions = tried, row, conditions
        self._target, self._limits, self._fastest = target, limits, fastest
        self._until = time.monotonic() + SECONDS
        made = tried.made(row["format"], target["formats"])
        self._best = Attempt(made, row, False, "plain")
        self._count = 0

    def climb(self) -> Row:
        """The row of the first remedy that keeps the gate, or the plain one with the best that was reached."""
        for attempt in self._attempts():
            self._count += 1
            log.info("%s, %s: agreement %.4f", self._row["format"], attempt.words, attempt.row["agreement"])
            self._best = max(self._best, attempt, key=lambda one: one.score)
            if attempt.keeps:
                self._tried.adopt(attempt.made)
                return {**attempt.row, "notes": _joined(attempt.row["notes"], f"remedy: {attempt.words}")}
        told = f"{self._count} remedies tried, the best of them ({self._best.words}) agrees on "
        return {"notes": _joined(self._row["notes"], f"{told}{self._best.row['agreement']:.4f}")}

    def _attempts(self) -> Iterator[Attempt]:
        changes, leaves = LADDERS[self._row["format"]]
        for change in changes:
            yield from self._attempt(replace(self._best.made.recipe, **change))
        best = self._best.made.recipe
        floats = self._sensitive(best) if leaves and self._left() > 0 else ()
        for count in FLOATS:
            if count <= len(floats) * SHARE:
                yield from self._attempt(replace(best, floats=floats[:count]))
        if self._left() <= 0:
            return
        began = time.monotonic()
        try:
            tuned = tuning.tuned(self._tried.source, min(TUNING, self._left()))
        except Unavailable as error:
            log.info("%s: %s", self._row["format"], error)
            return
        told, plain = f"fine-tuned for {time.monotonic() - began:.0f} s", Recipe(bits=best.bits)
        yield from self._attempt(plain, tuned, told)
        for count in FLOATS[:2]:
            if count <= len(floats) * SHARE:
                yield from self._attempt(replace(plain, floats=floats[:count]), tuned, told)

    def _attempt(self, recipe: Recipe, source: Source | None = None, told: str = "") -> Iterator[Attempt]:
        """One attempt, or none where time is over, the format cannot be made so, or it is no longer the fastest."""
        if self._left() <= 0:
            return
        words = ", ".join(filter(None, (told, *_words(recipe))))
        try:
            made = self._tried.remade(self._row["format"], recipe, source)
            measured = self._tried.measured(made, self._conditions)
        except Unavailable as error:
            log.info("%s, %s: %s", self._row["format"], words, error)
            return
        row = {**self._row, **candidates.describe(made, measured, self._tried.samples), "dropped": None}
        dropped = gate.drops(row, self._limits, self._target)
        keeps = not dropped and row["p50_ms"] < self._fastest
        yield Attempt(made, row, keeps, words)

    def _sensitive(self, recipe: Recipe) -> tuple[str, ...]:
        return tuple(name for name, _ in sensitivity.order(self._tried.source, recipe, min(SCAN, self._left())))

    def _left(self) -> float:
        return self._until - time.monotonic()


def _words(recipe: Recipe) -> Iterator[str]:
    """In what a recipe differs from the plain one."""
    if recipe.bits != PLAIN.bits:
        yield f"weights in {recipe.bits} bits"
    if recipe.ranges != PLAIN.ranges:
        yield f"ranges by {recipe.ranges}"
    if recipe.floats:
        count = len(recipe.floats)
        yield f"{count} layer{'' if count == 1 else 's'} in float"


def _joined(*texts: str) -> str:
    return "; ".join(text for text in texts if text)
