"""What each built-in data set brings: its `[data]` and the success criteria that suit it.

They stand in for those tables of `lab.toml` when a run names another data set than the file does.
"""

from __future__ import annotations

from typing import Any

# The keys of `[gate]` that are no metric.
SWITCHES = frozenset({"beat_baseline", "ship_baseline", "beat_champion", "max_metric_drop", "min_agreement"})
PICTURES: dict[str, Any] = {"modality": "image", "task": "classification"}
BUILT_IN: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {"data": PICTURES, "gate": {"accuracy": 0.95}},
    "surface-defects": {"data": PICTURES, "gate": {"accuracy": 0.9}},
    "breast-cancer": {
        "data": {"modality": "tabular", "task": "classification", "target": "diagnosis"},
        "gate": {"accuracy": 0.92, "auroc": 0.97, "beat_baseline": False},
    },
    "turbofan-like": {
        "data": {
            "modality": "timeseries",
            "task": "rul",
            "group": "unit",
            "time": "cycle",
            "window": 30,
            "rul_cap": 125,
        },
        "gate": {"rmse": 25.0, "beat_baseline": False},
    },
}


def own_tables(dataset: str, tables: dict[str, Any]) -> dict[str, Any]:
    """`tables` with the built-in set's own `[data]`, and its criteria in place of the metrics of `[gate]`."""
    own = BUILT_IN.get(dataset)
    if own is None:
        return tables
    kept = {key: value for key, value in tables.get("gate", {}).items() if key in SWITCHES}
    return {**tables, "data": {"dataset": dataset, **own["data"]}, "gate": {**kept, **own["gate"]}}
