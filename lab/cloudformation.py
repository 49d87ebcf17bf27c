"""CloudFormation: stacks whose resources are made through their services' own APIs.

Covers: create, update and delete of stacks, change sets, parameters, mappings, conditions, outputs and exports, the
    intrinsic functions of template.py; what was asked for is read back, and a property that did not stick is an error;
    a stack that fails to come up is taken down again; one that cannot be deleted whole is DELETE_FAILED, with an event
    for each resource that stayed, and can be deleted again.
Does not cover: anything that resources.py does not list (refused before the stack is touched), nested stacks, macros,
    custom resources, drift, stack policies, rollback of an update (its error says what stands), and a stack is there at
    once: no CREATE_IN_PROGRESS, and none is left behind by a creation that fails.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from botocore.exceptions import BotoCoreError, ClientError
from moto.cloudformation import models, parsing
from moto.cloudformation.exceptions import ValidationError
from moto.core.common_models import CloudFormationModel

from lab.engine import Engine
from lab.resource import Kind, Made, NotKept, Site, check_kept
from lab.resources import KINDS
from lab.template import needs, order, refusals

LOG = logging.getLogger(__name__)
GONE = re.compile(r"NotFound|NoSuch|NotExist")
FAILURES = (ClientError, BotoCoreError, NotKept, ValueError, KeyError, TypeError, IndexError)


class Resource(CloudFormationModel):  # type: ignore[misc]
    """A resource of a stack, as moto's stacks hold it."""

    engine: ClassVar[Engine]

    def __init__(self, kind: Kind, made: Made) -> None:
        self.kind = kind
        self.made = made
        self.type = self.cf_resource_type = kind.type
        self.logical_resource_id = made.site.logical

    @property
    def physical_resource_id(self) -> str:
        return self.made.id

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "Lab::Desk::Resource"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return True  # template.py has checked every attribute by then

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return self.kind.attributes[attribute_name](self.made)

    def is_created(self) -> bool:
        return True

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **kwargs: Any
    ) -> Resource:
        stack = kwargs["StackId"].split("/")[1]
        site = Site(cls.engine, stack, kwargs["LogicalId"])
        return cls.make(KINDS[kwargs["ResourceType"]], site, _given(cloudformation_json))

    @classmethod
    def make(cls, kind: Kind, site: Site, wanted: Mapping[str, Any]) -> Resource:
        """Creates it and reads it back. Raises ValidationError, with nothing of it left."""
        with _named(kind, site):
            made = Made(site, kind.make(site, wanted), wanted)
            try:
                check_kept(kind, made)
            except Exception:
                with contextlib.suppress(*FAILURES):
                    kind.drop(made)
                raise
        return cls(kind, made)

    def changed(self, wanted: Mapping[str, Any]) -> Resource:
        """In place where the type can, else dropped and made again; a type that holds data is never dropped."""
        kind, site, before = self.kind, self.made.site, self.made.properties
        another = sorted(name for name in kind.fixed if before.get(name) != wanted.get(name))
        with _named(kind, site):
            if kind.change is not None and not another:
                kind.change(self.made, wanted)
                made = Made(site, self.made.id, wanted)
                check_kept(kind, made)
                return Resource(kind, made)
            if kind.keeps:
                what = f"another {', '.join(another)}" if another else "this change"
                raise ValueError(f"it holds data and {what} would replace it; lab down, then lab up, starts afresh")
            kind.drop(self.made)
        return self.make(kind, site, wanted)

    def dropped(self) -> None:
        """Deletes it; one that is gone already counts as deleted, as in AWS."""
        with _named(self.kind, self.made.site):
            try:
                self.kind.drop(self.made)
            except ClientError as error:
                if not GONE.search(str(error.response["Error"].get("Code"))):
                    raise


