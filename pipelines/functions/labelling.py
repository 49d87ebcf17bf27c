"""Gathers the samples that devices sent into a queue that a person labels.

Started by the drift alarm's change of state, or by anyone with `{}`. Devices put a sample and a note beside it below
`raw/<dataset>-device/<thing>/<day>/`; the queue is `raw/<dataset>-device/labels.csv`, one row a sample: file,
predicted, confidence, why, thing, and label, which is blank. What the model was least sure of comes first, nothing
twice, no more than was asked for; what `labelled.csv` names was labelled before. Answer: `{"key", "rows", "left"}`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3

COLUMNS = ("file", "predicted", "confidence", "why", "thing", "label")
QUEUE, DONE = "labels.csv", "labelled.csv"


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one function instance works with; `most` rows make a queue."""

    bucket: str
    dataset: str
    most: int
    s3: Any

    @property
    def prefix(self) -> str:
        """What every key here starts with."""
        return f"raw/{self.dataset}-device/"


@cache
def runtime() -> Runtime:
    """The environment, read once per function instance."""
    return Runtime(
        bucket=os.environ["BUCKET"],
        dataset=os.environ["DATASET"],
        most=int(os.environ["MOST"]),
        s3=boto3.client("s3"),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry."""
    return gather(runtime())


def gather(here: Runtime) -> dict[str, Any]:
    """Writes the queue anew."""
    keys = _keys(here)
    done = _labelled(here) if here.prefix + DONE in keys else set()
    waiting = [note for note in _notes(here, keys) if note["file"] not in done]
    rows = list(queue(here, waiting))
    key = here.prefix + QUEUE
    here.s3.put_object(Bucket=here.bucket, Key=key, Body=text(rows).encode(), ContentType="text/csv")
    return {"key": key, "rows": len(rows), "left": len(waiting) - len(rows)}


def queue(here: Runtime, notes: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows, least sure first; a sample with the same content as one before is left out."""
    seen: set[str] = set()
    for note in sorted(notes, key=_doubt):
        if len(seen) == here.most:
            return
        body = here.s3.get_object(Bucket=here.bucket, Key=here.prefix + note["file"])["Body"].read()
        digest = hashlib.sha256(body).hexdigest()
        if digest not in seen:
            seen.add(digest)
            yield note


def text(rows: Sequence[dict[str, Any]]) -> str:
    """The queue as CSV."""
    written = io.StringIO(newline="")
    out = csv.DictWriter(written, COLUMNS, restval="", extrasaction="ignore")
    out.writeheader()
    out.writerows(rows)
    return written.getvalue()


def _doubt(note: dict[str, Any]) -> tuple[float, str]:
    """A number has no confidence: such samples come as they were taken."""
    confidence = note["confidence"]
    return (confidence if isinstance(confidence, int | float) else 0.0, str(note.get("time")))


def _keys(here: Runtime) -> set[str]:
    pages = here.s3.get_paginator("list_objects_v2").paginate(Bucket=here.bucket, Prefix=here.prefix)
    return {row["Key"] for page in pages for row in page.get("Contents", [])}


def _notes(here: Runtime, keys: set[str]) -> Iterator[dict[str, Any]]:
    """The notes whose samples are there; where a sample may show people, a device sends its note alone."""
    samples = {key.rpartition(".")[0]: key for key in keys if not key.endswith(".json")}
    for key in sorted(keys):
        sample = samples.get(key.removesuffix(".json"))
        if not key.endswith(".json") or sample is None:
            continue
        try:
            found = json.loads(here.s3.get_object(Bucket=here.bucket, Key=key)["Body"].read())
        except ValueError:
            continue
        if isinstance(found, dict):
            predicted = found.get("label") if found.get("label") is not None else found.get("value")
            yield {
                "file": sample.removeprefix(here.prefix),
                "predicted": predicted,
                "confidence": found.get("confidence"),
                "why": found.get("why"),
                # By the key, for a device's role lets it write below its own name alone; the note is a claim.
                "thing": sample.removeprefix(here.prefix).partition("/")[0],
                "time": found.get("time"),
            }


def _labelled(here: Runtime) -> set[str]:
    body = here.s3.get_object(Bucket=here.bucket, Key=here.prefix + DONE)["Body"].read().decode()
    return {row["file"] for row in csv.DictReader(io.StringIO(body))}
