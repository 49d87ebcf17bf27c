"""Data sets as folders with a manifest: built-in ones, or a folder or file of yours.

    python -m models.datasets NAME_OR_PATH --out DIR [--count N] [--pixels N] [--seed N] [--settings JSON]
    python -m models.datasets --list

Writes DIR/<label>/<file> of pictures, DIR/<file> of tables and, last, DIR/_manifest.json. The last line of output is
the manifest's head as JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models import datafiles, defects, labelled, patches, tablefiles, turbofan
from models.datafiles import MANIFEST, DatasetError, slug

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
LEAST_PIXELS = 8
UNITS = 60
# Fewer pictures than this do not show what is normal.
ENOUGH = 20
BUILT_IN = {
    "digits": "1,797 handwritten digits, the real scans of scikit-learn (UCI Optical Recognition, 8x8)",
    "surface-defects": "metal surfaces with scratches, dents and stains, rendered, any size and count",
    "breast-cancer": "569 biopsies, 30 measures each, benign or malignant: scikit-learn's real table (UCI, Wisconsin)",
    "turbofan-like": "engines that run until they fail, ten sensors each, rendered, any number of units",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; a data set that cannot be written is one line on stderr and exit 1."""
    args = _arguments(argv)
    if args.list:
        _say(json.dumps(BUILT_IN))
        return 0
    if not args.name or not args.out:
        sys.stderr.write("models.datasets: a data set and --out are needed\n")
        return 2
    try:
        settings = {**json.loads(args.settings), "seed": args.seed}
        out = Path(args.out)
        found = write(args.name, out, count=args.count, pixels=args.pixels, seed=args.seed, settings=settings)
    except (DatasetError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    head = {key: found[key] for key in ("dataset", "digest", "modality", "task", "classes")}
    _say(json.dumps({**head, "files": len(found["files"])}))
    return 0


def write(
    name: str,
    out: Path,
    *,
    count: int | None = None,
    pixels: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes data set `name` (a built-in, a folder, a file) to `out`, its manifest last; returns the manifest.

    `settings` is the `[data]` table that a folder or file is read by; without one, a folder has one sub-folder of
    pictures per class.
    """
    if out.is_dir() and any(out.iterdir()):
        found = "a data set" if (out / MANIFEST).exists() else "files"
        raise DatasetError(f"{out} holds {found} already; give an empty folder")
    if (count is not None and count < 1) or (pixels and pixels < LEAST_PIXELS):
        raise DatasetError(f"count is {count} and pixels {pixels}; they start at 1 and {LEAST_PIXELS}")
    if name == "digits":
        return _rendered(out, name, _digits(count))
    if name == "surface-defects":
        return _rendered(out, name, defects.samples(count or 800, pixels or 48, seed))
    if name in ("breast-cancer", "turbofan-like"):
        return _table(out, name, count, seed, settings or {})
    return _of_theirs(Path(name), out, settings or {})


def _rendered(out: Path, name: str, samples: Iterator[tuple[str, npt.NDArray[np.uint8]]]) -> dict[str, Any]:
    for path, picture in samples:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(out / path, "PNG")
    return manifest(out, name, source=BUILT_IN[name])


def _table(out: Path, name: str, count: int | None, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A built-in table; its `[data]` table comes with it (infra/builtin.py), as one of the customer's would."""
    if name == "breast-cancer":
        header, lines = _biopsies(count)
    else:
        header, lines = list(turbofan.COLUMNS), turbofan.rows(count or UNITS, seed)
    out.mkdir(parents=True, exist_ok=True)
    source = out / f"{name}.csv"
    with source.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header])
        csv.writer(stream).writerows(lines)
    default = {"modality": "tabular", "task": "classification", "target": "diagnosis"}
    series = {"modality": "timeseries", "task": "rul", "group": "unit", "time": "cycle"}
    return tablefiles.described(source, out, name, {**(default if name == "breast-cancer" else series), **settings})


def _biopsies(count: int | None) -> tuple[list[str], Iterator[list[str]]]:
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    header = [str(name).replace(" ", "_") for name in found.feature_names]
    values = zip(found.data[:count], found.target[:count], strict=True)
    lines = ([*(f"{value:.6g}" for value in row), str(found.target_names[label])] for row, label in values)
    return [*header, "diagnosis"], lines


