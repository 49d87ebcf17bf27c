"""Lays a prefix of a bucket out as files with one request, for Spark to read.

Covers: POST /moto-api/lab/mirror {"bucket", "key", "folder", "have": {key: etag}} from the process of a Glue job,
    with the access key of its role's session as X-Access-Key: the role must be allowed to list the prefix and read it.
    Objects whose etag differs are written to folder/<bucket>/<key>; the answer is {"objects": {key: etag}}. A key
    names itself, or all below it as a folder.
Does not cover: signatures. It is the desk's own door, as S3's connector is Spark's in AWS, and it opens only for
    folders of Glue jobs below the engine's root.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import access
from lab.wire import Call

if TYPE_CHECKING:
    from lab.engine import Engine

DOOR = "/moto-api/lab/mirror"
Answer = tuple[int, dict[str, str], str]


def install(engine: Engine) -> None:
    """Adds the door to the server's own routes."""
    from moto.moto_api._internal import urls
    from moto.s3.exceptions import MissingBucket

    def door(request: Any, _url: str, _headers: Any) -> Answer:
        try:
            asked = json.loads(request.get_data())
            denied = _denied(engine, request.headers.get("X-Access-Key", ""), asked["bucket"], asked["key"])
            if denied:
                return 403, {}, json.dumps({"error": denied})
            found = lay_out(engine, asked["bucket"], asked["key"], Path(asked["folder"]), asked["have"])
        except MissingBucket:
            return 404, {}, json.dumps({"error": f"the bucket {asked['bucket']} does not exist"})
        except (OSError, ValueError, KeyError, TypeError) as error:
            return 400, {}, json.dumps({"error": f"{type(error).__name__}: {error}"})
        return 200, {}, json.dumps({"objects": found})

    urls.url_paths["{0}" + DOOR + "$"] = door


def _denied(engine: Engine, access_key: str, bucket: str, key: str) -> str | None:
    """Why the caller may not read below a key; the objects' own names stand in for one check of them all."""
    guard = access.guard(engine)
    caller = guard.caller(access_key)
    if caller is None:
        return None
    for operation, given in (
        ("ListObjectsV2", {"Bucket": bucket, "Prefix": key}),
        ("GetObject", {"Bucket": bucket, "Key": key}),
    ):
        denied = guard.refuses(caller, Call("s3", operation, given))
        if denied:
            return denied
    return None


def lay_out(engine: Engine, bucket: str, key: str, folder: Path, have: Mapping[str, str]) -> dict[str, str]:
    """Writes what `key` names below `folder`, except what `have` shows unchanged; every object's etag by its key."""
    home = (engine.root / "jobs" / "glue").resolve()
    if not folder.resolve().is_relative_to(home):
        raise ValueError(f"{folder} is not below {home}")
    target = folder.resolve() / bucket
    found = {}
    for name, stored in _objects(engine, bucket, key):
        path = (target / name).resolve()
        if not path.is_relative_to(target):
            raise ValueError(f"s3://{bucket}/{name} would be written outside the job's folder")
        found[name] = str(stored.etag)
        if have.get(name) != found[name]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stored.value)
    return found


def _objects(engine: Engine, bucket: str, key: str) -> Iterator[tuple[str, Any]]:
    """The present version of each object that `key` names; markers of folders and of deletion are none."""
    from moto.s3.models import FakeKey, s3_backends

    below = key if not key or key.endswith("/") else f"{key}/"
    for name, stored in list(s3_backends[engine.account]["aws"].get_bucket(bucket).keys.items()):
        if isinstance(stored, FakeKey) and not name.endswith("/") and (name == key or name.startswith(below)):
            yield name, stored