@contextlib.contextmanager
def _named(kind: Kind, site: Site) -> Any:
    """Failures in the words of a stack event: which resource, of which type, and what the service said."""
    try:
        yield
    except FAILURES as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValidationError(message=f"{site.logical} ({kind.type}): {what}") from error


def _given(resource: Mapping[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = _without_none(resource.get("Properties") or {})
    return properties


def _without_none(value: Any) -> Any:
    """AWS::NoValue takes its key or list item away."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value


def install(engine: Engine) -> None:
    """Puts our table in the place of moto's map of resource models."""
    Resource.engine = engine
    parsing.resource_class_from_type = _class_of
    parsing.resource_name_property_from_type = lambda resource_type: None
    parsing.ResourceMap.create = _create
    parsing.ResourceMap.update = _update
    parsing.ResourceMap.delete = _delete
    models.CloudFormationBackend.delete_stack = _delete_stack
    models.Stack.parse_template = staticmethod(parse)
    models.ChangeSet._parse_template = _parse_change_set
    models.ChangeSet.apply = _apply
    for operation in ("create_stack", "update_stack", "create_change_set", "create_stack_set"):
        _check_first(operation)


def _class_of(resource_type: str) -> type[Resource]:
    if resource_type not in KINDS:
        raise ValidationError(message=f"the type {resource_type} is not covered on the desk")
    return Resource


def parse(template: str | Mapping[str, Any]) -> dict[str, Any]:
    """A template from JSON, else YAML; moto reads JSON through its YAML parser, which takes seconds."""
    if isinstance(template, Mapping):
        return dict(template)
    try:
        parsed: dict[str, Any] = json.loads(template)
    except ValueError:
        parsed = _stock_parse(template)
    return parsed


_stock_parse: Callable[[str], dict[str, Any]] = models.Stack.parse_template


def _parse_change_set(change_set: models.ChangeSet) -> None:
    change_set.template_dict = parse(change_set.template)


def _apply(change_set: models.ChangeSet) -> None:
    """Executes a change set. The stack is in progress meanwhile, has its outputs then, or failed as in AWS."""
    stack, kind = change_set.stack, change_set.change_set_type
    stack.status = f"{kind}_IN_PROGRESS"
    try:
        stack.resource_map.update(change_set.template_dict, change_set.parameters)
    except Exception:
        stack.status = "ROLLBACK_COMPLETE" if kind == "CREATE" else "UPDATE_FAILED"
        raise
    stack.template_dict = change_set.template_dict
    stack.output_map = stack._create_output_map()


def _check_first(operation: str) -> None:
    """No stack operation starts with a template that the desk does not cover whole."""
    stock = getattr(models.CloudFormationBackend, operation)

    def checked(self: models.CloudFormationBackend, *args: Any, **kwargs: Any) -> Any:
        if operation == "create_stack_set":
            raise ValidationError(message="stack sets are not covered on the desk")
        template = kwargs.get("template")
        if template:
            found = refusals(parse(template), KINDS)
            if found:
                raise ValidationError(message="the desk does not cover this template: " + "; ".join(found))
        before = set(self.stacks)
        try:
            return stock(self, *args, **kwargs)
        except Exception:
            for stack in set(self.stacks) - before:
                del self.stacks[stack]
            raise

    setattr(models.CloudFormationBackend, operation, checked)


def _create(self: parsing.ResourceMap, template: dict[str, Any]) -> bool:
    self._template, self._resource_json_map = template, template["Resources"]
    for logical in order(self._resource_json_map):
        try:
            self[logical]
        except Exception:
            _roll_back(self)
            raise
    return True


def _roll_back(self: parsing.ResourceMap) -> None:
    for logical in reversed(order(self._resource_json_map)):
        resource = self._parsed_resources.pop(logical, None)
        if isinstance(resource, Resource):
            try:
                resource.dropped()
            except ValidationError:
                LOG.exception("rolling back %s", logical)


def _update(self: parsing.ResourceMap, template: dict[str, Any], parameters: dict[str, Any] | None = None) -> None:
    old, new = self._resource_json_map, template["Resources"]
    self._template, self._resource_json_map = template, new
    if parameters:
        self.input_parameters = parameters
    self.load_mapping()
    self.load_parameters()
    self.load_conditions()
    self.validate_outputs()
    if not any(isinstance(resource, Resource) for resource in self._parsed_resources.values()):
        _create(self, template)
        return
    for logical in order(new):
        _bring_up_to_date(self, logical)
    for logical in reversed(order(old)):
        if logical not in new:
            _remove(self, logical, old[logical])


def _bring_up_to_date(self: parsing.ResourceMap, logical: str) -> None:
    standing = self._parsed_resources.get(logical)
    resource = self._resource_json_map[logical]
    if isinstance(standing, Resource) and standing.kind.type == resource["Type"] and _wanted(self, resource):
        wanted = _given(parsing.clean_json(resource, self))
        if wanted != standing.made.properties:
            self._parsed_resources[logical] = standing.changed(wanted)
        return
    if isinstance(standing, Resource):
        standing.dropped()
        del self._parsed_resources[logical]
    self[logical]


def _wanted(self: parsing.ResourceMap, resource: Mapping[str, Any]) -> bool:
    condition = resource.get("Condition")
    return not condition or bool(self.lazy_condition_map[condition])


def _remove(self: parsing.ResourceMap, logical: str, resource: Mapping[str, Any]) -> None:
    standing = self._parsed_resources.get(logical)
    if isinstance(standing, Resource) and resource.get("DeletionPolicy") not in ("Retain", "RetainExceptOnCreate"):
        standing.dropped()
    self._parsed_resources.pop(logical, None)


class _Stay(Exception):
    """Resources that a deletion left, by logical name: why each stayed."""

    def __init__(self, why: Mapping[str, str]) -> None:
        super().__init__(", ".join(why))
        self.why = why


def _delete(self: parsing.ResourceMap) -> None:
    """All that can go goes; what a resource that stays refers to is not tried. Raises _Stay."""
    all_of_them: Mapping[str, Any] = self._resource_json_map
    why: dict[str, str] = {}
    held: set[str] = set()
    for logical in reversed(order(all_of_them)):
        if logical not in held:
            try:
                _remove(self, logical, all_of_them[logical])
                continue
            except ValidationError as error:
                why[logical] = str(error.message)
        held.update(needs(all_of_them[logical]))
    if why:
        # moto makes what its map names and does not hold.
        self._resource_json_map = {name: all_of_them[name] for name in all_of_them if name in self._parsed_resources}
        raise _Stay(why)


def _delete_stack(self: models.CloudFormationBackend, name_or_stack_id: str) -> None:
    """DeleteStack is no error when something stays: that is the stack's status, and its events say what and why."""
    for stack in [one for one in self.stacks.values() if name_or_stack_id in (one.name, one.stack_id)]:
        stack.status = "DELETE_IN_PROGRESS"
        try:
            stack.delete()
        except _Stay as left:
            stack.status = "DELETE_FAILED"
            stack.events += [_failure(stack, logical, why) for logical, why in left.why.items()]
            reason = f"The following resource(s) failed to delete: [{', '.join(left.why)}]."
            stack._add_stack_event("DELETE_FAILED", resource_status_reason=reason)
            continue
        for export in stack.exports:
            self.exports.pop(export.name, None)
        self.deleted_stacks[stack.stack_id] = self.stacks.pop(stack.stack_id)


def _failure(stack: models.Stack, logical: str, why: str) -> models.Event:
    standing = stack.resource_map._parsed_resources[logical]
    return models.Event(
        stack_id=stack.stack_id,
        stack_name=stack.name,
        logical_resource_id=logical,
        physical_resource_id=standing.physical_resource_id,
        resource_type=standing.type,
        resource_status="DELETE_FAILED",
        resource_status_reason=why,
        resource_properties=None,
    )
