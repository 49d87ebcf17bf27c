"""Runs `python -m models.adapt` in this process, and makes the small data sets that its tests look at."""

import csv
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.adapt import __main__ as command

BEFORE = '# ours\n[data]\ndataset = "digits"\n\n[gate]\naccuracy = 0.9\nmin_agreement = 0.99  # signed\n'


@dataclass(frozen=True)
class Adapted:
    """What one call came to; `toml` is lab.toml after it, `text` the same unread."""

    rc: int
    out: str
    err: str
    text: str

    @property
    def toml(self) -> dict[str, Any]:
        return tomllib.loads(self.text)

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = self.toml["data"]
        return found


class Adapt:
    """Calls adapt with a lab.toml of its own in `folder`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.settings = folder / "lab.toml"
        self.settings.write_text(BEFORE)

    def __call__(self, path: Path, *options: str) -> Adapted:
        self.capsys.readouterr()
        rc = command.main([str(path), "--out", str(self.settings), *options])
        said = self.capsys.readouterr()
        return Adapted(rc, said.out, said.err, self.settings.read_text("utf-8"))

    def refused(self, path: Path, *options: str) -> str:
        """The message of a call that must fail: one line, its remedy on the next, lab.toml untouched, no card."""
        found = self(path, *options)
        assert (found.rc, found.out) == (1, "")
        assert found.text == BEFORE and not (self.folder / "data-card.html").exists()
        lines = found.err.splitlines()
        assert len(lines) == 2 and lines[1].startswith("  try: ") and len(lines[1]) > 12, found.err
        return found.err


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], **form: Any) -> Path:
    """Writes a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=form.pop("encoding", "utf-8"), newline="") as stream:
        writer = csv.writer(stream, **form)
        if header:
            writer.writerow(header)
        writer.writerows(rows)
    return path


def measures(count: int = 60, seed: int = 0) -> list[list[Any]]:
    """Rows of two measures and a class that depends on the first a little."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, 2)).round(4)
    return [[a, b, "good" if a + rng.normal() > 0 else "bad"] for a, b in values.tolist()]


def picture(path: Path, seed: int = 0, side: int = 24) -> Path:
    """Writes a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def folders(root: Path, **counts: int) -> Path:
    """A folder of pictures per class."""
    for place, (name, count) in enumerate(counts.items()):
        for number in range(count):
            picture(root / name / f"{name}-{number:03}.png", place * 1000 + number)
    return root
