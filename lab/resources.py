"""The resource types that the desk covers; what is not in this table is refused by name."""

from __future__ import annotations

from lab import (
    resources_access,
    resources_compute,
    resources_data,
    resources_delivery,
    resources_edge,
    resources_network,
    resources_watch,
)
from lab.resource import Kind

# What CDK adds when its metadata is on; AWS makes nothing of it either.
METADATA = Kind(
    "AWS::CDK::Metadata",
    frozenset({"Analytics"}),
    lambda site, wanted: site.logical,
    lambda made: made.properties,
    lambda made: None,
    how="executed",
    note="Nothing is made of it, in AWS as here.",
)

KINDS: dict[str, Kind] = {
    kind.type: kind
    for kind in (
        METADATA,
        *resources_access.KINDS,
        *resources_compute.KINDS,
        *resources_data.KINDS,
        *resources_delivery.KINDS,
        *resources_edge.KINDS,
        *resources_network.KINDS,
        *resources_watch.KINDS,
    )
}
