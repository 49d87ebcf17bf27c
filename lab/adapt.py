"""Points the lab at a customer's data: a child of `models` looks at them and writes lab.toml and the data card."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import launch, processes
from lab.errors import DataError
from lab.home import Home

BUCKET = re.compile(r"^s3://([a-z0-9.\-]{3,63})(?:/(.*))?$")
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
MOST_OBJECTS = 20_000
MOST_BYTES = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the caller decided; None and empty leave it to adapt."""

    target: str | None = None
    task: str | None = None
    group: str | None = None
    time: str | None = None
    missing: tuple[str, ...] = ()


def adapt(home: Home, path: str, options: Options, *, named: bool) -> dict[str, Any]:
    """Looks at `path`, writes the settings and the card; what models.adapt found. Raises DataError.

    `named` says that the caller chose the settings file; else it is ./lab.toml, made from the repository's when there
    is none.
    """
    source = downloaded(home, path) if path.startswith("s3://") else os.path.expanduser(path)  # noqa: PTH111 - "./" stays
    out = home.config if named else Path("lab.toml")
    if out.parent.resolve() != Path.cwd():
        source = str(Path(source).resolve())  # the settings may be used from anywhere
    argv = [sys.executable, "-P", "-m", "models.adapt", "--json", "--out", str(out), "--template", str(home.config)]
    argv += ["--card", str(home.root / "data-card.html")]
    for option in ("target", "task", "group", "time"):
        if value := getattr(options, option):
            argv += [f"--{option}={value}"]
    argv += [f"--missing={text}" for text in options.missing]
    done = processes.run([*argv, "--", source], cwd=Path.cwd(), env=launch.environment(home))
    return _answer(done)


def _answer(done: processes.Finished) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(done.out)
    except ValueError:
        said = done.last_lines(1) or [f"python -m models.adapt ended with {done.rc}"]
        raise DataError(said[0], "lab --debug adapt … shows where") from None
    if "error" in document:
        raise DataError(document["error"]["message"], document["error"]["hint"])
    return document


def downloaded(home: Home, uri: str) -> str:
    """The objects below an S3 URI as a folder or file of the lab's own. Raises DataError."""
    match = BUCKET.match(uri)
    if not match:
        raise DataError(f"{uri} is no S3 URI", "write s3://BUCKET/PREFIX")
    profile = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    if not any(os.environ.get(name) for name in CREDENTIALS) and not profile.is_file():
        raise DataError(
            f"{uri} cannot be read: there are no AWS credentials here",
            "set AWS_PROFILE, or copy the data: aws s3 cp --recursive URI FOLDER, then lab adapt FOLDER",
        )
    bucket, prefix = match[1], (match[2] or "").rstrip("/")
    folder = home.root / "downloads" / re.sub(r"[^A-Za-z0-9._-]+", "-", f"{bucket}-{prefix}").strip("-")
    return str(_fetch(bucket, prefix, folder, uri))


def _fetch(bucket: str, prefix: str, folder: Path, uri: str) -> Path:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.client("s3")
        objects = list(_listed(client, bucket, prefix))
        if not objects:
            raise DataError(f"{uri} holds nothing", "list it: aws s3 ls URI")
        size = sum(int(row["Size"]) for row in objects)
        if len(objects) > MOST_OBJECTS or size > MOST_BYTES:
            raise DataError(
                f"{uri} holds {len(objects):,} objects or more, {size / 1e9:.1f} GB; at most {MOST_OBJECTS:,} and "
                f"{MOST_BYTES / 1e9:.0f} GB are fetched",
                "give a narrower prefix: a part of the data tells how to read it all",
            )
        for row in objects:
            name = row["Key"][len(prefix) :].strip("/") or Path(row["Key"]).name
            target = (folder / name).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise DataError(f"the object {row['Key']} leads out of its folder", "rename it")
            if not (target.is_file() and target.stat().st_size == row["Size"]):
                target.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(bucket, row["Key"], str(target))
    except (BotoCoreError, ClientError) as error:
        raise DataError(f"{uri} cannot be read: {error}", "check the name, the region and the permissions") from None
    return target if len(objects) == 1 and objects[0]["Key"] == prefix else folder


def _listed(client: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """The objects that are `prefix` or lie below it as in a folder, one more than are fetched at most."""
    count = 0
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for row in page.get("Contents", []):
            below = not prefix or row["Key"] == prefix or row["Key"].startswith(prefix + "/")
            if below and not row["Key"].endswith("/") and row["Size"] and count <= MOST_OBJECTS:
                count += 1
                yield row
