"""Provisioning templates of AWS IoT: checked when made, kept, read back.

Covers: create, describe, update, delete and list; a body is checked for the types and references that AWS takes.
Does not cover: versions of a template, and joining itself: no MQTT broker listens here, so no claim certificate can
    connect. The hook is a Lambda function, which can be invoked like any other.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.iot.responses import IoTResponse

from lab.engine import Engine

TYPES = {"AWS::IoT::Thing", "AWS::IoT::Certificate", "AWS::IoT::Policy"}
CHANGED = ("description", "enabled", "provisioningRoleArn", "preProvisioningHook")
_TEMPLATES: dict[str, dict[str, Any]] = {}


def install(engine: Engine) -> None:
    """Adds the operations to moto's IoT, which has none of them."""
    _TEMPLATES.clear()

    def create(self: IoTResponse) -> ActionResult:
        given = json.loads(self.body)
        # The name stands in the body of this call alone.
        name = str(given["templateName"])
        if name in _TEMPLATES:
            raise _error("ResourceAlreadyExistsException", f"the provisioning template {name} exists")
        check(str(given.get("templateBody", "")))
        arn = f"arn:aws:iot:{engine.region}:{engine.account}:provisioningtemplate/{name}"
        now = datetime.now(UTC)
        kept = {key: given[key] for key in ("templateBody", *CHANGED) if key in given}
        _TEMPLATES[name] = {
            "templateArn": arn, "templateName": name, "creationDate": now, "lastModifiedDate": now,
            "defaultVersionId": 1, "type": given.get("type", "FLEET_PROVISIONING"), "enabled": False, **kept,
        }  # fmt: skip
        return ActionResult({"templateArn": arn, "templateName": name, "defaultVersionId": 1})

    def describe(self: IoTResponse) -> ActionResult:
        return ActionResult(dict(_found(self)))

    def update(self: IoTResponse) -> ActionResult:
        given = json.loads(self.body)
        found = _found(self)
        found.update({key: given[key] for key in CHANGED if key in given}, lastModifiedDate=datetime.now(UTC))
        if given.get("removePreProvisioningHook"):
            found.pop("preProvisioningHook", None)
        return ActionResult({})

    def delete(self: IoTResponse) -> ActionResult:
        del _TEMPLATES[_found(self)["templateName"]]
        return ActionResult({})

    def list_(self: IoTResponse) -> ActionResult:
        shown = ("templateArn", "templateName", "description", "creationDate", "lastModifiedDate", "enabled", "type")
        rows = [{key: row[key] for key in shown if key in row} for _, row in sorted(_TEMPLATES.items())]
        return ActionResult({"templates": rows})

    IoTResponse.create_provisioning_template = create
    IoTResponse.describe_provisioning_template = describe
    IoTResponse.update_provisioning_template = update
    IoTResponse.delete_provisioning_template = delete
    IoTResponse.list_provisioning_templates = list_


def check(body: str) -> None:
    """Raises InvalidRequestException for a body that AWS would not take."""
    try:
        found = json.loads(body)
        parameters, resources = set(found.get("Parameters") or {}), dict(found["Resources"])
        kinds = {str(row["Type"]) for row in resources.values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _error("InvalidRequestException", f"templateBody is no provisioning template: {error!r}") from error
    if unknown := sorted(kinds - TYPES):
        raise _error("InvalidRequestException", f"templateBody has the type {unknown[0]}; allowed: {sorted(TYPES)}")
    if absent := sorted(TYPES - kinds):
        raise _error("InvalidRequestException", f"templateBody has no {absent[0]}")
    for name in _references(resources):
        if name not in parameters | set(resources):
            raise _error("InvalidRequestException", f"templateBody refers to {name}, which it does not declare")


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [str(value["Ref"])] if set(value) == {"Ref"} else []
        return own + [name for one in value.values() for name in _references(one)]
    return [name for one in value for name in _references(one)] if isinstance(value, list) else []


def _found(response: IoTResponse) -> dict[str, Any]:
    name = response.path.rstrip("/").rpartition("/")[2]
    if name not in _TEMPLATES:
        raise _error("ResourceNotFoundException", f"there is no provisioning template {name}")
    return _TEMPLATES[name]


def _error(code: str, message: str) -> JsonRESTError:
    error = JsonRESTError(code, message)
    error.code = {"ResourceNotFoundException": 404, "ResourceAlreadyExistsException": 409}.get(code, 400)
    return error
