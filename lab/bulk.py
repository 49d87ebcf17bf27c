"""Takes a folder of files into a bucket with one request: raw data has thousands of objects.

Covers: POST /moto-api/lab/objects {"bucket", "prefix", "folder", "paths"} from the lab's own command line. Each file
    becomes an object through the backend that PutObject ends in, with its version and its event.
Does not cover: metadata, tags, access lists, checks of identity: it is the desk's own door, as `aws s3 sync` would be
    the cloud's, and it opens only for folders below the engine's own `incoming/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import door

if TYPE_CHECKING:
    from lab.engine import Engine


def incoming(root: Path) -> Path:
    """The folder of an engine below which the door opens."""
    return root / "incoming"


def install(engine: Engine) -> None:
    """Adds the door to the server's own routes."""

    def objects(asked: dict[str, Any]) -> dict[str, int]:
        return {"objects": take(engine, asked["bucket"], asked["prefix"], Path(asked["folder"]), asked["paths"])}

    door.serve("objects", objects)


def take(engine: Engine, bucket: str, prefix: str, folder: Path, paths: Sequence[str]) -> int:
    """Puts each of `paths` below `folder` at `prefix` + path; returns how many. Runs in the server."""
    from moto.s3.models import s3_backends

    home = incoming(engine.root).resolve()
    backend = s3_backends[engine.account]["aws"]
    for path in paths:
        source = (folder / path).resolve()
        if not source.is_relative_to(home):
            raise ValueError(f"{source} is not below {home}")
        backend.put_object(bucket, prefix + path, source.read_bytes())
    return len(paths)


def put(engine: Engine, bucket: str, prefix: str, folder: Path, paths: Sequence[str]) -> None:
    """Asks the engine to take the files. Raises LabError with what it said."""
    request = {"bucket": bucket, "prefix": prefix, "folder": str(folder), "paths": list(paths)}
    door.ask(engine, "objects", request)
