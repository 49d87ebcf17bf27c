"""scikit-learn's gradient-boosted trees as arrays that a few gathers can walk.

All nodes of all trees lie in one array; a node's right child follows its left one, and a leaf is its own left child. A
split by category is a look-up, whose answer (left or right) is one more column to be compared. Missing values are
pushed to the side where the node wants them, so a node looks into one of two copies of the columns.

M nodes   S look-ups   D columns
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from models.fitted import Parts, Unshippable

LARGEST = float(np.finfo(np.float32).max)
# Nodes that a graph may hold: some 60 MB.
NODES = 2_000_000
Where = Callable[[Any, Any], int]


def parts(model: Any) -> Parts:
    """Of a HistGradientBoosting model: `feature` [M] (see `where` below), `threshold`, `left`, `leaf` [M], `start`
    [trees] (their roots), `base` [trees a round], `lookup_column`, `lookup_offset`, `lookup_size` [S] and `lookup`
    (1 for right, by category; last those for an unknown and a missing one), and `depth`.
    """
    trees = [tree for stage in model._predictors for tree in stage]  # no public name for them
    if not trees:
        raise Unshippable("it has no trees")
    if sum(len(tree.nodes) for tree in trees) > NODES:
        raise Unshippable(f"its trees have more than {NODES:,} nodes")
    width = int(model.n_features_in_)
    lookups = _Lookups(model, width)

    def where(node: Any, tree: Any) -> int:
        """0..D-1: missing goes left; D..2D-1: missing goes right; from 2D on: a look-up."""
        if node["is_categorical"]:
            return 2 * width + lookups.place(node, tree)
        column = int(lookups.columns[node["feature_idx"]])
        return column if node["missing_go_to_left"] else width + column

    found = [_flat(tree, where) for tree in trees]
    sizes = np.array([len(tree["left"]) for tree in found])
    starts = np.cumsum(sizes) - sizes
    for start, tree in zip(starts, found, strict=True):
        tree["left"] += start
    joined = {name: np.concatenate([tree[name] for tree in found]) for name in found[0]}
    base = np.asarray(model._baseline_prediction, np.float64).reshape(-1)
    return {
        **joined, **lookups.arrays(), "start": starts.astype(np.int64), "base": base,
        "depth": max(int(tree.nodes["depth"].max()) for tree in trees),
    }  # fmt: skip


def _flat(tree: Any, where: Where) -> dict[str, npt.NDArray[Any]]:
    """One tree in the order in which a right child follows its left one."""
    nodes = tree.nodes
    order, place = [0], 0
    left = np.zeros(len(nodes), np.int64)
    while place < len(order):
        node = nodes[order[place]]
        left[place] = place if node["is_leaf"] else len(order)
        if not node["is_leaf"]:
            order += [int(node["left"]), int(node["right"])]
        place += 1
    sorted_nodes = nodes[order]
    leaf = sorted_nodes["is_leaf"].astype(bool)
    threshold = np.where(sorted_nodes["is_categorical"].astype(bool), 0.5, sorted_nodes["num_threshold"])
    return {
        "feature": np.array([0 if node["is_leaf"] else where(node, tree) for node in sorted_nodes], np.int64),
        # A leaf's threshold is above all, missing values included.
        "threshold": np.where(leaf, np.float32(np.inf), _down(threshold)).astype(np.float32),
        "left": left,
        "leaf": np.where(leaf, sorted_nodes["value"], 0.0).astype(np.float64),
    }


def _down(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 that is not above: a float32 falls on the same side of it."""
    near = np.clip(thresholds, -LARGEST, LARGEST).astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


class _Lookups:
    """Which side each category takes at a node; equal questions are asked once."""

    def __init__(self, model: Any, width: int) -> None:
        mask = model.is_categorical_ if model.is_categorical_ is not None else np.zeros(width, bool)
        # The model puts categories first.
        self.columns = np.concatenate([np.flatnonzero(mask), np.flatnonzero(~mask)])
        known = model._preprocessor.named_transformers_["encoder"].categories_ if mask.any() else []
        self.known = [np.asarray(values, np.float64)[~np.isnan(np.asarray(values, np.float64))] for values in known]
        self.places: dict[tuple[int, bytes], int] = {}
        self.rows: list[tuple[int, npt.NDArray[np.uint8]]] = []

    def place(self, node: Any, tree: Any) -> int:
        column, bits = int(node["feature_idx"]), tree.raw_left_cat_bitsets[node["bitset_idx"]]
        known = self.known[column]
        size = int(known.max(initial=0)) + 2  # the last that is not missing stands for all that were never seen
        right = np.full(size + 1, 0 if node["missing_go_to_left"] else 1, np.uint8)
        codes = np.arange(len(known))
        right[known.astype(int)] = 1 - ((bits[codes // 32] >> (codes % 32).astype(np.uint32)) & 1)
        key = (column, right.tobytes())
        if key not in self.places:
            self.places[key] = len(self.rows)
            self.rows.append((int(self.columns[column]), right))
        return self.places[key]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        if not self.rows:
            return {}
        sizes = np.array([len(right) - 1 for _, right in self.rows], np.int64)
        return {
            "lookup_column": np.array([column for column, _ in self.rows], np.int64),
            "lookup_offset": np.cumsum(sizes + 1) - (sizes + 1),
            "lookup_size": sizes,
            "lookup": np.concatenate([right for _, right in self.rows]),
        }
