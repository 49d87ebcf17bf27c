"""The hard checks that a data set must pass before anything is trained on it.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Below this a class can neither be learned nor measured.
LEAST = {"train": 5, "validation": 1, "test": 2}


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
) -> dict[str, Any]:
    """The data report: `passed`, one row per check with its figures, and what was found.

    `counts` are samples by split and class after everything unusable was taken out; `corrupt`, `duplicates` and
    `conflicts` name some of what their totals count.
    """
    checks = [
        _check("files", total > 0, f"{total} files in the manifest"),
        _check("corrupt", corrupt_total <= corrupt_share * total, _share(corrupt_total, total, corrupt_share)),
        _check("classes", len(classes) >= 2, f"{len(classes)} classes: at least two are needed"),
        _conflicts(conflicts_total, total),
        *(_enough(split, least, classes, counts.get(split, {})) for split, least in LEAST.items()),
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
    }


def _check(name: str, passed: bool, detail: str) -> dict[str, Any]:
    return {"name": name, "passed": bool(passed), "detail": detail}


def _share(found: int, total: int, limit: float) -> str:
    return f"{found} of {total} files cannot be used; at most {limit:.1%} may be so"


def _conflicts(found: int, total: int) -> dict[str, Any]:
    """Equal pictures with different labels: a few are noise and left out, many are a broken labelling."""
    detail = f"{found} contents bear more than one label and are left out; at most 1 % of {total} files may"
    return _check("conflicts", found <= 0.01 * total, detail)


def _enough(split: str, least: int, classes: Sequence[str], counts: Mapping[str, int]) -> dict[str, Any]:
    short = [f"{name} has {counts.get(name, 0)}" for name in classes if counts.get(name, 0) < least]
    detail = f"each class needs {least} in {split}"
    if short:
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        detail += f"; {', '.join(short[:5])}{more}"
    return _check(f"enough-{split}", not short, detail)
