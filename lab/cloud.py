"""Where a stack is deployed to and destroyed in: an AWS account, or the embedded AWS; the same calls reach either."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lab import launch, processes
from lab.errors import LabError
from lab.home import Home, write_atomically

if TYPE_CHECKING:
    from lab.engine import Engine

LOCAL = "local"
# In the root of an embedded AWS that `lab deploy` started: `lab destroy` ends it, too.
STARTED = "started-by-deploy"


class CloudError(LabError):
    """The account, or the embedded AWS, does not answer or refuses."""


@dataclass(frozen=True)
class Cloud:
    """One account in one region.

    `engine` is the embedded AWS behind it, None for an account of AWS; `started` says that this call started it.
    """

    region: str
    account: str
    caller: str
    engine: Engine | None = None
    started: bool = False

    @property
    def local(self) -> bool:
        return self.engine is not None

    @property
    def name(self) -> str:
        place = f"the embedded AWS at {self.engine.endpoint}" if self.engine else f"account {self.account}"
        return f"{place}, {self.region}"

    def client(self, service: str) -> Any:
        """A client of `service`, made once."""
        return self.engine.client(service) if self.engine else _client(self.region, service)

    def rows(self, service: str, operation: str, key: str, **given: Any) -> Iterator[Any]:
        """What a list operation gives under `key`, all pages of it."""
        client = self.client(service)
        if client.can_paginate(operation):
            for page in client.get_paginator(operation).paginate(**given):
                yield from page.get(key) or []
        else:
            yield from getattr(client, operation)(**given).get(key) or []


@lru_cache(maxsize=64)
def _client(region: str, service: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(retries={"mode": "adaptive", "max_attempts": 10})
    return boto3.session.Session(region_name=region).client(service, config=config)


def account(region: str) -> Cloud:
    """The account that the caller's credentials lead to. Raises CloudError without any."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = _client(region, "sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        hint = "aws configure, or set AWS_PROFILE; --endpoint local deploys to the embedded AWS, which needs none"
        raise CloudError(f"no credentials that AWS takes: {error}", hint) from None
    return Cloud(region, str(found["Account"]), str(found["Arn"]))


def local(home: Home, region: str) -> Cloud:
    """The embedded AWS that is up, else one that is started in the background. Raises EngineError."""
    import shutil

    server = launch.running(home.up)
    started = server is None
    if server is None:
        shutil.rmtree(home.up, ignore_errors=True)
        server = launch.start(home, home.up, region=region, port=0, with_us=False)
        write_atomically(home.up / STARTED, "")
    if server.region != region:
        raise CloudError(f"the embedded AWS that is up serves {server.region}, the stack is for {region}", "lab down")
    return Cloud(server.region, server.account, f"arn:aws:iam::{server.account}:root", server.engine(), started)


def end_if_started(home: Home) -> bool:
    """Ends an embedded AWS that `local` started; says whether it did."""
    server = launch.running(home.up)
    if server is None or not (home.up / STARTED).is_file():
        return False
    launch.stop(server)
    return processes.wait_until(lambda: launch.running(home.up) is None, seconds=10.0)
