"""Pictures opened one by one: which cannot be read, which are copies or look the same, a few to show."""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.adapt.finding import NOTE, Finding
from models.adapt.labelfile import Labels
from models.adapt.problem import AdaptError, some

Thumbs = dict[str, list[dict[str, Any]]]
MOST_OPENED = 3_000
MOST_CORRUPT = 0.01
SIDE = 8
SHOWN = 6
# Larger pictures than this are taken for an attack by Pillow; scans of plates are larger than its own limit.
Image.MAX_IMAGE_PIXELS = 400_000_000


@dataclass
class Seen:
    """One opened picture: its size, mode, content's digest, 8x8 average hash and 16x16 grey values."""

    path: Path
    size: tuple[int, int]
    mode: str
    digest: str
    look: int
    grey: npt.NDArray[np.float64]


def look(paths: Sequence[Path]) -> tuple[list[Seen], list[tuple[Path, str]]]:
    """Opens the pictures, of many an even sample; what cannot be read whole comes back with the reason."""
    step = max(1, -(-len(paths) // MOST_OPENED))
    seen, bad = [], []
    for path in paths[::step]:
        try:
            seen.append(_opened(path))
        except PermissionError:
            raise
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            bad.append((path, "is empty" if path.stat().st_size == 0 else str(error).split(" at 0x")[0]))
    return seen, bad


def _opened(path: Path) -> Seen:
    data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            grey = picture.convert("L")
    cells = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64).reshape(-1)
    bits = cells > cells.mean()
    code = int("".join("1" if bit else "0" for bit in bits), 2)
    tiny = np.asarray(grey.resize((16, 16), Image.Resampling.BOX), np.float64).reshape(-1)
    return Seen(path, picture.size, picture.mode, hashlib.sha256(data).hexdigest(), code, tiny)


def corrupt(bad: Sequence[tuple[Path, str]], good: int) -> Iterator[Finding]:
    """A finding while few are corrupt. Raises AdaptError when more are than a run puts up with."""
    if not bad:
        return
    path, why = bad[0]
    said = f"{len(bad)} of {good + len(bad)} pictures cannot be read"
    if len(bad) > MOST_CORRUPT * (good + len(bad)):
        raise AdaptError(f"{path} cannot be read: {why} ({said})", "copy it again from its source, or move it out")
    yield Finding("corrupt files", path.name, f"{said}: {some((path.name for path, _ in bad), 4)}; left out")


def twins(seen: Sequence[Seen], classes: Mapping[str, Sequence[Path]]) -> Iterator[Finding]:
    """Pictures that are the same file, or look the same: equal average hash and nearly equal grey values."""
    of = {path: name for name, paths in classes.items() for path in paths}
    mine = [one for one in seen if one.path in of]
    same = _groups((one.digest, one) for one in mine)
    copies = sum(len(group) - 1 for group in same)
    if copies:
        pair = f"{same[0][0].path.name} and {same[0][1].path.name}"
        yield Finding("duplicates", "pictures", f"{copies} are copies of another one, such as {pair}")
    odd = [group for group in same if len({of[one.path] for one in group}) > 1]
    if odd:
        names = some((f"{one.path.name} in {of[one.path]}" for one in odd[0]), 3)
        yield Finding("label noise", "pictures", f"{len(odd)} pictures stand in two classes: {names}")
    different = {one.digest: one for one in mine}.values()
    near = [group for group in _groups((one.look, one) for one in different) if _alike(group)]
    if near:
        pair = f"{near[0][0].path.name} and {near[0][1].path.name}"
        count = sum(len(group) - 1 for group in near)
        yield Finding("near-duplicates", "pictures", f"{count} look like another one, such as {pair}", NOTE)


def _groups(keyed: Iterator[tuple[Any, Seen]]) -> list[list[Seen]]:
    found: dict[Any, list[Seen]] = defaultdict(list)
    for key, one in keyed:
        found[key].append(one)
    return [group for group in found.values() if len(group) > 1]


def _alike(group: Sequence[Seen]) -> bool:
    return float(np.abs(group[0].grey - group[1].grey).mean()) < 4.0


def thumbs(classes: Mapping[str, Sequence[Path]], labels: Labels | None, root: Path) -> Thumbs:
    """A few pictures per class as data URIs, with their boxes."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for name, paths in list(classes.items())[:12]:
        for path in list(paths)[:: max(1, len(paths) // SHOWN)][:SHOWN]:
            try:
                with Image.open(path) as picture:
                    width, height = picture.size
                    small = picture.convert("RGB")
                    small.thumbnail((220, 220))
            except (OSError, ValueError, SyntaxError):
                continue
            stream = io.BytesIO()
            small.save(stream, "JPEG", quality=80)
            uri = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
            boxes = labels.boxes.get(path.stem, []) if labels else []
            shown.setdefault(name, []).append(
                {"uri": uri, "name": path.relative_to(root).as_posix(), "size": [width, height], "boxes": boxes}
            )
    return shown