def manifest(folder: Path, dataset: str, source: str, task: str = "classification") -> dict[str, Any]:
    """Writes the manifest of `folder`, one sub-folder of pictures per class, and returns it."""
    found = [path.relative_to(folder) for path in _pictures(folder)]
    classes = sorted({path.parts[0] for path in found})
    head = {"dataset": dataset, "modality": "image", "task": task, "source": source, "classes": classes}
    if task == "anomaly":
        head["normal"] = _normal([path.parts[0] for path in found])
    pixels = _side([folder / path for path in found])
    return datafiles.save(folder, {**head, "pixels": pixels}, [(path.as_posix(), path.parts[0]) for path in found])


def _normal(labels: Sequence[str]) -> str:
    """The class that a detector learns: the one that is called good where it has enough pictures, else the largest."""
    counts = Counter(labels)
    good = [name for name in counts if name.lower() in patches.GOOD and counts[name] >= ENOUGH]
    return good[0] if good else max(sorted(counts), key=counts.__getitem__)


def _side(files: Sequence[Path]) -> int:
    """The side that suits the pictures: the middle one's longer side, in steps of 8, from 8 to 64."""
    sides = []
    for path in files[:: max(1, len(files) // 64)]:
        try:
            with Image.open(path) as picture:
                sides.append(max(picture.size))
        except (OSError, ValueError, SyntaxError):
            continue  # the ETL reports it, by name
    middle = sorted(sides)[len(sides) // 2] if sides else 64
    return min(64, max(8, -(-middle // 8) * 8))


def _digits(count: int | None) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    from sklearn.datasets import load_digits

    found = load_digits()
    for index, (scan, label) in enumerate(zip(found.images[:count], found.target[:count], strict=True)):
        # Scans count ink from 0 to 16.
        yield f"{label}/{index:05}.png", np.round(scan * 255 / 16).astype(np.uint8)


def _of_theirs(source: Path, out: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A customer's data, its files as they are, corrupt ones too, which the ETL reports by name."""
    if not source.exists():
        raise DatasetError(f"there is no data set, folder or file '{source}'; built in are {', '.join(BUILT_IN)}")
    if out.resolve().is_relative_to(source.resolve()):
        raise DatasetError(f"{out} lies in {source}, whose data it would become part of; give a folder elsewhere")
    name = str(settings.get("dataset") or slug(source.resolve().stem))
    if settings.get("modality", "image") != "image":
        return tablefiles.write(source, out, name, settings)
    if not source.is_dir():
        raise DatasetError(f"{source} is a file, and lab.toml does not say how to read it; try: lab adapt {source}")
    if settings.get("labels") and settings.get("target"):
        labelled.copy(source, out, list(_pictures(source)), settings)
        return manifest(out, name, source.name, str(settings.get("task") or "classification"))
    if settings.get("labels"):
        return patches.write(source, out, name, list(_pictures(source)), settings)
    return _copy_of(source, out, name, settings)


def _copy_of(source: Path, out: Path, dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    excluded = set(settings.get("exclude") or [])
    classes = sorted(path.name for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    classes = [name for name in classes if name not in excluded]
    if len(classes) < 2:
        found = f"has one sub-folder, {classes[0]}" if classes else "has no sub-folder"
        raise DatasetError(f"{source} {found}; one sub-folder per class is needed, and two classes at least")
    for name in classes:
        pictures = list(_pictures(source / name))
        if not pictures:
            raise DatasetError(f"{source / name} holds no picture ({', '.join(sorted(PICTURES))})")
        for path in pictures:
            target = out / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return manifest(out, dataset, source.name, str(settings.get("task") or "classification"))


def _pictures(folder: Path) -> Iterator[Path]:
    """Pictures by their suffix, at any depth; hidden files are what systems leave beside pictures (`._scan.png`)."""
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES and path.is_file())
    return (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.datasets", description="Writes a data set as a folder.")
    parser.add_argument("name", nargs="?", help=f"{', '.join(BUILT_IN)}, or a folder or file of yours")
    parser.add_argument("--out", help="the folder to write")
    parser.add_argument("--count", type=int, help="at most (digits) or exactly (rendered) so many pictures")
    parser.add_argument("--pixels", type=int, help="side of a rendered picture; 0 for its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", default="{}", help="the [data] table that says how to read a folder, as JSON")
    parser.add_argument("--list", action="store_true", help="the built-in data sets as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
