"""A baseline as a net: what scikit-learn or numpy fitted, in tensors, with the same answers.

So a baseline that beats the net goes the same way to endpoint and device. Everything is computed in float64, as there.

N samples   K classes   D columns   O outputs of a fit: K, 1 of two classes, 1 of a number   S look-ups
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import shipped_inputs
from models.contract import Contract
from models.fitted import Fitted, Unshippable
from models.layers import SIZES, Net
from models.window_features import LARGEST

# A logarithm of no probability, whatever the others are.
NEVER = -1e4


class Baseline(Net):
    """Raw tensors in; logits [N, K] out, or [N, 1] in deviations of the target from its mean, as of every net.

    `kind` is the baseline's name, `about` what of its structure no tensor tells.
    """

    def __init__(self, contract: Contract, kind: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__(contract, SIZES[0])  # it has no size; the smallest is a valid name
        self.kind, self.about = kind, dict(about)
        if self.about.get("form") not in FORMS:
            raise ValueError(f"form is '{self.about.get('form')}'; known are {', '.join(FORMS)}")
        for name, value in tensors.items():
            self.register_buffer(name, value)

    def forward(self, raw: Tensor) -> Tensor:
        """Raw [N, ...] -> float32 [N, K] or [N, 1]."""
        found = FORMS[self.about["form"]](self, raw)
        if self.contract.target is None:
            return self._logits(found).float()
        deviations = (found - self.contract.target.mean) / self.contract.target.std
        return deviations.clamp(-LARGEST, LARGEST).float()

    def columns(self, raw: Tensor) -> Tensor:
        """What the fit saw: [N, ...] -> float64 [N, D]."""
        return shipped_inputs.columns(raw, self.contract, int(self.about.get("step", 1)))

    def part(self, name: str) -> Tensor | None:
        """A tensor that only some have."""
        return self.get_buffer(name) if name in self._buffers else None

    def _logits(self, found: Tensor) -> Tensor:
        """[N, O] -> [N, K]: of two classes the second's log-odds; a class that training never saw has no chance."""
        if found.shape[1] == 1:
            found = torch.cat([torch.zeros_like(found), found], 1)
        found = (found - found.amax(1, keepdim=True)).clamp(min=NEVER)
        places = self.part("places")
        if places is None:
            return found
        return torch.cat([found, torch.full_like(found[:, :1], 2 * NEVER)], 1).index_select(1, places)


def build(contract: Contract, name: str, fitted: Fitted) -> Baseline:
    """The net of a fitted baseline. Raises Unshippable."""
    if fitted.form not in FORMS:
        raise Unshippable(f"no net computes the form '{fitted.form}'")
    parts = fitted.parts()
    about = {"form": fitted.form, **{key: value for key, value in parts.items() if isinstance(value, int)}}
    tensors = {
        key: torch.from_numpy(np.array(value, order="C")) for key, value in parts.items() if not isinstance(value, int)
    }
    return Baseline(contract, name, about, tensors).eval()


def _constant(net: Baseline, raw: Tensor) -> Tensor:
    values = net.get_buffer("values")
    values = values if net.contract.target is not None else values.clamp(min=1e-300).log()
    # An output that depends on the batch alone would have no batch for an exporter.
    return values[None] + torch.zeros_like(raw.flatten(1)[:, :1], dtype=torch.float64)


def _last(net: Baseline, raw: Tensor) -> Tensor:
    """`factor` times the last value of a column, plus `offset`; `instead` where it is missing."""
    value = shipped_inputs.last(raw.double().index_select(2, net.get_buffer("place")))
    found = net.get_buffer("factor") * value + net.get_buffer("offset")
    return torch.where(torch.isnan(value), net.get_buffer("instead"), found)


