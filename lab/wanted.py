"""What a core device should run: the components of its targets' deployments, each after those that it depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.recipe import MOST_JOB, Recipe, check_configuration, satisfies

if TYPE_CHECKING:
    from lab.fleet import ControlPlane, Deployment

# Components of AWS that are known by name and emulated: the nucleus, shown as installed, and what hands a device its
# role's credentials, which a child of the desk has from the start.
EMULATED = ("aws.greengrass.Nucleus", "aws.greengrass.NucleusLite", "aws.greengrass.TokenExchangeService")


class DeploymentFailed(Exception):
    """The device cannot carry the deployment out; the message says which component and why."""


@dataclass(frozen=True)
class Wanted:
    """A version with its configuration; `root` says that a deployment names it, and not only a dependency."""

    recipe: Recipe
    configuration: dict[str, Any]
    root: bool


Pins = dict[str, Mapping[str, Any]]


def pinned(deployments: Sequence[Deployment], thing: str, *, newest_wins: bool) -> Pins:
    """What deployments to several targets of `thing` ask for by component, the oldest deployment first.

    Two that pin one component at two versions are a conflict, unless the newest wins. Raises DeploymentFailed.
    """
    roots: Pins = {}
    for deployment in deployments:
        size = len(json.dumps(deployment.components))
        if size > MOST_JOB:  # a device that never answers helps nobody here
            raise DeploymentFailed(f"a job of {size} bytes, which nucleus lite never answers; {MOST_JOB} are the most")
        for name, wanted in deployment.components.items():
            there, new = roots.get(name, wanted)["componentVersion"], wanted["componentVersion"]
            if there != new and not newest_wins:
                raise DeploymentFailed(
                    f"{name} is pinned at {there} by another target of {thing}, at {new} by "
                    f"{deployment.target_name}; a core device takes one version"
                )
            roots[name] = wanted
    return roots


def resolve(plane: ControlPlane, roots: Pins) -> dict[str, Wanted]:
    """Every component that is needed, in the order of their dependencies. Raises DeploymentFailed, RecipeError."""
    found: dict[str, Wanted] = {}
    for name in sorted(roots):
        if name not in EMULATED:
            _add(plane, name, str(roots[name]["componentVersion"]), roots, found, ())
    return found


def _add(
    plane: ControlPlane, name: str, version: str, roots: Pins, found: dict[str, Wanted], above: tuple[str, ...]
) -> None:
    if name in found:
        return
    if name in above:
        raise DeploymentFailed(f"{' -> '.join((*above, name))} depend on each other in a circle")
    recipe = plane.component(name, version).recipe
    for other, asked in recipe.dependencies.items():
        if other not in EMULATED:
            chosen = _choose(plane, f"{name} {version}", other, asked["VersionRequirement"], roots)
            _add(plane, other, chosen, roots, found, (*above, name))
    configuration = _configured(recipe.configuration, roots.get(name, {}).get("configurationUpdate"))
    check_configuration(configuration, f"{name} {version}")
    found[name] = Wanted(recipe, configuration, name in roots)


def _choose(plane: ControlPlane, who: str, other: str, requirement: str, roots: Pins) -> str:
    """The version of a dependency: the one that a deployment pins, else the newest that fits."""
    if other in roots:
        version = str(roots[other]["componentVersion"])
        if not satisfies(version, requirement):
            raise DeploymentFailed(f"{who} wants {other} {requirement}, not {version}")
        return version
    resolved = plane.resolve(other, requirement)
    if resolved is None:
        raise DeploymentFailed(f"{who} wants {other} {requirement}, and no such version is deployable")
    return resolved.version


def _configured(default: Any, update: Mapping[str, Any] | None) -> dict[str, Any]:
    """A component's configuration: the recipe's default, plus what the deployment merges."""
    configuration: dict[str, Any] = json.loads(json.dumps(default))
    merge = (update or {}).get("merge")
    return _merged(configuration, json.loads(merge)) if merge else configuration


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    whole = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = _merged(whole[key], value) if both else value
    return whole
