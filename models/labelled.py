"""Pictures whose classes stand in a CSV beside them, as folders, one per class."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.datafiles import DatasetError

DELIMITERS = ",;\t|"


def copy(source: Path, out: Path, pictures: Sequence[Path], settings: Mapping[str, Any]) -> None:
    """Copies each of `pictures` that the label file names to `out`/<class>/; the others are left out.

    `settings` name the file, `labels`, and its column of classes, `target`. Raises DatasetError, with the line.
    """
    classes = read(source / str(settings["labels"]), str(settings["target"]))
    placed: dict[Path, Path] = {}
    for path in pictures:
        label = classes.get(path.stem)
        if label is None:
            continue
        target = out / label / path.name
        if target in placed:
            raise DatasetError(f"{placed[target]} and {path} have one name; the label file cannot tell them apart")
        placed[target] = path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if len({target.parent for target in placed}) < 2:
        raise DatasetError(f"{settings['labels']} gives the pictures of {source} fewer than two classes")


def read(path: Path, column: str) -> dict[str, str]:
    """Classes by the stem of the picture's file name."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            stream.seek(0)
            rows = list(csv.DictReader(stream, delimiter=max(DELIMITERS, key=head.count)))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    found: dict[str, str] = {}
    for line, row in enumerate(rows, 2):
        label = (row.get(column) or "").strip()
        if column not in row:
            raise DatasetError(f"{path.name} has no column '{column}'; there are {', '.join(map(str, row))}")
        stem = next(
            (Path(str(cell)).stem for key, cell in row.items() if key != column and Path(str(cell)).suffix), None
        )
        if stem is None:
            raise DatasetError(f"{path.name}, line {line}: no cell names a picture")
        if "/" in label or label.startswith("."):
            raise DatasetError(f"{path.name}, line {line}: '{label}' cannot name a folder; call the class otherwise")
        if label:
            found[stem] = label
    return found
