"""What of a job's network settings holds on the desk: the subnets must exist, and an isolated child may call no one.

Covers: VpcConfig whose subnets and security groups EC2 knows; EnableNetworkIsolation: no role session, no endpoint, and
Python sockets that reach nothing but the job's own hosts (guard/sitecustomize.py).
Does not cover: sockets that C code opens; routes, rules and endpoints of a VPC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moto.ec2.models import ec2_backends

from lab.engine import Engine
from lab.errors import LabError


class NoSuchPlace(LabError):
    """VpcConfig names what EC2 does not know."""


def require(engine: Engine, vpc: Mapping[str, Any] | None) -> None:
    """Raises NoSuchPlace unless every subnet and security group of a VpcConfig exists."""
    backend = ec2_backends[engine.account][engine.region]
    subnets = {name for zone in backend.subnets.values() for name in zone}
    groups = {group.id for group in backend.describe_security_groups()}
    given = vpc or {}
    wanted = ((given.get("Subnets"), subnets, "subnet"), (given.get("SecurityGroupIds"), groups, "security group"))
    for names, known, kind in wanted:
        for name in names or []:
            if name not in known:
                raise NoSuchPlace(f"VpcConfig: the {kind} {name} does not exist")
