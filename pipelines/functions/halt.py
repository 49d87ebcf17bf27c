"""Deletes the endpoint: the month's budget is spent, or the day is over; nothing else goes on costing by itself.

Started by the topic that the budget calls, or by a schedule; what the event says does not matter. Answer:
`{"endpoint", "deleted"}`. Model and endpoint configuration stay, and a release brings the endpoint back.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

# What an endpoint can be in while DeleteEndpoint is refused, and passes on its own.
IN_BETWEEN = {"Creating", "Updating", "SystemUpdating", "RollingBack"}


class EndpointBusy(Exception):
    """The endpoint is on its way from one state to another; Lambda calls again, after one minute and after two."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one function instance works with."""

    endpoint: str
    sagemaker: Any


@cache
def runtime() -> Runtime:
    """The environment, read once per function instance."""
    return Runtime(endpoint=os.environ["ENDPOINT_NAME"], sagemaker=boto3.client("sagemaker"))


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry."""
    return halt(runtime())


def halt(here: Runtime) -> dict[str, Any]:
    """Deletes the endpoint unless there is none. Raises EndpointBusy."""
    try:
        status = here.sagemaker.describe_endpoint(EndpointName=here.endpoint)["EndpointStatus"]
        if status in IN_BETWEEN:
            raise EndpointBusy(f"endpoint {here.endpoint} is {status} and cannot be deleted yet")
        if status != "Deleting":
            here.sagemaker.delete_endpoint(EndpointName=here.endpoint)
    except ClientError as error:
        if "Could not find" in error.response["Error"].get("Message", ""):
            return {"endpoint": here.endpoint, "deleted": False}
        raise
    return {"endpoint": here.endpoint, "deleted": True}
