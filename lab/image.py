"""What lies in a container image of ours before anyone builds it: every file, every package, and what they weigh.

The image is what its Dockerfile says: the files that it copies from the build context, and the pinned packages with all
that they require. Sizes of packages are those of the wheels as installed here; the base image is named, not weighed.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import runtimes
from lab.errors import LabError

MEGABYTE = 1e6


def describe(assembly: Path, name: str) -> dict[str, Any]:
    """The image `name` (serve or job) of a synthesized assembly.

    `image` repository and tag, `base`, `files` and `packages` with their bytes, `bytes` of both together, and `absent`,
    packages that are not installed here and so are not weighed. Raises LabError for an image that is none of ours.
    """
    settings = json.loads((assembly / "lab.json").read_text("utf-8"))
    images = settings["images"]
    if name not in images:
        raise LabError(f"there is no image {name}", f"there are {', '.join(sorted(images))}")
    about = images[name]
    with zipfile.ZipFile(io.BytesIO(_context(assembly, about["tag"]))) as context:
        dockerfile = context.read("Dockerfile").decode("utf-8")
        files = [{"path": path, "bytes": size} for path, size in sorted(_copied(dockerfile, context))]
        pins = context.read("requirements.txt").decode("utf-8").split()
    found, absent = runtimes.distributions(pins)
    packages = [
        {"name": each.metadata["Name"], "version": each.version, "bytes": runtimes.weight(each)}
        for each in sorted(found, key=lambda each: str(each.metadata["Name"]).lower())
    ]
    return {
        "image": f"{about['repository']}:{about['tag']}",
        "base": next(line.split()[1] for line in dockerfile.splitlines() if line.startswith("FROM ")),
        "files": files,
        "packages": packages,
        "absent": absent,
        "bytes": sum(row["bytes"] for row in (*files, *packages)),
    }


def _context(assembly: Path, tag: str) -> bytes:
    """The build context whose hash the tag is."""
    for path in sorted(assembly.glob("asset.*.zip")):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest().startswith(tag):
            return content
    raise LabError(f"no asset in {assembly} is the build context of {tag}", "synthesize it again: lab synth")


def _copied(dockerfile: str, context: zipfile.ZipFile) -> Iterator[tuple[str, int]]:
    """Path in the image and size of each file that COPY brings and no RUN removes again."""
    removed = {word for line in dockerfile.splitlines() if " rm " in line for word in shlex.split(line)}
    for line in dockerfile.splitlines():
        words = line.split()
        if words[:1] != ["COPY"]:
            continue
        source, target = words[1].rstrip("/"), words[2]
        for entry in context.infolist():
            if entry.filename == source or entry.filename.startswith(source + "/"):
                path = target + entry.filename[len(source) :]
                if path not in removed:
                    yield path, entry.file_size


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The same for people: files, packages, and the sum."""
    yield f"{found['image']}  on {found['base']}"
    yield from (f"{row['bytes'] / MEGABYTE:9.3f} MB  {row['path']}" for row in found["files"])
    yield from (f"{row['bytes'] / MEGABYTE:9.3f} MB  {row['name']} {row['version']}" for row in found["packages"])
    yield f"{found['bytes'] / MEGABYTE:9.3f} MB  in {len(found['files'])} files and {len(found['packages'])} packages"
    if found["absent"]:
        yield f"not installed here, so not weighed: {', '.join(found['absent'])}"