def _linear(net: Baseline, raw: Tensor) -> Tensor:
    rows = net.columns(raw)
    found = net.get_buffer("bias")[None]
    numbers, categories = net.part("numbers"), net.part("categories")
    if numbers is not None:
        cells = rows.index_select(1, numbers)
        missing = torch.isnan(cells)
        filled = torch.where(missing, net.get_buffer("fill"), cells) - net.get_buffer("centre")
        found = found + filled @ net.get_buffer("weight") + missing.double() @ net.get_buffer("flag")
    if categories is not None:
        code = _code(rows.index_select(1, categories), net.get_buffer("size")) + net.get_buffer("offset")
        found = found + torch.nn.functional.embedding(code, net.get_buffer("table")).sum(1)
    return found


def _trees(net: Baseline, raw: Tensor) -> Tensor:
    """Walks all trees at once, one level a turn, and adds up the leaves."""
    rows = net.columns(raw).float()
    missing = torch.isnan(rows)
    cells = torch.where(missing, torch.zeros_like(rows), rows).clamp(-LARGEST, LARGEST)
    far = torch.full_like(cells, torch.inf)
    seen = [torch.where(missing, -far, cells), torch.where(missing, far, cells)]
    column = net.part("lookup_column")
    if column is not None:
        code = _code(rows.index_select(1, column), net.get_buffer("lookup_size")) + net.get_buffer("lookup_offset")
        seen.append(_taken(net.get_buffer("lookup"), code).float())
    table = torch.cat(seen, 1)
    feature, threshold, left = (net.get_buffer(name) for name in ("feature", "threshold", "left"))
    node = net.get_buffer("start")[None] + torch.zeros_like(rows[:, :1], dtype=torch.long)
    for _ in range(int(net.about["depth"])):
        right = table.gather(1, _taken(feature, node)) > _taken(threshold, node)
        node = _taken(left, node) + right.long()
    base = net.get_buffer("base")
    leaves = _taken(net.get_buffer("leaf"), node)
    return leaves.reshape(-1, leaves.shape[1] // len(base), len(base)).sum(1) + base


def _furthest(net: Baseline, raw: Tensor) -> Tensor:
    """The z-score that is largest in the window."""
    cells = raw.double().index_select(2, net.get_buffer("numbers"))
    return _distance(net, _largest((cells - net.get_buffer("mean")) / net.get_buffer("std")))


def _jump(net: Baseline, raw: Tensor) -> Tensor:
    """The largest step from one value to the next, in usual ones."""
    cells = raw.double().index_select(2, net.get_buffer("numbers"))
    return _distance(net, _largest((cells[:, 1:] - cells[:, :-1]) / net.get_buffer("usual")))


def _unlike(net: Baseline, raw: Tensor) -> Tensor:
    """How far from the mean picture."""
    scaled = (raw.double() - net.get_buffer("mean")) / net.get_buffer("spread")
    return _distance(net, scaled.square().flatten(1).mean(1))


FORMS: dict[str, Callable[[Baseline, Tensor], Tensor]] = {
    "constant": _constant, "last": _last, "linear": _linear, "trees": _trees,
    "z_score": _furthest, "persistence": _jump, "mean_image": _unlike,
}  # fmt: skip


def _distance(net: Baseline, value: Tensor) -> Tensor:
    """[N] -> the log-odds of an anomaly, [N, 1]."""
    score = (value + 1e-6).log()
    return ((score - net.get_buffer("threshold")) / net.get_buffer("scale"))[:, None]


def _largest(values: Tensor) -> Tensor:
    """The largest amount, 0 where all is missing: [N, T, F] -> [N]."""
    if not values.shape[1] * values.shape[2]:
        return values.sum((1, 2))
    return torch.where(torch.isnan(values), torch.zeros_like(values), values.abs()).flatten(1).amax(1)


def _code(cells: Tensor, size: Tensor) -> Tensor:
    """A category's place, `size` for a missing one; all that were never seen have the place before it."""
    size = size.to(cells.dtype)
    return torch.where(torch.isnan(cells), size, torch.minimum(cells, size - 1)).long()


def _taken(values: Tensor, index: Tensor) -> Tensor:
    """values[index], as one plain gather: [M], [N, X] -> [N, X]."""
    return torch.nn.functional.embedding(index, values[:, None]).squeeze(2)
