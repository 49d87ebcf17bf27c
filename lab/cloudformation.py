"""CloudFormation: stacks whose every resource is made through its service's API, or refused by name.

Covers: the types of lab/kinds_*.py with the properties named there · Ref, Fn::GetAtt, Fn::Join, Fn::Sub and the other
    intrinsics that moto resolves · create, update and delete of a stack.
Does not cover: custom resources, nested stacks, macros, drift detection, rollback (a failed stack stays as it is).
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.core.common_models import CloudFormationModel

from lab import kinds_data, kinds_fleet, kinds_flow
from lab.engine import Engine
from lab.resources import Kind, Made, ResourceError, Site

KINDS = {kind.type: kind for kind in (*kinds_data.KINDS, *kinds_flow.KINDS, *kinds_fleet.KINDS)}


def install(engine: Engine) -> None:
    """Gives moto one class per covered type, and takes away all others."""
    classes = {name: _class(engine, kind) for name, kind in KINDS.items()}

    def class_of(resource_type: str) -> type[CloudFormationModel]:
        if resource_type not in classes:
            raise ValidationError(message=f"the desk does not cover the resource type {resource_type}")
        return classes[resource_type]

    parsing.resource_class_from_type = class_of
    parsing.resource_name_property_from_type = lambda resource_type: None


def _class(engine: Engine, kind: Kind) -> type[CloudFormationModel]:
    return type(kind.type.replace("::", ""), (Resource,), {"engine": engine, "kind": kind, "__module__": "lab.cloudformation"})


class Resource(CloudFormationModel):  # type: ignore[misc]
    """A resource of a stack, as moto's parser handles it."""

    engine: ClassVar[Engine]
    kind: ClassVar[Kind]

    def __init__(self, site: Site, made: Made, properties: dict[str, Any]) -> None:
        self.site, self.made, self.properties = site, made, properties
        self.type = self.kind.type

    @property
    def physical_resource_id(self) -> str:
        return self.made.ref

    def get_cfn_attribute(self, attribute: str) -> Any:
        if attribute not in self.made.attributes:
            raise ValidationError(message=f"{self.site.logical_id} ({self.kind.type}) has no attribute {attribute}")
        return self.made.attributes[attribute]

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.kind.type

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in cls.kind.attributes

    def is_created(self) -> bool:
        return True

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **kwargs: Any
    ) -> Resource:
        properties = cloudformation_json.get("Properties", {})
        site = Site(cls.engine, str(kwargs["StackId"]).split("/")[1], str(kwargs["LogicalId"]))
        refused = cls.kind.refusals(site.logical_id, properties)
        if refused:
            raise ValidationError(message="; ".join(refused))
        try:
            return cls(site, cls.kind.create(site, properties), properties)
        except ResourceError as error:
            raise ValidationError(message=str(error)) from error
        except Exception as error:
            raise ValidationError(message=f"{site.logical_id} ({cls.kind.type}): {error}") from error

    @classmethod
    def update_from_cloudformation_json(
        cls, original_resource: Resource, new_resource_name: str, cloudformation_json: dict[str, Any], account_id: str,
        region_name: str,
    ) -> Resource:  # fmt: skip
        kind, old = cls.kind, original_resource
        properties = cloudformation_json.get("Properties", {})
        if properties == old.properties:
            return old
        if kind.update is not None:
            return cls(old.site, kind.update(old.site, old.made, properties), properties)
        if not kind.replace:
            message = f"{old.site.logical_id} ({kind.type}) cannot be changed in place here; lab down, then lab up"
            raise ValidationError(message=message)
        kind.delete(old.site, old.made, old.properties)
        return cls(old.site, kind.create(old.site, properties), properties)

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str
    ) -> None:
        raise ValidationError(message=f"{resource_name} was not made by this stack")

    def delete(self, account_id: str, region_name: str) -> None:
        self.kind.delete(self.site, self.made, self.properties)
