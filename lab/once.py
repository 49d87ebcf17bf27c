"""What stock moto and botocore do anew for each request, session or model, done once; answers stay the same."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import boto3
import botocore.session
from werkzeug.routing import Rule

from lab import inside


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
    # The interpreter makes a client for each task; a client is thread-safe and knows nothing of the task.
    boto_client.boto3 = _Boto3()
    Rule._compile_builder = _no_builder  # type: ignore[method-assign]


class _Boto3:
    """boto3 as moto's interpreter uses it, with one client for each region and service."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str], Any] = {}
        core = botocore.session.Session()
        inside.connect(core)
        self._session = boto3.session.Session(botocore_session=core)

    def client(self, *, service_name: str, region_name: str, **options: Any) -> Any:
        with self._lock:
            key = (region_name, service_name)
            if key not in self._made:
                self._made[key] = self._session.client(service_name, region_name, **options)
            return self._made[key]


def _no_builder(self: Rule, append_unknown: bool = True) -> Callable[..., Any]:
    """werkzeug compiles two functions that build a URL for each of moto's routes, and no one ever builds one."""

    def build(rule: Rule, **values: Any) -> tuple[str, str]:
        raise LookupError(f"the embedded AWS builds no URLs: {rule.rule}")

    return build
