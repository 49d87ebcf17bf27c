"""Brings a data set to the raw prefix: written by a child of `models`, uploaded."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import bulk, launch, processes
from lab.errors import DataError
from lab.home import Home, read_json

if TYPE_CHECKING:
    from lab.engine import Engine

OPTIONS = ("count", "pixels", "seed")


@dataclass(frozen=True)
class Written:
    """A data set on disk: its folder, its manifest, and one sample to ask the endpoint about."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["dataset"])

    @property
    def metadata(self) -> dict[str, str]:
        """What the manifest object carries as S3 user metadata, so that the flow need not read it."""
        return {key: str(self.manifest[key]) for key in ("digest", "dataset", "modality", "task")}

    def sample(self) -> tuple[str, bytes]:
        """What an endpoint can be asked: a real picture, or rows of the real table; its path and its bytes."""
        path = sample_of(self.manifest)
        return path, (self.folder / path).read_bytes()


def sample_of(manifest: Mapping[str, Any]) -> str:
    """The path of the data set's sample: a file of its own, or its first picture."""
    return str(manifest.get("sample") or manifest["files"][0]["path"])


@dataclass(frozen=True)
class Writing:
    """A data set that a child is writing."""

    dataset: str
    folder: Path
    child: processes.Running

    def finish(self) -> Written:
        """Waits for the whole data set. Raises DataError with the child's own line."""
        done = self.child.wait()
        if done.rc != 0:
            said = done.last_lines(1) or [f"python -m models.datasets ended with {done.rc}"]
            hint = "built-in names: python -m models.datasets --list; or a folder or file of yours: lab adapt PATH"
            raise DataError(said[0], hint)
        manifest = read_json(self.folder / "_manifest.json")
        if not manifest.get("files"):
            raise DataError(f"the data set {self.dataset} has no files", "a folder needs one subfolder per class")
        return Written(self.folder, manifest)


def is_path(dataset: str) -> bool:
    """Whether --dataset means a folder or file, not the name of a built-in."""
    return "/" in dataset or "\\" in dataset or dataset in {".", ".."} or Path(dataset).is_dir()


@contextmanager
def writing(home: Home, dataset: str, settings: Mapping[str, Any], root: Path) -> Iterator[Writing]:
    """Starts writing data set `dataset` (a built-in's name or a path) into the engine with this root.

    The files go with the `with`, and so does the child when it still runs.
    """
    incoming = bulk.incoming(root)
    incoming.mkdir(parents=True, exist_ok=True)
    source = str(Path(dataset).resolve()) if is_path(dataset) else dataset
    with tempfile.TemporaryDirectory(dir=incoming) as folder:
        argv = [sys.executable, "-m", "models.datasets", source, "--out", folder, "--settings", json.dumps(settings)]
        for option in OPTIONS:
            if settings.get(option) is not None:
                argv += [f"--{option}", str(settings[option])]
        with processes.Running(argv, cwd=home.repo, env=launch.environment(home)) as child:
            yield Writing(dataset, Path(folder), child)


def upload(engine: Engine, bucket: str, data: Written) -> str:
    """Uploads the raw objects and then the manifest, whose arrival starts the flow; returns the manifest's key.

    Raw data is immutable: when the bucket has this very manifest, its objects are there and only the manifest is
    put again.
    """
    s3 = engine.client("s3")
    prefix = f"raw/{data.name}/"
    key = prefix + "_manifest.json"
    if _digest_there(s3, bucket, key) != data.manifest["digest"]:
        paths = {*(str(row["path"]) for row in data.manifest["files"]), sample_of(data.manifest)}
        bulk.put(engine, bucket, prefix, data.folder, sorted(paths))
    body = json.dumps(data.manifest, sort_keys=True).encode()
    s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", Metadata=data.metadata)
    return key


def fetch_sample(engine: Engine, bucket: str, key: str, folder: Path) -> Written:
    """A data set that is in the bucket already, with one of its files on disk, to ask the endpoint about."""
    s3 = engine.client("s3")
    manifest = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    path = sample_of(manifest)
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(s3.get_object(Bucket=bucket, Key=f"{key.rpartition('/')[0]}/{path}")["Body"].read())
    return Written(folder, manifest)


def _digest_there(s3: Any, bucket: str, key: str) -> str | None:
    """The digest of the manifest that the bucket holds, None when it holds none."""
    from botocore.exceptions import ClientError

    try:
        return str(s3.head_object(Bucket=bucket, Key=key)["Metadata"].get("digest"))
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
