"""The gate measures a report or an export against the signed success criteria.

Event: `{"stage": "quality", "run", "bucket", "report_key"}` or `{"stage": "release", "run", "bucket", "export_key"}`.
Answer: `{"passed", "reasons"}`; the same, with the thresholds, stays at `runs/<run>/gate/`. A refusal is an answer, not
an error: the state machine decides what follows from it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3

from models import gate
from pipelines.functions import documents

# Per stage: where the event names the document to judge, and where the decision goes.
STAGES = {"quality": ("report_key", "decision.json"), "release": ("export_key", "release.json")}


class GateError(Exception):
    """The event asks for what the gate does not know."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one function instance works with: `[gate]` and `[targets]` of lab.toml, and its client."""

    thresholds: dict[str, Any]
    targets: dict[str, Any]
    s3: Any


@cache
def runtime() -> Runtime:
    """The environment, read once per function instance."""
    return Runtime(
        thresholds=json.loads(os.environ["GATE"]),
        targets=json.loads(os.environ.get("TARGETS", "{}")),
        s3=boto3.client("s3"),
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry."""
    return judge(event, runtime())


def judge(event: dict[str, Any], here: Runtime) -> dict[str, Any]:
    """Decides one stage and writes the decision down. Raises GateError, DocumentError."""
    stage, bucket, run = event["stage"], event["bucket"], event["run"]
    if stage not in STAGES:
        raise GateError(f"stage '{stage}' is unknown; allowed: {', '.join(STAGES)}")
    key_name, file = STAGES[stage]
    document = documents.read(here.s3, bucket, event[key_name])
    if stage == "quality":
        decision = gate.decide(document, here.thresholds)
    else:
        decision = gate.decide_release(document, here.thresholds, here.targets)
    answer = {"passed": decision.passed, "reasons": list(decision.reasons), "ship": decision.ship}
    record = {"schema": 1, "stage": stage, "run": run, "thresholds": here.thresholds, **answer}
    documents.write(here.s3, bucket, f"runs/{run}/gate/{file}", record)
    return answer
