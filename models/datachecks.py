"""The hard checks that a data set must pass before anything is trained on it.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Below this a class can neither be learned nor measured, nor can a number.
LEAST = {"train": 5, "validation": 1, "test": 2}
LEAST_NUMBERS = {"train": 20, "validation": 5, "test": 5}
# More are names or numbers, not classes.
CLASSES = 10_000


def check(
    *,
    classes: Sequence[str],
    counts: Mapping[str, Mapping[str, int]],
    total: int,
    corrupt_total: int,
    corrupt: Sequence[Mapping[str, str]],
    corrupt_share: float,
    duplicates_total: int,
    duplicates: Sequence[Mapping[str, str]],
    conflicts_total: int,
    conflicts: Sequence[Mapping[str, Any]],
    task: str = "classification",
    unit: str = "files",
    span: tuple[float, float] | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The data report: `passed`, one row per check with its figures, and what was found.

    `counts` are samples by split and class (`all` where the answer is a number) after everything unusable was taken
    out; `corrupt`, `duplicates` and `conflicts` name some of what their totals count. `unit` says what they count; of
    rows, equal ones with several labels are what a table has, and no fault. `span` is the least and the largest target
    in training, where the answer is a number; `more` goes into the report as it is.
    """
    answer = [_target(span)] if task in ("regression", "rul") else [_classes(classes)]
    checks = [
        _check("files", total > 0, f"{total} {unit} in the manifest" if unit == "files" else f"{total} {unit}"),
        _check("corrupt", corrupt_total <= corrupt_share * total, _share(corrupt_total, total, corrupt_share, unit)),
        *answer,
        *([_conflicts(conflicts_total, total)] if unit == "files" else []),
        *([_anomalies(counts.get("test", {}))] if task == "anomaly" else []),
        *(_enough(split, task, classes, counts.get(split, {})) for split in LEAST),
    ]
    return {
        "schema": 1,
        "passed": all(row["passed"] for row in checks),
        "checks": checks,
        "counts": {split: dict(by_class) for split, by_class in counts.items()},
        "total": total,
        "corrupt_total": corrupt_total,
        "corrupt": [dict(row) for row in corrupt],
        "duplicates_total": duplicates_total,
        "duplicates": [dict(row) for row in duplicates],
        "conflicts_total": conflicts_total,
        "conflicts": [dict(row) for row in conflicts],
        **(more or {}),
    }


def _check(name: str, passed: bool, detail: str) -> dict[str, Any]:
    return {"name": name, "passed": bool(passed), "detail": detail}


def _share(found: int, total: int, limit: float, unit: str) -> str:
    return f"{found} of {total} {unit} cannot be used; at most {limit:.1%} may be so"


def _classes(classes: Sequence[str]) -> dict[str, Any]:
    if len(classes) > CLASSES:
        detail = (
            f"more than {CLASSES} classes: is the target a number or a name? Try another target, or task regression"
        )
        return _check("classes", False, detail)
    return _check("classes", len(classes) >= 2, f"{len(classes)} classes: at least two are needed")


def _target(span: tuple[float, float] | None) -> dict[str, Any]:
    """A target with one value leaves nothing to learn."""
    if span is None:
        return _check("target", False, "no row of training has a target")
    if span[0] == span[1]:
        return _check("target", False, f"every row of training has the target {span[0]:g}; choose another target")
    return _check("target", True, f"the target goes from {span[0]:g} to {span[1]:g} in training")


def _conflicts(found: int, total: int) -> dict[str, Any]:
    """Equal pictures with different labels: a few are noise and left out, many are a broken labelling."""
    detail = f"{found} contents bear more than one label and are left out; at most 1 % of {total} files may"
    return _check("conflicts", found <= 0.01 * total, detail)


def _anomalies(counts: Mapping[str, int]) -> dict[str, Any]:
    """Not hard: without a label the model watches all the same, but nobody knows how well."""
    found = counts.get("anomaly", 0)
    detail = f"{found} anomalies in test" + ("" if found else ": how well one is found cannot be measured")
    return _check("anomalies", True, detail)


def _enough(split: str, task: str, classes: Sequence[str], counts: Mapping[str, int]) -> dict[str, Any]:
    """Anomaly detection learns what is normal, and may have no label at all."""
    least, needed, what = LEAST[split], list(classes), "each class needs"
    if task in ("regression", "rul"):
        least, needed, what = LEAST_NUMBERS[split], ["all"], "a target that is a number needs"
    elif task == "anomaly":
        needed, what = needed[:1], "what is normal needs"
    short = [f"{name} has {counts.get(name, 0)}" for name in needed if counts.get(name, 0) < least]
    detail = f"{what} {least} in {split}"
    if short:
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        detail += f"; {', '.join(short[:5])}{more}"
    return _check(f"enough-{split}", not short, detail)
