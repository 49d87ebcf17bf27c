"""A component's artefacts on the device: downloaded with the device's role, their digests checked, ZIPs unpacked."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from lab import identity
from lab.engine import Engine
from lab.lifecycle import Host
from lab.recipe import Artifact, Recipe


class ArtifactError(Exception):
    """An artefact is missing, changed since its component version was made, or no archive."""


def is_absent(artifact: Artifact, host: Host, recipe: Recipe) -> bool:
    """Whether an artefact has yet to be downloaded."""
    return not (host.artifacts(recipe) / artifact.filename).is_file()


def fetch(
    engine: Engine, role_arn: str | None, artifact: Artifact, host: Host, recipe: Recipe, *, spoil: bool = False
) -> None:
    """Puts one artefact in the device's folder, unless it lies there, and unpacks it if the recipe says so.

    `spoil` flips a bit of what is downloaded. Raises ArtifactError.
    """
    path = host.artifacts(recipe) / artifact.filename
    if is_absent(artifact, host, recipe):
        data = _download(engine, role_arn, artifact, host.thing, spoil)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        temporary.write_bytes(data)
        temporary.chmod(0o555 if artifact.executable else 0o444)
        temporary.replace(path)
    folder = host.unarchived(recipe) / artifact.stem
    if artifact.unarchive and not folder.is_dir():
        _unpack(path, folder)


def _download(engine: Engine, role_arn: str | None, artifact: Artifact, thing: str, spoil: bool) -> bytes:
    bucket, _, key = artifact.uri.removeprefix("s3://").partition("/")
    try:
        client = _s3(engine, role_arn, thing)
        client.get_bucket_location(Bucket=bucket)  # a nucleus asks which region to download from
        data: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        raise ArtifactError(f"{artifact.uri} cannot be read: {error}") from error
    if spoil and data:
        data = bytes([data[0] ^ 1]) + data[1:]
    found = base64.b64encode(hashlib.sha256(data).digest()).decode()
    if found != artifact.digest:
        raise ArtifactError(
            f"{artifact.uri} is not what it was when its component version was created: "
            f"SHA-256 {found}, not {artifact.digest}; create a new version"
        )
    return data


def _s3(engine: Engine, role_arn: str | None, thing: str) -> Any:
    if role_arn is None:
        return engine.client("s3")
    from lab.engine import session

    taken = identity.assume(engine, role_arn, thing)
    made = session(engine.region, taken.access_key, taken.secret_key, taken.token)
    return made.client("s3", endpoint_url=engine.endpoint)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks into a folder beside it first, so that a half-unpacked archive is never taken for a whole one."""
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            for item in opened.infolist():
                target = (temporary / item.filename).resolve()
                if not target.is_relative_to(temporary.resolve()):
                    raise ArtifactError(f"{archive.name}: {item.filename!r} leads out of the archive")
                opened.extract(item, temporary)
    except zipfile.BadZipFile as error:
        raise ArtifactError(f"{archive.name} is no ZIP archive: {error}") from error
    for where, _, files in os.walk(temporary):
        for name in files:
            (Path(where) / name).chmod(0o444)
    temporary.replace(folder)
