"""The CSV beside pictures that says what they show: a class per picture, or boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models import patches
from models.adapt import guess, sample
from models.adapt.columns import refuse_unknown
from models.adapt.finding import Finding
from models.adapt.problem import AdaptError, some
from models.adapt.sample import Sample
from models.adapt.source import MOST_CLASSES, PICTURES, Found

MOSTLY = 0.8


@dataclass
class Labels:
    """By stem of a picture's file name its class (`words`) or its `boxes`; `name` is the column of file names."""

    path: Path
    name: str
    column: str
    words: dict[str, str] = field(default_factory=dict)
    boxes: dict[str, list[patches.Box]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def find(found: Found, target: str, *, needed: bool) -> Labels | None:
    """The labels of the first text table whose cells name pictures, boxes alone unless `needed`.

    Raises AdaptError for one that cannot be used.
    """
    for path in found.lists:
        table = sample.read([path])
        names = [name for name, cells in table.cells.items() if _mostly(cells, _is_picture)]
        boxed = [name for name, cells in table.cells.items() if _mostly(cells, _is_list)]
        if names and (needed or boxed):
            return _labels(found, table, path, names[0], boxed, target)
    return None


def _labels(found: Found, table: Sample, path: Path, name: str, boxed: Sequence[str], target: str) -> Labels:
    stems = [Path(cell).stem for cell in table.cells[name]]
    here = {picture.stem for picture in found.pictures}
    absent = [stem for stem in stems if stem and stem not in here]
    findings = list(_absent(path, absent, len(stems)))
    if boxed:
        return _boxes(table, path, name, boxed[0], stems, findings)
    column = _column(table, path, name, target)
    words = {stem: cell for stem, cell in zip(stems, table.cells[column], strict=True) if cell}
    unnamed = len(here - words.keys())
    if unnamed:
        findings.append(
            Finding("not labelled", path.name, f"{unnamed} pictures have no label in it; they are left out")
        )
    return Labels(path, name, column, words=words, findings=findings)


def _boxes(table: Sample, path: Path, name: str, column: str, stems: Sequence[str], findings: list[Finding]) -> Labels:
    form = table.form
    if (form.delimiter, form.header) != (",", True) or not form.encoding.startswith("utf-8"):
        raise AdaptError(f"{path} has boxes, but not as CSV in UTF-8 with a header", "save it so, with commas")
    boxes: dict[str, list[patches.Box]] = {}
    for row, (stem, cell) in enumerate(zip(stems, table.cells[column], strict=True)):
        found = patches.parsed(cell)
        if found is None or not stem:
            raise AdaptError(
                f"{table.where(row)}, column '{column}': '{cell[:60]}' is no list of boxes",
                'write [{"top": 10, "left": 20, "height": 30, "width": 40}, …] in pixels, [] for none',
            )
        boxes.setdefault(stem, []).extend(found)
    return Labels(path, name, column, boxes=boxes, findings=findings)


def _absent(path: Path, absent: Sequence[str], rows: int) -> Iterator[Finding]:
    if len(absent) > rows / 2:
        raise AdaptError(
            f"{path} names {len(absent)} of {rows} pictures that are not in the folder, such as '{absent[0]}'",
            "put the pictures that it names into the folder, under the same file names",
        )
    if absent:
        yield Finding("missing files", path.name, f"names {len(absent)} pictures that are not there: {some(absent, 3)}")


def _column(table: Sample, path: Path, name: str, target: str) -> str:
    """The column that holds the classes."""
    if target:
        refuse_unknown(table.cells, target, "target", path)
        return target
    counts = {other: Counter(filter(None, cells)) for other, cells in table.cells.items() if other != name}
    likely = [other for other, found in counts.items() if 2 <= len(found) <= MOST_CLASSES and _repeats(found)]
    named = [other for other in likely if other.lower() in (*guess.SURE_NAMES, *guess.LIKELY_NAMES)]
    if not likely:
        raise AdaptError(f"{path} names pictures but holds no class of them", "name its column: --target COLUMN")
    return (named or sorted(likely, key=lambda other: len(counts[other])))[0]


def _repeats(counts: Counter[str]) -> bool:
    return counts.total() >= 2 * len(counts)


def _mostly(cells: Sequence[str], test: Callable[[str], bool]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and sum(test(cell) for cell in filled) >= MOSTLY * len(filled)


def _is_list(cell: str) -> bool:
    return cell.startswith("[")


def _is_picture(cell: str) -> bool:
    return Path(cell).suffix.lower() in PICTURES
