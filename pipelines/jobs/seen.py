"""What a model was asked, as batches of raw tensors: requests that the endpoint captured, samples that devices sent.

Of a device's samples only those taken at random count: it keeps the others because they are unusual, and they would
look like drift on the best of days.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from datetime import date
from typing import Any

from models import features, payload
from models.contract import Contract
from models.drift import Batch
from pipelines.jobs.lake import Lake

CAPTURE = "capture/"
log = logging.getLogger(__name__)


def captured(lake: Lake, contract: Contract, since: date) -> Iterator[Batch]:
    """Each request captured on `since` or later; one that is no sample of this contract is named in the log."""
    for key in lake.keys(CAPTURE):
        # capture/<endpoint>/<variant>/yyyy/mm/dd/hh/<file>.jsonl
        day = "-".join(key.split("/")[3:6])
        if not key.endswith(".jsonl") or day < since.isoformat():
            continue
        for number, line in enumerate(lake.read(key).decode("utf-8").splitlines(), 1):
            try:
                asked = json.loads(line)["captureData"]["endpointInput"]
                yield payload.read(str(asked["observedContentType"]), _body(asked), contract)
            except (payload.BadRequest, ValueError, KeyError, TypeError) as error:
                log.warning("%s, line %d: %s", lake.uri(key), number, error)


def sampled(lake: Lake, contract: Contract, since: date) -> Iterator[Batch]:
    """Each sample that a device took at random on `since` or later."""
    prefix = f"raw/{contract.dataset}-device/"
    keys = list(lake.keys(prefix))
    samples = {
        key.rpartition(".")[0]: key for key in keys if not key.endswith((".json", "/labels.csv", "/labelled.csv"))
    }
    for key in keys:
        stem = key.removesuffix(".json")
        day = key.removeprefix(prefix).split("/")[1:2]
        if not key.endswith(".json") or stem not in samples or day < [since.isoformat()]:
            continue
        try:
            if json.loads(lake.read(key)).get("why") == "random":
                yield features.read(lake.read(samples[stem]), contract)
        except (features.CorruptSample, ValueError, AttributeError) as error:
            log.warning("%s: %s", lake.uri(key), error)


def _body(asked: dict[str, Any]) -> bytes:
    """What was sent: capture keeps text as it is, and the rest in base64."""
    data = str(asked["data"])
    return base64.b64decode(data) if asked["encoding"] == "BASE64" else data.encode()
