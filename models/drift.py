"""How far what a model sees has moved from its training data: stability indices, and whether chance explains them.

The population stability index, PSI, sums (seen - expected) * ln(seen / expected) over the bins of a histogram. The
usual reading (Siddiqi, Credit Risk Scorecards, 2006): below 0.1 stable, 0.1 to 0.25 watch, above 0.25 moved. That
reading knows nothing of sample sizes: a hundred samples of unmoved data have an index of about 0.1.

    n  samples seen   m  training samples behind the profile   B  bins

So `judge` asks for both effect and significance. Where nothing moved, nm/(n+m) * PSI follows a chi-square distribution
with B - 1 degrees of freedom (Yurdakul and Naranjo, Statistical properties of the population stability index, Journal
of Risk Model Validation, 2020), but slowly: with ten samples a bin, four times as many windows as it should are beyond
the 99.9th percentile. Pearson's statistic has the same limit and its tail is right at such sizes, so significance is
Pearson's, with sparse bins joined, and the index is the effect. The Kolmogorov-Smirnov distance is taken at the edges
of the bins, so it is a lower bound of the real one, and its p-value an upper bound. All of it is for samples that are
independent: windows of a series that overlap raise more alarms than `alpha`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.contract import Contract

# An empty bin must not make the index infinite; the share that stands for "none seen".
FLOOR = 1e-4
# Of a wide table the first columns are watched: a contract stays small enough to travel with every package.
COLUMNS = 64
# Of a table at most so many samples are looked at for the profile.
PROFILED = 20_000
# A bin counts by itself when chance alone fills it with so many samples (Cochran, 1954, asks for five).
ENOUGH = 5.0
# Looks at one feature: its bins, its cumulative distance, and what lies where training had nothing.
TESTS = 3

Batch = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


def psi(expected: Sequence[float], seen: Sequence[float]) -> float:
    """The index of two histograms over the same bins, as shares or counts. Raises ValueError when they do not fit."""
    first, second = _shares(expected), _shares(seen)
    if first.shape != second.shape:
        raise ValueError(f"histograms of {first.size} and {second.size} bins cannot be compared")
    return float(((second - first) * np.log(second / first)).sum())


def _shares(counts: Sequence[float]) -> Floats:
    return np.asarray(np.maximum(_whole(counts), FLOOR), np.float64)


def _whole(counts: Sequence[float]) -> Floats:
    """Shares that sum to one."""
    values = np.asarray(counts, np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all() or values.sum() <= 0:
        raise ValueError("a histogram needs at least one bin and one finite count above zero")
    return np.asarray(values / values.sum(), np.float64)


def ks(expected: Sequence[float], seen: Sequence[float]) -> float:
    """The largest distance of the two cumulative distributions at the edges of the bins, 0 to 1."""
    return float(np.abs(np.cumsum(_whole(seen)) - np.cumsum(_whole(expected))).max())


def chi_square_tail(value: float, degrees: int) -> float:
    """The probability of `value` or more, exact for whole degrees of freedom (Abramowitz and Stegun, 26.4.4 and 5)."""
    half = max(value, 0.0) / 2
    if degrees % 2:
        total, term = math.erfc(math.sqrt(half)), math.exp(-half) * math.sqrt(half) / math.gamma(1.5)
        first = 1.5
    else:
        total, term, first = 0.0, math.exp(-half), 1.0
    for number in range(degrees // 2):
        total += term
        term *= half / (first + number)
    return min(1.0, total)


def kolmogorov_tail(distance: float, samples: float) -> float:
    """The probability of a distance of two samples, `samples` = nm/(n+m), or more; with Stephens's factor (1970)."""
    root = math.sqrt(samples)
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.2:
        return 1.0
    signed = ((1.0 if k % 2 else -1.0) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return min(1.0, 2 * sum(signed))


@dataclass(frozen=True)
class Feature:
    """One statistic of a window: index, distance, and the probability of either, or more, were nothing moved."""

    name: str
    psi: float
    ks: float
    p: float


@dataclass(frozen=True)
class Judgement:
    """One window. `alarm`: a feature moved further than `effect` allows, and further than chance explains.

    `p` is the smallest of the features', times their number (Bonferroni): `significant` means that it is below
    `alpha`, which happens to that share of windows of unmoved data at most. `threshold` is about the index above
    which a feature of ten bins is significant at these sizes. `features` come worst first.
    """

    alarm: bool
    significant: bool
    samples: int
    alpha: float
    effect: float
    psi: float
    ks: float
    p: float
    threshold: float
    features: tuple[Feature, ...]


def judged(feature: str, expected: Sequence[float], counts: Sequence[float], trained: float) -> Feature:
    """One feature's window: `counts` seen in the bins, `expected` shares, `trained` samples behind them."""
    index, distance = psi(expected, counts), ks(expected, counts)
    n = float(np.sum(counts))
    effective = n * trained / (n + trained) if math.isfinite(trained) else n
    shares, seen = joined(expected, counts, n)
    found = [kolmogorov_tail(distance, effective)]
    if len(shares) > 1:
        found.append(chi_square_tail(effective * _pearson(shares, seen, trained), len(shares) - 1))
    outside = float(np.sum(np.asarray(counts)[np.asarray(expected) <= 0]))
    if outside:
        found.append(_outside(outside, n, trained))
    return Feature(feature, index, distance, min(1.0, TESTS * min(found)))


def _pearson(expected: Floats, seen: Floats, trained: float) -> float:
    """Squared differences of the shares over the shares of both samples together."""
    n = seen.sum()
    both = (seen + trained * expected) / (n + trained) if math.isfinite(trained) else expected
    return float(((seen / n - expected) ** 2 / both).sum())


def _outside(count: float, n: float, trained: float) -> float:
    """At most the probability that so many of n samples lie where none of `trained` did (Markov, Chernoff).

    A sample lies there with a probability of about 2 / (trained + 1), one for each end of the range.
    """
    mean = n * (2 / (trained + 1) if math.isfinite(trained) else FLOOR)
    return min(1.0, mean / count, math.exp(min(0.0, count * (1 + math.log(mean / count)))))


def joined(expected: Sequence[float], counts: Sequence[float], n: float) -> tuple[Floats, Floats]:
    """Neighbouring bins joined until chance fills each with ENOUGH samples: shares and counts."""
    shares, seen = [0.0], [0.0]
    for share, count in zip(expected, counts, strict=True):
        if shares[-1] * n >= ENOUGH:
            shares.append(0.0)
            seen.append(0.0)
        shares[-1] += float(share)
        seen[-1] += float(count)
    if len(shares) > 1 and shares[-1] * n < ENOUGH:
        last, rest = shares.pop(), seen.pop()
        shares[-1] += last
        seen[-1] += rest
    return np.array(shares), np.array(seen)


def threshold(n: float, trained: float, alpha: float, features: int, bins: int = 10) -> float:
    """About the index above which a feature is significant: the chi-square quantile over nm/(n+m), by bisection."""
    low, high = 0.0, 1e4
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        beyond = chi_square_tail(middle, bins - 1) < alpha / (TESTS * features)
        low, high = (low, middle) if beyond else (middle, high)
    return high / (n * trained / (n + trained) if math.isfinite(trained) else n)


def summarize(batch: Batch, names: Sequence[str] = ()) -> dict[str, Floats]:
    """Statistics by name, one value a sample.

    Of pictures uint8 [N, C, H, W]: `mean` brightness and `contrast`, its standard deviation, 0..255. Of float32
    [N, F] or [N, T, F]: each column by its name in `names`, the mean over a window's steps; missing ones stay NaN.
    """
    if batch.dtype == np.uint8:
        flat = batch.reshape(len(batch), -1).astype(np.float64)
        return {"mean": flat.mean(axis=1), "contrast": flat.std(axis=1)}
    values = batch.astype(np.float64)
    if values.ndim == 3:
        present = ~np.isnan(values)
        count = present.sum(axis=1)
        total = np.where(present, values, 0.0).sum(axis=1)
        values = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return {name: values[:, place] for place, name in enumerate(names[:COLUMNS])}


class Watch:
    """Counts a stream into the bins of a profile: `{name: {"edges": [...], "shares": [...]}}`.

    `names` are the columns of a table or series, as the contract has them; `trained` is how many samples the profile
    was made of, without which it counts as exact.
    """

    def __init__(self, profile: Mapping[str, Any], names: Sequence[str] = (), trained: float = math.inf) -> None:
        self._names = tuple(names)
        self._trained = trained
        self._edges = {name: np.asarray(part["edges"], np.float64) for name, part in profile.items()}
        self._expected = {name: list(part["shares"]) for name, part in profile.items()}
        self._counts = {name: np.zeros(len(shares)) for name, shares in self._expected.items()}
        self.seen = 0

    def add(self, batch: Batch) -> None:
        """Counts the samples of a batch of raw tensors; values beyond the outer edges fall into the outer bins."""
        for name, values in summarize(batch, self._names).items():
            if name in self._edges:
                self._counts[name] += histogram(values, self._edges[name])
        self.seen += len(batch)

    def score(self) -> dict[str, float]:
        """PSI by statistic; empty until something was seen."""
        return {name: psi(self._expected[name], counts) for name, counts in self._seen().items()}

    def worst(self) -> float:
        """The largest index, 0.0 until something was seen."""
        return max(self.score().values(), default=0.0)

    def judge(self, alpha: float = 0.01, effect: float = 0.25) -> Judgement:
        """The window so far: an alarm comes from unmoved data in a share of `alpha` of all windows at most."""
        seen = self._seen()
        features = [judged(name, self._expected[name], counts, self._trained) for name, counts in seen.items()]
        worst = tuple(sorted(features, key=lambda one: (one.p, -one.psi)))
        family = max(1, len(self._expected))
        limit = alpha / family
        return Judgement(
            alarm=any(one.p < limit and one.psi > effect for one in worst),
            significant=any(one.p < limit for one in worst),
            samples=self.seen,
            alpha=alpha,
            effect=effect,
            psi=max((one.psi for one in worst), default=0.0),
            ks=max((one.ks for one in worst), default=0.0),
            p=min(1.0, family * worst[0].p) if worst else 1.0,
            threshold=threshold(max(self.seen, 1), self._trained, alpha, family),
            features=worst,
        )

    def reset(self) -> None:
        """Starts a new window."""
        self.seen = 0
        for counts in self._counts.values():
            counts[:] = 0

    def _seen(self) -> dict[str, list[float]]:
        """Counts by statistic, of those that had a value."""
        return {name: counts.tolist() for name, counts in self._counts.items() if counts.sum() > 0}


def watch(contract: Contract) -> Watch:
    """A new count of what a model with this contract sees, to compare with what it was trained on."""
    trained = sum(contract.counts.get("train", {}).values())
    looked_at = trained if contract.modality == "image" else min(trained, PROFILED)
    return Watch(contract.profile, [column.name for column in contract.columns], looked_at or math.inf)


def histogram(values: Floats, edges: Floats) -> Floats:
    """Counts of `values` in the len(edges) - 1 bins, outliers in the outer ones; NaN counts nowhere."""
    inner = np.clip(values[~np.isnan(values)], edges[0], edges[-1])
    return np.histogram(inner, bins=edges)[0].astype(np.float64)
