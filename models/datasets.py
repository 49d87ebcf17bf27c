"""Data sets as folders of pictures with a manifest: built-in ones, or a folder of yours.

    python -m models.datasets NAME_OR_FOLDER --out DIR [--count N] [--pixels N] [--seed N]
    python -m models.datasets --list

Writes DIR/<label>/<file> and, last, DIR/_manifest.json. The last line of output is the manifest's head as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models import defects

MANIFEST = "_manifest.json"
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
LEAST_PIXELS = 8
BUILT_IN = {
    "digits": "1,797 handwritten digits, the real scans of scikit-learn (UCI Optical Recognition, 8x8)",
    "surface-defects": "metal surfaces with scratches, dents and stains, rendered, any size and count",
}


class DatasetError(Exception):
    """A data set that cannot be written; the message says what and what to try."""


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
        found = write(args.name, Path(args.out), count=args.count, pixels=args.pixels, seed=args.seed)
    except (DatasetError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    head = {key: found[key] for key in ("dataset", "digest", "modality", "task", "classes")}
    _say(json.dumps({**head, "files": len(found["files"])}))
    return 0


def write(
    name: str, out: Path, *, count: int | None = None, pixels: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Writes data set `name` (a built-in or a folder) to `out`, its manifest last; returns the manifest."""
    if out.is_dir() and any(out.iterdir()):
        found = "a data set" if (out / MANIFEST).exists() else "files"
        raise DatasetError(f"{out} holds {found} already; give an empty folder")
    if (count is not None and count < 1) or (pixels and pixels < LEAST_PIXELS):
        raise DatasetError(f"count is {count} and pixels {pixels}; they start at 1 and {LEAST_PIXELS}")
    if name == "digits":
        dataset, samples = name, _digits(count)
    elif name == "surface-defects":
        dataset, samples = name, defects.samples(count or 800, pixels or 48, seed)
    else:
        return _copy_of(Path(name), out)
    for path, picture in samples:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(out / path, "PNG")
    return manifest(out, dataset, source=BUILT_IN[dataset])


def manifest(folder: Path, dataset: str, source: str) -> dict[str, Any]:
    """Writes the manifest of `folder`, one sub-folder per class, and returns it."""
    files = []
    for path in _pictures(folder):
        data = path.read_bytes()
        relative = path.relative_to(folder)
        row = {"path": relative.as_posix(), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        files.append({**row, "label": relative.parts[0]})
    lines = "".join(sorted(f"{row['path']} {row['sha256']} {row['label']}\n" for row in files))
    document = {
        "schema": 1,
        "dataset": dataset,
        "modality": "image",
        "task": "classification",
        "source": source,
        "classes": sorted({str(row["label"]) for row in files}),
        "pixels": _side(folder, files),
        "files": files,
        "digest": hashlib.sha256(lines.encode()).hexdigest(),
    }
    scratch = folder / ".manifest.json"
    scratch.write_text(json.dumps(document) + "\n", "utf-8")
    scratch.replace(folder / MANIFEST)
    return document


def _side(folder: Path, files: Sequence[dict[str, Any]]) -> int:
    """The side that suits the pictures: the middle one's longer side, in steps of 8, from 8 to 64."""
    sides = []
    for row in files[:: max(1, len(files) // 64)]:
        try:
            with Image.open(folder / row["path"]) as picture:
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


def _copy_of(source: Path, out: Path) -> dict[str, Any]:
    """A customer's folder: its pictures as they are, corrupt ones too, which the ETL reports by name."""
    if not source.exists():
        raise DatasetError(f"there is no data set or folder '{source}'; built in are {', '.join(BUILT_IN)}")
    if not source.is_dir():
        raise DatasetError(f"{source} is a file; a folder with one sub-folder per class is needed")
    if out.resolve().is_relative_to(source.resolve()):
        raise DatasetError(f"{out} lies in {source}, whose data it would become part of; give a folder elsewhere")
    classes = sorted(path.name for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
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
    return manifest(out, _slug(source.resolve().name), source=source.name)


def _pictures(folder: Path) -> Iterator[Path]:
    """Pictures by their suffix, at any depth; hidden files are what systems leave beside pictures (`._scan.png`)."""
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES and path.is_file())
    return (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _slug(name: str) -> str:
    """A name that prefixes and job names can hold."""
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    return "-".join(filter(None, kept.split("-"))) or "images"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.datasets", description="Writes a data set as a folder.")
    parser.add_argument("name", nargs="?", help=f"{', '.join(BUILT_IN)}, or a folder with one sub-folder per class")
    parser.add_argument("--out", help="the folder to write")
    parser.add_argument("--count", type=int, help="at most (digits) or exactly (rendered) so many pictures")
    parser.add_argument("--pixels", type=int, help="side of a rendered picture; 0 for its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="the built-in data sets as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
