"""The tags that everything bears, so that costs, inventories and owners can be told apart; synthesis fails without."""

from __future__ import annotations

from collections.abc import Mapping

import jsii
from aws_cdk import IAspect, TagManager
from constructs import IConstruct

from infra.config import Settings


def tags(settings: Settings) -> dict[str, str]:
    """The tags of everything that the stack, and the flows that run in it, make."""
    return {"lab": settings.prefix, "environment": settings.lab.environment}


def listed(wanted: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as most APIs take them."""
    return [{"Key": key, "Value": value} for key, value in wanted.items()]


@jsii.implements(IAspect)
class Tagged:
    """Looks at every resource after tags were applied; `lacking` holds a line for each that lacks one."""

    def __init__(self, wanted: Mapping[str, str]) -> None:
        self._wanted = dict(wanted)
        self.lacking: list[str] = []

    def visit(self, node: IConstruct) -> None:
        """Called by the CDK for every construct."""
        manager = TagManager.of(node)
        if manager is None:
            return
        there = manager.tag_values()
        missing = [key for key, value in self._wanted.items() if there.get(key) != value]
        if missing:
            self.lacking.append(f"{node.node.path} lacks the tag {', '.join(missing)}")
