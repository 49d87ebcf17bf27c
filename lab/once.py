"""What stock moto and botocore do anew for each request, session or model, done once; answers stay the same."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import botocore.session
from werkzeug.routing import Rule

# What a task may take: as long as moto's interpreter lets one.
LONGEST_SECONDS = 99999999


def install() -> None:
    """To be called before moto's services are imported, which make sessions already."""
    # A loader keeps what it has read. Each of moto's services makes a session, and so does each job of the lab.
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    from moto import backends
    from moto.core import utils
    from moto.stepfunctions.parser.asl.utils import boto_client

    # For every request moto lists its own folder, some 200 entries with a stat each, to see what a host name means.
    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules
    # A loader keeps the folders it has listed; moto makes a new one for every model.
    utils.create_loader = functools.cache(utils.create_loader)
    # The interpreter makes a client for each task; one is enough for each role that machines run as.
    boto_client.boto_client_for = _Clients()
    Rule._compile_builder = _no_builder  # type: ignore[method-assign]


class _Clients:
    """boto_client_for, in the name of the role that a state runs as: the machine's, or the one of its Credentials."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str, str | None], Any] = {}

    def __call__(self, region: str, service: str, state_credentials: Any = None) -> Any:
        from botocore.config import Config

        role = state_credentials.role_arn if state_credentials is not None else None
        with self._lock:
            key = (region, service, role)
            if key not in self._made:
                config = Config(
                    parameter_validation=False,
                    retries={"total_max_attempts": 1},
                    s3={"addressing_style": "path"},
                    connect_timeout=LONGEST_SECONDS,
                    read_timeout=LONGEST_SECONDS,
                    proxies={},
                )
                endpoint = os.environ["AWS_ENDPOINT_URL"]
                self._made[key] = _session(region, role).client(service, endpoint_url=endpoint, config=config)
            return self._made[key]


@functools.cache
def _session(region: str, role_arn: str | None) -> Any:
    from moto.core import DEFAULT_ACCOUNT_ID

    from lab import identity
    from lab.engine import ACCESS_KEY, SECRET_KEY, session

    if role_arn is None:
        return session(region, ACCESS_KEY, SECRET_KEY)
    taken = identity.taken(DEFAULT_ACCOUNT_ID, region, role_arn, "execution")
    return session(region, taken.access_key, taken.secret_key, taken.token)


def _no_builder(self: Rule, append_unknown: bool = True) -> Callable[..., Any]:
    """werkzeug compiles two functions that build a URL for each of moto's routes, and no one ever builds one."""

    def build(rule: Rule, **values: Any) -> tuple[str, str]:
        raise LookupError(f"the embedded AWS builds no URLs: {rule.rule}")

    return build
