"""Cuts patches from pictures whose defects are marked by boxes: around each box, and where there is none.

The label file is a CSV: one column names a picture, one holds its boxes as a list of objects with `top`, `left`,
`height`, `width` in pixels. Patches of one picture share the head of their file name, so that no split parts them.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models import datafiles
from models.datafiles import DatasetError

# Folders whose pictures have nothing to mark.
GOOD = frozenset({"good", "ok", "normal", "pass"})
CLASSES = ("background", "object")
SEPARATOR = "__"  # between a picture's name and its patch's place
TRIES = 50
# A patch of background may touch this share of a box: marks are drawn generously.
TOUCH = 0.05

Box = tuple[int, int, int, int]  # top, left, height, width


def write(
    source: Path, out: Path, dataset: str, pictures: Sequence[Path], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Cuts the patches of `pictures` below `source` to `out`, and returns the manifest that it wrote."""
    boxes = read(source / str(settings["labels"]))
    side = int(settings.get("patch") or 0) or suggested_side([box for found in boxes.values() for box in found])
    rng = np.random.default_rng(int(settings.get("seed") or 17))
    files: list[tuple[str, str]] = []
    for path in pictures:
        marked = boxes.get(path.stem, [] if path.parent.name.lower() in GOOD else None)
        if marked is None:
            continue  # not looked at by those who marked: it may be anything
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB") if opened.mode not in ("L", "RGB") else opened.copy()
        except (OSError, ValueError, SyntaxError):
            continue
        for label, (top, left) in _places(image.size, marked, side, rng):
            name = f"{label}/{path.stem}{SEPARATOR}{top}-{left}.png"
            (out / label).mkdir(parents=True, exist_ok=True)
            image.crop((left, top, left + side, top + side)).save(out / name)
            files.append((name, label))
    if len({label for _, label in files}) < 2:
        raise DatasetError(
            f"{settings['labels']} marks too little: no two classes of patches could be cut from {source}"
        )
    head = {
        "dataset": dataset, "modality": "image", "task": "classification", "source": source.name,
        "classes": sorted(CLASSES), "pixels": min(64, max(8, -(-side // 8) * 8)), "grouped": True,
    }  # fmt: skip
    return datafiles.save(out, head, sorted(set(files)))


def read(path: Path) -> dict[str, list[Box]]:
    """Boxes by the stem of the picture's file name. Raises DatasetError, with the line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    found: dict[str, list[Box]] = {}
    for line, row in enumerate(rows, 2):
        stem = next((Path(str(cell)).stem for cell in row.values() if _is_picture(str(cell))), None)
        boxes = next((boxes for cell in row.values() if (boxes := parsed(str(cell))) is not None), None)
        if stem is None or boxes is None:
            raise DatasetError(
                f"{path.name}, line {line}: one cell names a picture and one holds its boxes; found neither"
            )
        found.setdefault(stem, []).extend(boxes)
    return found


def parsed(cell: str) -> list[Box] | None:
    """The boxes of a cell, None when it is none of a list of boxes."""
    if not cell.lstrip().startswith("["):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            rows = parse(cell)
            return [(int(row["top"]), int(row["left"]), int(row["height"]), int(row["width"])) for row in rows]
        except (ValueError, SyntaxError, TypeError, KeyError):
            continue
    return None


def suggested_side(boxes: Sequence[Box]) -> int:
    """A patch that holds a middle-sized box, in steps of 8."""
    longer = sorted(max(height, width) for _, _, height, width in boxes)
    return -(-longer[len(longer) // 2] // 8) * 8 if longer else 64


def _is_picture(cell: str) -> bool:
    return Path(cell).suffix.lower() in {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"}


def _places(
    size: tuple[int, int], boxes: Sequence[Box], side: int, rng: np.random.Generator
) -> Iterator[tuple[str, tuple[int, int]]]:
    """(class, (top, left)) of each patch: one around each box, as many elsewhere, two where there is no box."""
    width, height = size
    if width < side or height < side:
        return
    for top, left, tall, wide in boxes:
        yield "object", (_within(top + tall // 2, side, height), _within(left + wide // 2, side, width))
    for _ in range(max(2, len(boxes))):
        for _ in range(TRIES):
            place = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
            if all(_overlap(place, side, box) <= TOUCH for box in boxes):
                yield "background", place
                break


def _within(middle: int, side: int, length: int) -> int:
    return max(0, min(length - side, middle - side // 2))


def _overlap(place: tuple[int, int], side: int, box: Box) -> float:
    """The share of `box` that a patch covers."""
    top, left, tall, wide = box
    high = min(place[0] + side, top + tall) - max(place[0], top)
    across = min(place[1] + side, left + wide) - max(place[1], left)
    return max(0, high) * max(0, across) / max(1, tall * wide)
