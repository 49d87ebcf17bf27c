"""The desk core's camera: after a deployment, a few of the lab's own raw samples appear where the component looks.

A device on a line has a camera or sensors; the desk has the data bucket. The component finds pictures, or rows of a
table, in the folder that its configuration calls `source`, and cannot tell them from those of a camera.
"""

from __future__ import annotations

import logging
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from lab.engine import Engine

COUNT = 12
# Pictures, and what a table's data set brings to be asked about.
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", "/_sample.csv")
_log = logging.getLogger(__name__)


def show(engine: Engine, prefix: str, folder: Path) -> int:
    """Puts up to COUNT raw samples, spread over the data set, into `folder`; says how many. No data set, no samples."""
    bucket = f"{prefix}-data-{engine.account}-{engine.region}"
    try:
        keys = _spread(_samples(engine, bucket))
        for key in keys:
            body: bytes = engine.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
            place(folder, "-".join(key.split("/")[-2:]), body)
    except (ClientError, BotoCoreError) as error:
        _log.info("the desk's camera has nothing to show: %s", error)
        return 0
    return len(keys)


def _samples(engine: Engine, bucket: str) -> list[str]:
    pages = engine.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="raw/")
    return [row["Key"] for page in pages for row in page.get("Contents", []) if row["Key"].lower().endswith(ENDINGS)]


def _spread(keys: list[str]) -> list[str]:
    """COUNT keys at equal distances, so that every class of a sorted data set has its turn."""
    return [keys[index * len(keys) // COUNT] for index in range(COUNT)] if len(keys) > COUNT else keys


def place(folder: Path, name: str, body: bytes) -> None:
    """Whole or not at all: the component passes over names that start with a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f".{name}"
    hidden.write_bytes(body)
    hidden.replace(folder / name)
