"""What stock moto does anew for each request or model, done once; answers stay the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from moto import backends
from moto.core import utils
from werkzeug.routing import Rule


def install() -> None:
    """To be called before the first request."""
    # For every request moto lists its own folder, some 200 entries with a stat each, to see what a host name means.
    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules
    # A loader keeps the folders it has listed; moto makes a new one for every model.
    utils.create_loader = functools.cache(utils.create_loader)
    Rule._compile_builder = _no_builder  # type: ignore[method-assign]


def _no_builder(self: Rule, append_unknown: bool = True) -> Callable[..., Any]:
    """werkzeug compiles two functions that build a URL for each of moto's routes, and no one ever builds one."""

    def build(rule: Rule, **values: Any) -> tuple[str, str]:
        raise LookupError(f"the embedded AWS builds no URLs: {rule.rule}")

    return build
