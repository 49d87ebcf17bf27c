"""What the rows of a table give away: duplicates, doubtful labels, imbalance, drift between parts, too few samples.

N rows   F inputs   inputs float64 [N, F], NaN for missing   truth float64 [N], classes as places
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from models import drift
from models.adapt.columns import Column
from models.adapt.finding import NOTE, Finding
from models.adapt.problem import some
from models.adapt.sample import Sample

Floats = npt.NDArray[np.float64]
NEIGHBOURS = 10
MOST_FOR_NEIGHBOURS = 5_000
FEW = 100
RARE = 0.1
MOVED = 0.25
BINS = 10
NEAR = 0.01


def duplicates(
    columns: Mapping[str, Column], inputs: Sequence[str], truth: Floats, sample: Sample
) -> Iterator[Finding]:
    """Rows that are equal, equal but for their target, or equal but for noise."""
    if not inputs or not len(sample):
        return
    values = matrix(columns, inputs)
    exact = _places(values)
    copies = len(exact) - len(np.unique(exact))
    if copies:
        row = _first_copy(exact)
        evidence = f"{copies} of {len(exact)} rows repeat the inputs of another one ({copies / len(exact):.1%})"
        first = int(np.flatnonzero(exact == exact[row])[0])
        yield Finding("duplicates", "rows", f"{evidence}: {sample.where(row)} is {sample.where(first)} again")
        pairs = np.unique(np.stack([exact, np.nan_to_num(truth, nan=-1.0)]), axis=1).shape[1]
        odd = pairs - len(np.unique(exact))
        if odd:
            yield Finding("duplicates", "target", f"{odd} rows have the inputs of another row and another target")
    spread = np.nanstd(np.where(np.isfinite(values), values, np.nan), axis=0) if len(values) else np.zeros(0)
    step = np.where(spread > 0, spread * NEAR, 1.0)
    # On two grids, so that an edge between cells parts no pair.
    near = max(len(exact) - len(np.unique(_places(np.floor(values / step + shift)))) for shift in (0.0, 0.5)) - copies
    if near > max(2, len(exact) // 1000) and values.shape[1] > 2:
        yield Finding("near-duplicates", "rows", f"{near} rows differ from another one by less than {NEAR:.0%} of a "
                      "deviation in each column; a random split may put both sides of a pair apart", NOTE)  # fmt: skip


def doubtful(inputs: Floats, truth: Floats, kinds: Sequence[str], sample: Sample) -> Iterator[Finding]:
    """Rows whose neighbours agree on another class than theirs (Wilson, 1972), where neighbours mostly are right."""
    from sklearn.neighbors import NearestNeighbors

    there = np.flatnonzero(~np.isnan(truth))
    if len(there) > MOST_FOR_NEIGHBOURS:
        there = np.random.default_rng(0).choice(there, MOST_FOR_NEIGHBOURS, replace=False)
    if len(there) < 50 or not inputs.shape[1]:
        return
    own, points = truth[there].astype(int), standard(inputs[there])
    found = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(points).kneighbors(points, return_distance=False)
    around = np.stack([row[row != place][:NEIGHBOURS] for place, row in enumerate(found)])
    votes = np.apply_along_axis(np.bincount, 1, own[around], minlength=len(kinds))
    best = votes.argmax(1)
    if (best == own).mean() < 0.7:
        return
    rare = np.bincount(own, minlength=len(kinds)) < max(2 * NEIGHBOURS, 0.05 * len(own))
    suspects = np.flatnonzero((best != own) & (votes.max(1) >= 0.9 * NEIGHBOURS) & ~rare[own])
    if len(suspects):
        shown = [
            f"{sample.where(int(there[row]))} ({kinds[own[row]]}; neighbours: {kinds[best[row]]})" for row in suspects
        ]
        share = f"{len(suspects)} of {len(own)} rows looked at"
        yield Finding("label noise", "target", f"{share} stand among neighbours of another class: {some(shown, 4)}")


def balance(counts: Mapping[str, int]) -> Iterator[Finding]:
    """Classes that are rare, and sets that are small."""
    total = sum(counts.values())
    name, least = min(counts.items(), key=lambda item: item[1])
    most = max(counts.values())
    if least < RARE * total / max(1, len(counts) / 2) and most >= 5 * least:
        share = f"'{name}' is {least} of {total} samples ({least / total:.1%})"
        yield Finding("imbalance", name, f"{share}; accuracy alone would mislead, so the gate has a balanced figure")
    few = {kind: count for kind, count in counts.items() if count < 20}
    if few:
        said = some((f"'{kind}' has {count}" for kind, count in few.items()), 4)
        yield Finding("too few samples", some(few, 3), f"{said}; below 20 a class cannot be learned and measured well")


def size(rows: int) -> Iterator[Finding]:
    """A set that is small as a whole."""
    if rows < FEW:
        said = f"{rows} samples; the figures of a test split of {max(1, round(rows * 0.15))} will have wide intervals"
        yield Finding("too few samples", "rows", said)


def moved(columns: Mapping[str, Column], inputs: Sequence[str], train: npt.NDArray[np.bool_]) -> Iterator[Finding]:
    """Columns that are distributed otherwise in the given test part than in the training part, by their PSI."""
    for name in inputs:
        column = columns[name]
        first, second = column.values[train & column.present], column.values[~train & column.present]
        if len(first) < 50 or len(second) < 50:
            continue
        if column.vocabulary:
            common = [place for place, _ in Counter(first.tolist()).most_common(BINS)]
            counts = [[float((part == place).sum()) for place in common] for part in (first, second)]
            shares = [[*row, len(part) - sum(row)] for row, part in zip(counts, (first, second), strict=True)]
        else:
            edges = np.unique(np.quantile(first, np.linspace(0, 1, BINS + 1)))
            if len(edges) < 2:
                continue
            shares = [drift.histogram(part, edges).tolist() for part in (first, second)]
        index = drift.psi(shares[0], shares[1])
        noise = 2 * len(shares[0]) * (1 / len(first) + 1 / len(second))
        if index > MOVED + noise:
            evidence = f"PSI {index:.2f} from the train to the test part (above {MOVED} it has moved)"
            if not column.vocabulary:
                evidence += f"; medians {np.median(first):.4g} and {np.median(second):.4g}"
            yield Finding("drift", name, evidence)


def matrix(columns: Mapping[str, Column], names: Sequence[str]) -> Floats:
    """[N, F] of the named columns."""
    return np.stack([columns[name].values for name in names], axis=1) if names else np.zeros((0, 0))


def standard(values: Floats) -> Floats:
    """Columns with mean 0 and deviation 1, what is missing at the mean."""
    there = ~np.isnan(values)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, values, 0.0).sum(0) / count
    centred = np.where(there, values - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(0) / count)
    return np.asarray(centred / np.where(deviation > 0, deviation, 1.0), np.float64)


def _places(values: Floats) -> npt.NDArray[np.intp]:
    """One number per row, equal for equal rows; missing equals missing."""
    filled = np.ascontiguousarray(np.where(np.isnan(values), -1e300, values) + 0.0)
    as_bytes = filled.view([("row", "V", filled.shape[1] * 8)]).reshape(-1)
    kinds: dict[bytes, int] = {}
    return np.array([kinds.setdefault(row.tobytes(), len(kinds)) for row in as_bytes], np.intp)


def _first_copy(places: npt.NDArray[np.intp]) -> int:
    seen: set[int] = set()
    for row, place in enumerate(places.tolist()):
        if place in seen:
            return row
        seen.add(place)
    return 0
