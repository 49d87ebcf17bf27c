"""Says whether a device that holds the claim certificate may join: only a thing that its owner registered, and once.

AWS IoT calls it before it provisions; the event holds `parameters`, which the device sent, and `templateArn`. A claim
certificate lies on every device and so is no secret for long: it brings nothing to whose device is not expected.
Answer: `{"allowProvisioning"}`; the log says why not.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one function instance works with; `group` is the one that every device of the lab is in."""

    group: str
    iot: Any


@cache
def runtime() -> Runtime:
    """The environment, read once per function instance."""
    return Runtime(group=os.environ["CORE_GROUP"], iot=boto3.client("iot"))


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry."""
    refusal = why_not(event, runtime())
    if refusal:
        log.warning("refused: %s", refusal)
    return {"allowProvisioning": refusal is None}


def why_not(event: dict[str, Any], here: Runtime) -> str | None:
    """The reason to refuse, None for a device that is expected."""
    thing = str((event.get("parameters") or {}).get("ThingName") or "")
    if not thing:
        return "the device did not say its ThingName"
    try:
        groups = here.iot.list_thing_groups_for_thing(thingName=thing)["thingGroups"]
        principals = here.iot.list_thing_principals(thingName=thing)["principals"]
    except ClientError as error:
        if error.response["Error"]["Code"] in ("ResourceNotFoundException", "AccessDeniedException"):
            return f"no thing {thing} was registered"
        raise
    if here.group not in [group["groupName"] for group in groups]:
        return f"the thing {thing} is not in the group {here.group}"
    if principals:
        return f"the thing {thing} has a certificate; detach it before another device takes its name"
    return None
