"""Records how a run ended when it did not reach its aim, in words a person can read.

Event: `{"run", "error": {"Error", "Cause"}, "claim"?, "model_package"?}`; the row is found by the claim, or by the run
that stands on the package. Answer: `{"error", "cause", "recorded"}`. A gate that said no leaves REFUSED, all else
FAILED.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3

from pipelines.functions import runs
from pipelines.functions.registry import Registration, RegistryError

REFUSED = "GateRefused"
LONGEST = 2000  # characters of a cause: a row stays readable, and an item is far below its 400 KB
# Where the services keep the sentence that matters, inside the JSON that Step Functions hands on as the cause.
SENTENCES = ("errorMessage", "FailureReason", "ErrorMessage", "StatusMessage")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one function instance works with."""

    table: str
    dynamodb: Any
    sagemaker: Any


@cache
def runtime() -> Runtime:
    """The environment, read once per function instance."""
    return Runtime(table=os.environ["TABLE"], dynamodb=boto3.client("dynamodb"), sagemaker=boto3.client("sagemaker"))


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry."""
    return record(event, runtime())


def record(event: dict[str, Any], here: Runtime) -> dict[str, Any]:
    """Marks the row and says why. Without a row there is nothing to mark, and the answer says so."""
    found = event.get("error") or {}
    error, cause = str(found.get("Error", "Unknown")), sentence(str(found.get("Cause", "")))
    status = "REFUSED" if error == REFUSED else "FAILED"
    return {"error": error, "cause": cause, "recorded": _mark(event, here, status, f"{error}: {cause}")}


def sentence(cause: str) -> str:
    """The part of a cause that a person needs, at most LONGEST characters."""
    try:
        found = json.loads(cause)
    except ValueError:
        return cause[:LONGEST]
    if isinstance(found, list):
        return "; ".join(str(reason) for reason in found)[:LONGEST]
    if isinstance(found, dict):
        for name in SENTENCES:
            if found.get(name):
                return str(found[name])[:LONGEST]
    return cause[:LONGEST]


def _mark(event: dict[str, Any], here: Runtime, status: str, cause: str) -> bool:
    try:
        claim, run = event.get("claim", ""), str(event.get("run", ""))
        if not claim and event.get("model_package"):
            # A release is an execution of its own: the run that made the package stands on the package.
            arn, run = event["model_package"], ""
            maker = Registration.of(here.sagemaker.describe_model_package(ModelPackageName=arn)).run
            claim = runs.claim_of(here.dynamodb, here.table, maker, arn)
        if not claim:
            return False
        runs.mark(here.dynamodb, here.table, claim, status=status, run=run, cause=cause)
    except (runs.RowMissing, RegistryError):
        return False
    return True
