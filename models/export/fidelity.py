"""How faithfully an artefact answers what the trained model answers, on samples that training never saw.

N samples   K classes, or 1 where the answer is a number
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.contract import Contract

# Numbers agree when they differ by less than this share of the target's deviation.
NEAR = 0.05
# Draws of the bootstrap, and the least probability that a logarithm sees.
DRAWS, TINY = 1000, 1e-7
SEED = 17

Batch = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """Held-out samples with what the trained model answers: tensors [N, ...], labels [N], expected [N, K]."""

    tensors: Batch
    labels: npt.NDArray[Any]
    test: npt.NDArray[np.bool_]
    expected: Floats
    contract: Contract

    def metric_of(self, answers: Floats) -> float:
        """On the test split: the share of right answers, or the root of the mean squared error."""
        cost = self._costs(answers)
        return float(1 - cost.mean()) if self.contract.categorical else float(np.sqrt(cost.mean()))

    def drop_of(self, answers: Floats) -> float:
        """How much worse than the trained model: accuracy lost, or the share by which the error grew."""
        ours, trained = self.metric_of(answers), self.metric_of(self.expected)
        return trained - ours if self.contract.categorical else (ours - trained) / max(trained, 1e-12)

    def drop_interval(self, answers: Floats) -> tuple[float, float]:
        """The 95 % interval of `drop_of`, by the bootstrap over test samples, both models on the same draws."""
        ours, trained = self._costs(answers), self._costs(self.expected)
        rng = np.random.default_rng(SEED)
        counts = rng.multinomial(len(ours), np.full(len(ours), 1 / len(ours)), size=DRAWS) / len(ours)
        means = counts @ np.stack([ours, trained], 1)
        if self.contract.categorical:
            drops = means[:, 0] - means[:, 1]
        else:
            roots = np.sqrt(means)
            drops = (roots[:, 0] - roots[:, 1]) / np.maximum(roots[:, 1], 1e-12)
        low, high = np.percentile(drops, [2.5, 97.5])
        return float(low), float(high)

    def agreement_of(self, answers: Floats) -> float:
        """The share of answers that are the trained model's: equal classes, or numbers within 0.05 deviations."""
        if self.contract.target is None:
            return float((answers.argmax(1) == self.expected.argmax(1)).mean())
        return float((np.abs(answers - self.expected) <= NEAR * self.contract.target.std).mean())

    def logits_of(self, answers: Floats) -> tuple[float, float]:
        """Slope and relative L2 distance of the artefact's logits against the trained model's.

        Logits are centred logarithms of probabilities, or numbers as they are, centred. A quantiser that cuts ranges
        shrinks them, which agreement alone does not show: a slope of 0.7 turns a sure answer into a doubtful one.
        """
        ours, trained = self._logits(answers), self._logits(self.expected)
        size = max(float(np.square(trained).sum()), 1e-12)
        return float((ours * trained).sum() / size), float(np.sqrt(np.square(ours - trained).sum() / size))

    def figures_of(self, answers: Floats) -> dict[str, float]:
        """Everything above, under the names that a release's manifest uses."""
        low, high = self.drop_interval(answers)
        slope, distance = self.logits_of(answers)
        return {
            "metric": self.metric_of(answers),
            "metric_drop": self.drop_of(answers),
            "metric_drop_low": low,
            "metric_drop_high": high,
            "agreement": self.agreement_of(answers),
            "max_abs_diff": float(np.abs(answers - self.expected).max()),
            "logit_slope": slope,
            "logit_l2": distance,
        }

    def _costs(self, answers: Floats) -> npt.NDArray[np.float64]:
        """By test sample: 1 for a wrong answer, or the squared error."""
        if self.contract.categorical:
            return np.asarray((answers.argmax(1) != self.labels)[self.test], np.float64)
        return np.asarray(np.square(answers[:, 0] - self.labels)[self.test], np.float64)

    def _logits(self, answers: Floats) -> npt.NDArray[np.float64]:
        found = np.asarray(answers, np.float64)
        if self.contract.categorical:
            found = np.log(np.clip(found, TINY, 1.0))
            return np.asarray(found - found.mean(1, keepdims=True))
        return np.asarray(found - np.asarray(self.expected, np.float64).mean())
