"""What lies at a path: pictures in folders, or tables; files that belong to neither are refused by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from models.adapt import encoding
from models.adapt.problem import AdaptError, nearest, some
from models.tablefiles import SUFFIXES

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
# What people leave beside data; no table and no picture.
BESIDE = frozenset({"license", "licence", "readme", "notice", "copying", "changelog", "thumbs.db", "desktop.ini"})
BESIDE_SUFFIXES = frozenset({".md", ".rst", ".json", ".xml", ".yaml", ".yml", ".toml", ".names", ".py", ".ipynb"})
LISTS = frozenset({".csv", ".tsv", ".txt"})
MOST_CLASSES = 1000


@dataclass
class Found:
    """`pictures` below `root` at any depth, or `tables`; `lists` are text tables and `documents` JSON at its top.

    `renamed` are pictures whose name does not end as a picture's does; nothing here opens them.
    """

    root: Path
    pictures: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    documents: list[Path] = field(default_factory=list)
    renamed: list[Path] = field(default_factory=list)


def find(path: Path) -> Found:
    """What lies at `path`. Raises AdaptError when it is nothing that can be learned from, or holds what is foreign."""
    if not path.exists():
        near = nearest(path.name, (other.name for other in _siblings(path)))
        hint = f"did you mean {path.parent / near}? " if near else ""
        raise AdaptError(f"there is no file or folder {path}", f"{hint}give a folder or a file of yours")
    if path.is_file():
        return _file(path)
    path = _innermost(path)
    _refuse_many(path)
    found = Found(path)
    foreign: list[Path] = []
    for file in sorted(_below(path)):
        top, suffix = file.parent == path, file.suffix.lower()
        if suffix in PICTURES:
            found.pictures.append(file)
        elif is_beside(file):
            if suffix == ".json" and top:
                found.documents.append(file)
        elif suffix in SUFFIXES and top:
            found.tables.append(file)
            found.lists += [file] if suffix in LISTS else []
        elif suffix not in LISTS:
            (found.renamed if _starts_as_picture(file) else foreign).append(file)
    if foreign and (found.pictures or not found.tables):
        _refuse_foreign(path, foreign, bool(found.pictures))
    if found.pictures:
        found.tables = []
    elif not found.tables:
        raise AdaptError(f"{path} holds no picture and no table", f"pictures: {some(sorted(PICTURES))}; tables: "
                         f"{some(sorted(SUFFIXES))}, at the top of the folder")  # fmt: skip
    return found


def is_beside(file: Path) -> bool:
    """Whether a file is a licence, a read-me or the like."""
    return file.suffix.lower() in BESIDE_SUFFIXES or any(
        file.name.lower() == word or file.stem.lower() == word for word in BESIDE
    )


def _starts_as_picture(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(8).startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*"))


def _file(path: Path) -> Found:
    if path.suffix.lower() in PICTURES:
        raise AdaptError(f"{path} is one picture", "give the folder that holds one sub-folder of pictures per class")
    with path.open("rb") as stream:
        parquet = stream.read(4) == b"PAR1"
    if not parquet and path.suffix.lower() != ".parquet":
        encoding.of(path)  # refuses what is no text
    beside = [other for other in _siblings(path) if other.suffix.lower() == ".json" and _spans_named(other)]
    return Found(path, tables=[path], documents=beside)


def _spans_named(path: Path) -> bool:
    return any(word in path.stem.lower() for word in ("window", "interval", "anomal", "span"))


def _siblings(path: Path) -> list[Path]:
    try:
        return sorted(path.parent.iterdir())
    except OSError:
        return []


def _innermost(path: Path) -> Path:
    """The folder itself, or the only folder that it wraps."""
    while True:
        inside = [other for other in path.iterdir() if not other.name.startswith(".")]
        if len(inside) != 1 or not inside[0].is_dir() or not any(other.is_dir() for other in inside[0].iterdir()):
            return path
        path = inside[0]


def _refuse_many(path: Path) -> None:
    count = sum(entry.is_dir(follow_symlinks=False) for entry in os.scandir(path))
    if count > MOST_CLASSES:
        raise AdaptError(
            f"{path} holds {count:,} folders, which would be as many classes; at most {MOST_CLASSES:,} are learned",
            "merge classes into broader ones, or give the folder whose sub-folders are the classes",
        )


def _below(path: Path) -> Iterator[Path]:
    """All files below a folder; hidden ones are what systems leave beside data."""

    def tell(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(path, onerror=tell):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        yield from (Path(folder) / name for name in files if not name.startswith((".", "_")))


def _refuse_foreign(path: Path, foreign: list[Path], pictures: bool) -> None:
    more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
    if pictures:
        raise AdaptError(
            f"{foreign[0]} is no picture{more}", f"move it out of {path}; pictures are {some(sorted(PICTURES), 9)}"
        )
    raise AdaptError(
        f"{foreign[0]} is neither picture nor table{more}",
        f"convert it: pictures are {some(sorted(PICTURES), 9)}; tables {some(sorted(SUFFIXES))}",
    )
