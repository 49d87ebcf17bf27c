"""Columns that give the target away: equal to it one to one, ordered as it is, or enough alone to foretell it.

N rows   column and target float64 [N], classes as places, NaN for missing
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from models.adapt.columns import Column
from models.adapt.finding import EXCLUDED, Finding

Floats = npt.NDArray[np.float64]
AREA = 0.99
RANKS = 0.999
NEARLY = 0.98
LEAST_ROWS = 8
# By chance a column foretells so few rows well; below this only what is exact counts.
LEAST_FOR_AREA = 40
LEAST_FOR_CURVE = 100
MOST_ROWS = 50_000
MOST_CLASSES = 50


def find(
    columns: Mapping[str, Column], candidates: Sequence[str], target: Floats, *, classes: bool, shuffled: bool
) -> Iterator[Finding]:
    """A finding per column that leaks. `shuffled` says that rows do not follow each other in time."""
    there = np.flatnonzero(~np.isnan(target))
    if len(there) > MOST_ROWS:
        there = there[:: len(there) // MOST_ROWS + 1]
    truth = target[there]
    if len(there) < LEAST_ROWS or len(np.unique(truth)) < 2:
        return
    for name in candidates:
        values = columns[name].values[there]
        evidence = one_to_one(values, truth)
        if not evidence and classes:
            evidence = foretells(values, truth)
        if not evidence and not classes:
            evidence = follows(values, truth, shuffled)
        if evidence:
            yield Finding("leak", name, evidence, EXCLUDED)


def one_to_one(values: Floats, truth: Floats) -> str:
    """Evidence that each value stands for one value of the target and the reverse, repeated ones included."""
    values = _missing_as_value(values)
    pairs = np.unique(np.stack([values, truth]), axis=1).shape[1]
    mine, theirs = len(np.unique(values)), len(np.unique(truth))
    if pairs != mine or pairs != theirs or theirs > len(truth) / 2:
        return ""
    return f"its {mine} values are those of the target under other names, in all {len(truth)} rows"


def follows(values: Floats, truth: Floats, shuffled: bool) -> str:
    """Evidence that a column orders the rows as a numeric target does, or that it determines it."""
    both = ~np.isnan(values)
    mine, theirs = values[both], truth[both]
    if len(mine) < max(LEAST_ROWS, 0.5 * len(truth)) or len(np.unique(mine)) < 2 or len(np.unique(theirs)) < 2:
        return ""
    rank = float(np.corrcoef(_ranks(mine), _ranks(theirs))[0, 1])
    if abs(rank) >= RANKS:
        return f"its rank correlation with the target is {rank:.4f}"
    straight = float(np.corrcoef(mine, theirs)[0, 1])
    if abs(straight) >= RANKS and abs(rank) >= NEARLY:  # one far value alone would give the first
        return f"its correlation with the target is {straight:.4f}"
    share = _determined(mine, theirs)
    if share >= RANKS:
        return f"its value alone tells the target: held-out R² {share:.4f}"
    if shuffled and len(mine) >= LEAST_FOR_CURVE:
        share = _curve(mine, theirs)
        if share >= RANKS:
            return f"the target is a function of it: held-out R² {share:.4f}"
    return ""


def foretells(values: Floats, truth: Floats) -> str:
    """Evidence that a column alone separates every class on a held-out half, by the area under the ROC curve."""
    kinds = np.unique(truth)
    if len(truth) < LEAST_FOR_AREA or len(kinds) > MOST_CLASSES:
        return ""
    order = np.random.default_rng(0).permutation(len(truth))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    worst = 1.0
    for train, held in ((first, second), (second, first)):
        chances, nearest = _chances(values, truth, kinds, train, held), _nearest(values, truth, train, held)
        for place, kind in enumerate(kinds):
            positive = truth[held] == kind
            if positive.any() and not positive.all():
                best = max(area(chances[:, place], positive), area((nearest == kind).astype(np.float64), positive))
                if len(kinds) == 2:
                    best = max(best, _raw_area(values, truth, kind, train, held))
                worst = min(worst, best)
            if worst < AREA:
                return ""
    return f"alone it tells the classes apart: AUC {worst:.4f} on a held-out half"


def area(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """The area under the ROC curve, equal scores sharing their rank."""
    n, m = int(positive.sum()), int((~positive).sum())
    return float((_ranks(scores)[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else 0.5


def strength(values: Floats, truth: Floats, *, classes: bool) -> float:
    """How far a column alone goes with the target, 0 to 1: |2 AUC - 1| of the best class, or |rank correlation|."""
    both = ~(np.isnan(values) | np.isnan(truth))
    mine, theirs = values[both], truth[both]
    if len(mine) < LEAST_ROWS or len(np.unique(mine)) < 2 or len(np.unique(theirs)) < 2:
        return 0.0
    if classes:
        return max(abs(2 * area(mine, theirs == kind) - 1) for kind in np.unique(theirs)[:MOST_CLASSES])
    return abs(float(np.corrcoef(_ranks(mine), _ranks(theirs))[0, 1]))


def _raw_area(
    values: Floats, truth: Floats, kind: float, train: npt.NDArray[np.intp], held: npt.NDArray[np.intp]
) -> float:
    """The area by the values as they are, in the direction that the training half shows."""
    if np.isnan(values).any():
        return 0.5
    found = area(values[held], truth[held] == kind)
    return found if area(values[train], truth[train] == kind) >= 0.5 else 1.0 - found


def _chances(
    values: Floats, truth: Floats, kinds: Floats, train: npt.NDArray[np.intp], held: npt.NDArray[np.intp]
) -> Floats:
    """[held, classes]: how often each class stood beside a value, or a range of values, in the training half."""
    bins = _bins(_missing_as_value(values), train)
    count = int(bins.max()) + 1
    table = np.zeros((count, len(kinds)))
    np.add.at(table, (bins[train], np.searchsorted(kinds, truth[train])), 1.0)
    prior = np.maximum(table.sum(0) / len(train), 1e-9)
    return np.asarray(((table + prior) / (table.sum(1, keepdims=True) + 1.0))[bins[held]], np.float64)


def _nearest(values: Floats, truth: Floats, train: npt.NDArray[np.intp], held: npt.NDArray[np.intp]) -> Floats:
    """The class of the nearest value in the training half, which bins of few rows are too wide to tell."""
    filled = _missing_as_value(values)
    order = train[np.argsort(filled[train], kind="stable")]
    known, asked = filled[order], filled[held]
    right = np.clip(np.searchsorted(known, asked), 1, len(known) - 1)
    closer = np.where(asked - known[right - 1] <= known[right] - asked, right - 1, right)
    return np.asarray(truth[order][closer], np.float64)


def _bins(values: Floats, train: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    kinds, places = np.unique(values, return_inverse=True)
    if len(kinds) <= max(50, len(values) // 20):
        return np.asarray(places.reshape(-1), np.intp)
    edges = np.unique(np.quantile(values[train], np.linspace(0, 1, min(64, max(4, len(train) // 10)) + 1)[1:-1]))
    return np.asarray(np.searchsorted(edges, values), np.intp)


def _determined(values: Floats, truth: Floats) -> float:
    """Held-out R² of the mean target beside each value, where values repeat; 0 where they do not."""
    kinds, places = np.unique(values, return_inverse=True)
    if len(kinds) > len(values) / 3:
        return 0.0
    places = places.reshape(-1)
    order = np.random.default_rng(0).permutation(len(values))
    train, held = order[: len(order) // 2], order[len(order) // 2 :]
    count = np.bincount(places[train], minlength=len(kinds))
    total = np.bincount(places[train], weights=truth[train], minlength=len(kinds))
    seen = count[places[held]] > 0
    return _share(truth[held][seen], (total / np.maximum(count, 1))[places[held]][seen])


def _curve(values: Floats, truth: Floats) -> float:
    """Held-out R² of the straight lines between the training half's points."""
    order = np.random.default_rng(0).permutation(len(values))
    train, held = order[: len(order) // 2], order[len(order) // 2 :]
    kinds, places = np.unique(values[train], return_inverse=True)
    places = places.reshape(-1)
    means = np.bincount(places, weights=truth[train]) / np.bincount(places)
    return _share(truth[held], np.interp(values[held], kinds, means))


def _share(truth: Floats, answers: Floats) -> float:
    spread = float(((truth - truth.mean()) ** 2).sum()) if len(truth) > 3 else 0.0
    return 1.0 - float(((truth - answers) ** 2).sum()) / spread if spread else 0.0


def _ranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing their mean."""
    ordered = np.sort(values)
    return np.asarray(
        (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2, np.float64
    )


def _missing_as_value(values: Floats) -> Floats:
    there = values[~np.isnan(values)]
    return np.where(np.isnan(values), there.min() - 1.0 if len(there) else 0.0, values)
