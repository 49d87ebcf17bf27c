"""`[environments.NAME]`: what differs in one environment of the same lab, as tables that lie over the others.

A plain key there is one of `[lab]` (account, region, promote_from); a table there lies over the table of its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Tables = Mapping[str, Any]
DEFAULT = "dev"


class ConfigError(Exception):
    """What is wrong with the settings, in one line: the key, the value, and what is allowed."""


@dataclass(frozen=True)
class Every:
    """The tables of the chosen environment, and those of each other one by name."""

    own: Tables
    others: Mapping[str, Tables]


def every(tables: Tables, chosen: str | None, where: str) -> Every:
    """Every environment's tables. Raises ConfigError when the chosen one is none of those that there are."""
    base = {name: table for name, table in tables.items() if name != "environments"}
    given = tables.get("environments", {})
    lab = base.get("lab", {})
    name = chosen or (lab.get("environment", DEFAULT) if isinstance(lab, Mapping) else DEFAULT)
    if not isinstance(given, Mapping) or not all(isinstance(one, Mapping) for one in given.values()):
        raise ConfigError(f"{where}: [environments] holds one table for each environment, such as [environments.prod]")
    if given and name not in given:
        raise ConfigError(f"{where}: environment '{name}' is unknown; there are: {', '.join(given)}")
    others = {one: _of(base, given[one], one) for one in given if one != name}
    return Every(_of(base, given.get(name, {}), str(name)), others)


def _of(base: Tables, differs: Tables, name: str) -> Tables:
    """The tables as they are in one environment."""
    plain = {key: value for key, value in differs.items() if not isinstance(value, Mapping)}
    over = {key: value for key, value in differs.items() if isinstance(value, Mapping)}
    if "lab" in base and not isinstance(base["lab"], Mapping):
        return base
    return merged(base, {**over, "lab": {**plain, **over.get("lab", {}), "environment": name}})


def merged(under: Tables, over: Tables) -> dict[str, Any]:
    """Tables over tables, key by key."""
    whole = dict(under)
    for key, value in over.items():
        below = whole.get(key)
        whole[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return whole
