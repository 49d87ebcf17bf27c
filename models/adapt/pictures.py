"""Folders of pictures from files to a report: classes by folder, by a label file, or patches around marked boxes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from models import datafiles, patches
from models.adapt import labelfile, opened, rows, threshold
from models.adapt.finding import EXCLUDED, NOTE, Finding
from models.adapt.guess import Guess
from models.adapt.labelfile import Labels
from models.adapt.problem import AdaptError, some
from models.adapt.report import Options, Report
from models.adapt.source import Found

Classes = dict[str, list[Path]]
# Names of folders whose pictures nobody has judged.
UNJUDGED = frozenset({"sample", "samples", "unlabelled", "unlabeled", "unknown", "unsorted", "examples", "raw"})
PARTS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})
FEW = 20


def adapt(found: Found, options: Options) -> Report:
    """The report of the pictures in `found`. Raises AdaptError."""
    if options.task not in ("", "classification", "anomaly"):
        raise AdaptError(f"{options.task} is no task of pictures", "--task classification or --task anomaly")
    folders, out, root = _folders(found)
    labels = labelfile.find(found, options.target, needed=len(folders) < 2)
    seen, bad = opened.look(found.pictures)
    findings = [*opened.corrupt(bad, len(seen)), *_renamed(found)]
    if labels is not None and labels.boxes and options.task != "anomaly":
        report = _patches(found, labels, seen)
    elif labels is not None and labels.words:
        classes = _by_label(found, labels)
        report = _classes(found.root, classes, labels, options)
        findings += opened.twins(seen, classes)
    else:
        report = _classes(root, folders, None, options)
        findings += [*_left_out(report, out), *opened.twins(seen, folders)]
    report.findings = [*findings, *report.findings]
    report.drawings["pictures"] = opened.thumbs(report.drawings.pop("classes"), labels, found.root)
    report.drawings["sizes"] = Counter(f"{width} x {height}" for width, height in (one.size for one in seen))
    return report


def _left_out(report: Report, out: Sequence[tuple[str, int]]) -> Iterator[Finding]:
    """Folders that are no class, written to `exclude`."""
    if out:
        report.data["exclude"] = [name for name, _ in out]
    for name, count in out:
        why = "its name says that nobody judged its pictures" if count else "it holds no picture"
        report.guesses.append(Guess("exclude", name, 0.8 if count else 1.0, why, "[data] exclude in lab.toml"))
        yield Finding("no class", name, f"{count} pictures: {why}", EXCLUDED)


def _folders(found: Found) -> tuple[Classes, list[tuple[str, int]], Path]:
    """Pictures by the folder at the top that holds them, folders that are no class, and the root of the classes."""
    root = found.root
    tops = _tops(root, found.pictures)
    if tops and all(name.lower() in PARTS for name in tops):
        # Parts of their own: the training part is split anew, so that one rule holds for every data set.
        name = next((name for name in tops if name.lower().startswith("train")), next(iter(tops)))
        root = root / name
        found.pictures = tops[name]
        tops = _tops(root, found.pictures)
    out = [(name, len(paths)) for name, paths in tops.items() if name.lower() in UNJUDGED]
    empty = [path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))]
    out += [(name, 0) for name in sorted(empty) if name not in tops]
    return {name: paths for name, paths in tops.items() if name.lower() not in UNJUDGED}, out, root


def _tops(root: Path, pictures: Sequence[Path]) -> Classes:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in pictures:
        parts = path.relative_to(root).parts
        if len(parts) > 1:
            found[parts[0]].append(path)
    return dict(found)


def _by_label(found: Found, labels: Labels) -> Classes:
    classes: dict[str, list[Path]] = defaultdict(list)
    for path in found.pictures:
        if word := labels.words.get(path.stem, ""):
            classes[word].append(path)
    return dict(classes)


def _patches(found: Found, labels: Labels, seen: Sequence[opened.Seen]) -> Report:
    """Patches around boxes and beside them: a classifier that has samples of both, where whole pictures have not."""
    boxes = [box for rows_ in labels.boxes.values() for box in rows_]
    side = patches.suggested_side(boxes)
    small = [one for one in seen if min(one.size) < side and one.path.stem in labels.boxes]
    while small and len(small) > len(seen) / 10 and side > 16:
        side -= 8
        small = [one for one in small if min(one.size) < side]
    marked = list({path.stem: path for path in found.pictures if path.stem in labels.boxes}.values())
    if not marked:
        raise AdaptError(f"{labels.path} names no picture that is there", f"its column '{labels.name}' should hold "
                         "file names of the folder")  # fmt: skip
    counts = {"object": len(boxes), "background": sum(max(2, len(labels.boxes[path.stem])) for path in marked)}
    data = _head(found.root, "classification") | {"labels": labels.path.name, "patch": side}
    what = f"{len(found.pictures):,} pictures, {len(boxes):,} boxes in {len(marked):,} of them"
    report = Report(data, threshold.classification(counts), what, len(found.pictures), classes=counts)
    tops = _tops(found.root, found.pictures)
    sizes = some((f"{name} {len(paths)}" for name, paths in tops.items()), 5)
    why = f"'{labels.column}' of {labels.path.name} marks {len(boxes)} places"
    if len(tops) > 1 and min(map(len, tops.values())) < FEW:
        least = min(tops, key=lambda name: len(tops[name]))
        why += f"; by folder ({sizes}) there are {len(tops[least])} '{least}': too few for a classifier of pictures"
    report.guesses = [
        Guess("task", "patches, object or background", 0.8, why, "--task anomaly learns whole pictures"),
        Guess("patch", str(side), 0.8, "holds a box of middle size", "[data] patch in lab.toml"),
        Guess("group", "picture", 0.95, "patches of one picture stay on one side of every split", "none is needed"),
    ]
    report.findings = [*labels.findings, *_outside(labels, seen), *rows.balance(counts)]
    report.findings += rows.size(sum(counts.values()))
    if small:
        said = f"{len(small)} pictures are smaller than a patch of {side} pixels and are left out"
        report.findings.append(Finding("too small", small[0].path.name, said))
    report.drawings = {"classes": {"marked": marked}, "boxes": labels.boxes}
    return report


def _outside(labels: Labels, seen: Sequence[opened.Seen]) -> Iterator[Finding]:
    bad = [
        one.path.name
        for one in seen
        for top, left, height, width in labels.boxes.get(one.path.stem, [])
        if min(top, left) < 0 or height < 1 or width < 1 or left + width > one.size[0] or top + height > one.size[1]
    ]
    if bad:
        yield Finding("boxes", "outside", f"{len(bad)} boxes reach beyond their picture: {some(bad, 3)}")


def _classes(root: Path, classes: Classes, labels: Labels | None, options: Options) -> Report:
    """Whole pictures in classes; anomaly detection when one of two classes is too small for a classifier."""
    _check(root, classes)
    counts = {name: len(paths) for name, paths in sorted(classes.items())}
    least, most = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    lopsided = len(counts) == 2 and counts[least] < FEW and counts[most] >= max(FEW, 3 * counts[least])
    task = options.task or ("anomaly" if lopsided else "classification")
    guess = Guess("task", task, 1.0 if options.task else 0.95, "folders are classes", "--task anomaly")
    findings = list(labels.findings) if labels else []
    if task == "anomaly":
        why = f"{counts[least]} '{least}' beside {counts[most]} '{most}': a classifier cannot learn from so few; " \
            f"what '{most}' pictures look like is learned, and what differs is reported"  # fmt: skip
        guess = Guess("task", task, 1.0 if options.task else 0.85, why, "--task classification")
        findings.append(Finding("wrong tool", "classifier", why, NOTE))
    else:
        findings += rows.balance(counts)
    findings += rows.size(sum(counts.values()))
    data = _head(root, task)
    guesses = [guess]
    if labels:
        data |= {"labels": labels.path.name, "target": labels.column}
        why = f"a column of {labels.path.name} with {len(counts)} values"
        guesses.append(Guess("target", labels.column, 0.95 if options.target else 0.8, why, "--target COLUMN"))
    gate = {"auroc": 0.7} if task == "anomaly" else threshold.classification(counts)
    what = f"{sum(counts.values()):,} pictures in {len(counts)} classes"
    report = Report(data, gate, what, sum(counts.values()), guesses, findings, classes=counts)
    report.drawings = {"classes": classes}
    return report


def _check(root: Path, classes: Classes) -> None:
    if len(classes) < 2:
        what = f"one class, '{next(iter(classes))}'" if classes else "no class"
        raise AdaptError(
            f"{root} has {what}: pictures in sub-folders, one per class, or a CSV of labels, make two or more",
            "put pictures of another class into a folder of their own, also if they are few",
        )
    for name, paths in classes.items():
        if len(paths) < 2:
            raise AdaptError(f"{paths[0]} is the only sample of class '{name}'; each class needs two",
                             "bring more pictures of it, or move the folder out")  # fmt: skip


def _head(root: Path, task: str) -> dict[str, Any]:
    name = datafiles.slug(root.resolve().name)
    return {"dataset": name, "path": str(root), "modality": "image", "task": task}


def _renamed(found: Found) -> Iterator[Finding]:
    if found.renamed:
        name, count = found.renamed[0].name, len(found.renamed)
        said = f"{count} pictures do not end as pictures do and are left out; rename them, to .jpg for example"
        yield Finding("odd names", name, said)
