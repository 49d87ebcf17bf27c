"""Moves a job's files between S3 and its folder, packs them, and places /opt/ml."""

from __future__ import annotations

import re
import shutil
import tarfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lab import identity
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.engine import Engine

PARALLEL = 8
CHUNK = 1 << 20
# Written last, so that whoever waits for one of them finds all the others.
LAST = ("_SUCCESS", "manifest.json", "_manifest.json")
_HTTPS = re.compile(r"https://s3[.-][^/]+/([^/]+)/(.*)")
_VIRTUAL = re.compile(r"https://([^/]+)\.s3[.-][^/]+/(.*)")


class FilesError(LabError):
    """An object that a job names is not there, or an archive is not what it should be."""


@dataclass(frozen=True)
class Place:
    """A bucket and a key or prefix in it."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Place:
        """From `s3://bucket/key`, `https://s3.<region>…/bucket/key` or `https://bucket.s3.<region>…/key`."""
        if uri.startswith("s3://"):
            bucket, _, key = uri[5:].partition("/")
            if bucket:
                return cls(bucket, key)
        found = _HTTPS.fullmatch(uri) or _VIRTUAL.fullmatch(uri)
        if not found:
            raise FilesError(f"{uri!r} is no S3 URI", "write s3://bucket/key")
        return cls(found[1], found[2])

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def below(self, name: str) -> Place:
        return Place(self.bucket, f"{self.key.rstrip('/')}/{name}" if self.key else name)


class Files:
    """S3 as a job's role sees it."""

    def __init__(self, engine: Engine, session: identity.Session) -> None:
        from botocore.config import Config

        from lab.engine import session as session_of

        config = Config(
            s3={"addressing_style": "path"}, proxies={}, max_pool_connections=PARALLEL * 2, retries={"max_attempts": 2}
        )
        made = session_of(engine.region, session.access_key, session.secret_key, session.token)
        self.s3: Any = made.client("s3", endpoint_url=engine.endpoint, config=config)

    def objects(self, place: Place) -> Iterator[tuple[str, str]]:
        """(key, path below the target) of each object that `place` names: itself, or all below the prefix."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.key)
        try:
            for page in pages:
                for found in page.get("Contents", []):
                    key = found["Key"]
                    if not key.endswith("/"):
                        yield key, _relative(key, place.key)
        except ClientError as error:
            raise FilesError(f"{place}: {error}") from error

    def download(self, place: Place, target: Path, *, optional: bool = False, share: tuple[int, int] = (0, 1)) -> int:
        """Brings what `place` names into folder `target`; how many objects. FilesError when there is none.

        `share` (i, n) takes every n-th object from the i-th on, so that n of them share all.
        """
        found = list(self.objects(place))
        if not found and not optional:
            raise FilesError(
                f"No S3 objects found under S3 URL {str(place)!r} given in input data source. Please ensure that the "
                "bucket exists, that objects exist under that S3 prefix, and that the role may list it."
            )
        found = found[share[0] :: share[1]]
        root = target.resolve()

        def fetch(item: tuple[str, str]) -> None:
            path = (root / item[1]).resolve()
            if not path.is_relative_to(root):
                raise FilesError(f"s3://{place.bucket}/{item[0]} would be written outside its folder")
            self.get(Place(place.bucket, item[0]), path)

        target.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(fetch, found))
        return len(found)

    def get(self, place: Place, path: Path) -> None:
        """One object as one file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f".{uuid.uuid4().hex}.half")
        # Not download_file: its transfer threads cost more than most of these objects.
        body = self.s3.get_object(Bucket=place.bucket, Key=place.key)["Body"]
        with half.open("wb") as out:
            shutil.copyfileobj(body, out, CHUNK)
        half.replace(path)

    def fetch(self, place: Place, folder: Path) -> Path:
        """The one object that `place` names, in `folder` under its own last name, without a look at the bucket's list.

        Raises FilesError.
        """
        path = folder / place.key.rpartition("/")[2]
        try:
            self.get(place, path)
        except ClientError as error:
            raise FilesError(f"{place} cannot be read: {error.response['Error']['Message']}") from error
        return path

    def upload(self, folder: Path, place: Place) -> int:
        """Puts every file below `folder` under `place`, those that declare the rest complete last; how many."""
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
        last = [path for path in files if path.name in LAST]

        def put(path: Path) -> None:
            self.put(path, place.below(path.relative_to(folder).as_posix()))

        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(put, [path for path in files if path.name not in LAST]))
        for path in last:
            put(path)
        return len(files)

    def put(self, path: Path, place: Place) -> None:
        """One file as one object: a reader sees the old one or the new one, whole."""
        with path.open("rb") as body:
            self.s3.put_object(Bucket=place.bucket, Key=place.key, Body=body)


def _relative(key: str, prefix: str) -> str:
    if key == prefix:
        return key.rpartition("/")[2]
    if prefix.endswith("/") or not prefix or key.startswith(prefix + "/"):
        return key[len(prefix) :].lstrip("/")
    # A prefix that ends within a name, `part-` of `part-0`: names stay whole.
    return key[len(prefix.rpartition("/")[0]) :].lstrip("/")


def pack(folder: Path, archive: Path) -> None:
    """Writes folder's content as a gzip tar, paths relative to it."""
    half = archive.with_name(f".{archive.name}.half")
    with tarfile.open(half, "w:gz", compresslevel=1) as out:
        for path in sorted(folder.iterdir()):
            out.add(path, arcname=path.name)
    half.replace(archive)


def unpack(archive: Path, target: Path) -> None:
    """Unpacks a gzip tar; FilesError for one that is broken or names a path outside `target`."""
    target.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r:gz") as packed:
            packed.extractall(target, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise FilesError(f"{archive.name} cannot be unpacked: {error}") from error


def place_of_ml(text: str, ml: Path) -> str:
    """`text` with every /opt/ml in it replaced by the job's own folder, which stands for it on the desk."""
    return re.sub(r"/opt/ml(?![\w-])", lambda _: str(ml), text)


def rewritten(values: Iterable[str], ml: Path) -> list[str]:
    return [place_of_ml(value, ml) for value in values]


def rewritten_environment(values: Mapping[str, str], ml: Path) -> dict[str, str]:
    return {name: place_of_ml(str(value), ml) for name, value in values.items()}


def rewrite_scripts(folder: Path, ml: Path) -> None:
    """Replaces /opt/ml in the scripts below `folder`: for those that a vendor's SDK sends with the path in them."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".py", ".sh", ".json"):
            old = path.read_text(encoding="utf-8")
            new = place_of_ml(old, ml)
            if new != old:
                path.write_text(new, encoding="utf-8")
