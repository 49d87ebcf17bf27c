"""How much must be installed beside an artefact: its runtime's distributions and all that these require."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@functools.cache
def install_mb(distributions: tuple[str, ...]) -> float:
    """Megabytes of the files of the distributions and their requirements; what is not installed here counts nothing."""
    seen: set[str] = set()
    queue, size = list(distributions), 0
    while queue:
        name = str(canonicalize_name(queue.pop()))
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        paths = [Path(str(found.locate_file(file))) for file in found.files or ()]
        size += sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")
        wanted = [Requirement(text) for text in found.requires or ()]
        queue += [item.name for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})]
    return size / 1e6
