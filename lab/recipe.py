"""Greengrass component recipes: read, validated, and their six variables interpolated.

Rules are those of the recipe reference (format 2020-01-25) and of nucleus lite, which is stricter about letter case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from platform import machine
from typing import Any

# This machine's architecture in Greengrass' words.
HERE = {"x86_64": "amd64", "arm64": "aarch64"}.get(machine(), machine())
MAX_BYTES = 16 * 1024
# What nucleus lite 2.6.0 took of a configuration; it failed at 2 KB and 110 keys, and never answered a job of 6 KB.
MOST_TEXT = 1024
MOST_KEYS = 80
MOST_JOB = 6 * 1024
PHASES = ("install", "run", "startup", "shutdown", "recover", "bootstrap")
TOP = {
    "RecipeFormatVersion",
    "ComponentName",
    "ComponentVersion",
    "ComponentType",
    "ComponentDescription",
    "ComponentPublisher",
    "ComponentConfiguration",
    "ComponentDependencies",
    "Manifests",
    "Lifecycle",
}
MANIFEST = {"Name", "Platform", "Lifecycle", "Selections", "Artifacts"}
ARTIFACT = {"Uri", "Unarchive", "Permission", "Digest", "Algorithm"}
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
VARIABLE = re.compile(
    r"\{(artifacts:path|artifacts:decompressedPath|kernel:rootPath|iot:thingName|work:path|configuration:(/[^{}]*))\}"
)


class RecipeError(Exception):
    """The recipe is not one that the service, or the device, takes."""


@dataclass(frozen=True)
class Artifact:
    """A file in S3 that the device downloads; `digest` is base64 SHA-256, which the service adds."""

    uri: str
    unarchive: bool
    executable: bool
    digest: str | None

    @property
    def filename(self) -> str:
        return self.uri.rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """The folder that the archive unpacks to."""
        return self.filename.rpartition(".")[0] or self.filename


@dataclass(frozen=True)
class Phase:
    """One lifecycle step: the shell script and how many seconds it may take."""

    script: str
    timeout: float
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Recipe:
    """A validated recipe, with the manifest for Linux chosen."""

    name: str
    version: str
    description: str
    publisher: str
    configuration: Mapping[str, Any]
    dependencies: Mapping[str, Mapping[str, str]]
    phases: Mapping[str, Phase]
    artifacts: tuple[Artifact, ...]
    platforms: tuple[Mapping[str, str], ...]


def _check(condition: object, message: str) -> None:
    if not condition:
        raise RecipeError(message)


def parse(document: bytes | str) -> Recipe:
    """Reads a JSON recipe. Raises RecipeError with what is wrong and where.

    YAML is refused: nucleus lite turns its numbers and booleans into strings.
    """
    data = document if isinstance(document, bytes) else document.encode()
    _check(len(data) <= MAX_BYTES, f"the recipe has {len(data)} bytes; {MAX_BYTES} are allowed")
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise RecipeError(f"the recipe is not JSON: {error}") from error
    _check(isinstance(raw, dict), "the recipe is not a JSON object")
    _check(not set(raw) - TOP, f"the recipe has unknown keys: {sorted(set(raw) - TOP)}")
    _check(raw.get("RecipeFormatVersion") == "2020-01-25", "RecipeFormatVersion is not 2020-01-25")
    name, version = raw.get("ComponentName"), raw.get("ComponentVersion")
    _check(
        isinstance(name, str) and re.fullmatch(r"[a-zA-Z0-9\-_.]{1,128}", name), f"ComponentName {name!r} is no name"
    )
    _check(isinstance(version, str) and _SEMVER.fullmatch(version), f"ComponentVersion {version!r} is not semantic")
    manifests = raw.get("Manifests")
    _check(isinstance(manifests, list) and manifests, "Manifests is missing or empty")
    chosen = _manifest(manifests)
    dependencies = raw.get("ComponentDependencies") or {}
    for other, wanted in dependencies.items():
        _check(wanted.get("DependencyType", "HARD") in ("HARD", "SOFT"), f"{other}: DependencyType is HARD or SOFT")
        requirement(wanted.get("VersionRequirement", ""))
    return Recipe(
        name=str(name),
        version=str(version),
        description=str(raw.get("ComponentDescription", "")),
        publisher=str(raw.get("ComponentPublisher", "")),
        configuration=(raw.get("ComponentConfiguration") or {}).get("DefaultConfiguration") or {},
        dependencies=dependencies,
        phases=_phases(chosen.get("Lifecycle") or raw.get("Lifecycle") or {}),
        artifacts=tuple(_artifact(item) for item in chosen.get("Artifacts") or []),
        platforms=tuple(dict(manifest.get("Platform") or {}) for manifest in manifests),
    )


def _manifest(manifests: list[Any]) -> dict[str, Any]:
    """The first manifest for this machine; lite ignores one whose platform names no `runtime`."""
    for manifest in manifests:
        _check(isinstance(manifest, dict), "a manifest is not an object")
        _check(not set(manifest) - MANIFEST, f"a manifest has unknown keys: {sorted(set(manifest) - MANIFEST)}")
        platform = manifest.get("Platform") or {}
        fits = platform.get("os", "*") in ("linux", "*", "all") and platform.get("architecture", "*") in ("*", HERE)
        if fits and "runtime" in platform:
            return dict(manifest)
    wanted = f'{{"os": "linux", "architecture": "{HERE}", "runtime": "*"}}'
    raise RecipeError(f"no manifest is for {wanted}; nucleus lite ignores one without runtime")


def _artifact(item: Any) -> Artifact:
    _check(isinstance(item, dict) and not set(item) - ARTIFACT, f"an artifact has keys other than {sorted(ARTIFACT)}")
    uri, unarchive = str(item.get("Uri", "")), item.get("Unarchive", "NONE")
    _check(re.fullmatch(r"s3://[^/]+/.+", uri), f"artifact Uri {uri!r} is not s3://bucket/key")
    _check(unarchive in ("NONE", "ZIP"), f"{uri}: Unarchive is NONE or ZIP")
    permission = item.get("Permission") or {}
    for right, who in permission.items():
        _check(right in ("Read", "Execute") and who in ("NONE", "OWNER", "ALL"), f"{uri}: Permission {right}={who}")
    return Artifact(uri, unarchive == "ZIP", permission.get("Execute", "NONE") != "NONE", item.get("Digest"))


def _phases(lifecycle: Mapping[str, Any]) -> dict[str, Phase]:
    shared = dict(lifecycle.get("Setenv") or {})
    phases: dict[str, Phase] = {}
    for name, body in lifecycle.items():
        if name == "Setenv":
            continue
        _check(name in PHASES, f"lifecycle phase {name!r} is none of {', '.join(PHASES)} (lower case)")
        if isinstance(body, str):
            body = {"Script": body}
        _check(isinstance(body.get("Script"), str), f"lifecycle phase {name} has no Script")
        environment = {key: str(value) for key, value in {**shared, **(body.get("Setenv") or {})}.items()}
        phases[name] = Phase(body["Script"], float(body.get("Timeout", 120)), environment)
    return phases


def interpolate(text: str, variables: Mapping[str, str], configuration: Mapping[str, Any]) -> str:
    """Fills the recipe variables in; `variables` holds the five fixed ones, `configuration` serves the pointer.

    Raises RecipeError for any other `{`: lite would run only the text before it, and report success.
    """

    def value(match: re.Match[str]) -> str:
        if match[2] is None:
            return variables[match[1]]
        found: Any = configuration
        for key in match[2].strip("/").split("/"):
            _check(isinstance(found, Mapping) and key in found, f"configuration has no {match[2]}")
            found = found[key]
        return found if isinstance(found, str) else json.dumps(found)

    rest = VARIABLE.sub("", text)
    _check("{" not in rest, f"a script has a brace that is no recipe variable; nucleus lite stops there: {text!r}")
    return VARIABLE.sub(value, text)


def check_configuration(configuration: Mapping[str, Any], where: str) -> None:
    """Raises RecipeError for a configuration that nucleus lite fails to take."""
    count = 0
    for path, value in leaves(configuration):
        count += 1
        size = len(value.encode()) if isinstance(value, str) else 0
        _check(
            size <= MOST_TEXT, f"{where}: {'/'.join(path)} has {size} bytes; nucleus lite takes texts of {MOST_TEXT}"
        )
    _check(count <= MOST_KEYS, f"{where}: the configuration has {count} keys; nucleus lite takes {MOST_KEYS}")


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value of a configuration that is no map, by its path."""
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, item in value.items():
        yield from leaves(item, (*path, str(key)))


def order(version: str) -> tuple[int, int, int]:
    """The three numbers of a version, for comparison."""
    found = _SEMVER.fullmatch(version)
    if found is None:
        raise RecipeError(f"{version!r} is not a semantic version")
    return int(found[1]), int(found[2]), int(found[3])


def requirement(text: str) -> list[tuple[str, tuple[int, int, int]]]:
    """The comparisons of a version requirement such as `>=1.0.0 <2.0.0`, `^1.2.0`, `~1.2.0` or `1.2.3`."""
    comparisons: list[tuple[str, tuple[int, int, int]]] = []
    for part in text.split():
        found = re.fullmatch(r"(>=|<=|>|<|=|\^|~)?(\d+\.\d+\.\d+)", part)
        if found is None:
            raise RecipeError(f"version requirement {text!r} is not understood")
        operator, number = found[1] or "=", order(found[2])
        if operator in "^~":
            above = (number[0] + 1, 0, 0) if operator == "^" else (number[0], number[1] + 1, 0)
            comparisons += [(">=", number), ("<", above)]
        else:
            comparisons.append((operator, number))
    _check(comparisons, "a dependency has no VersionRequirement")
    return comparisons


def satisfies(version: str, text: str) -> bool:
    """Whether `version` meets requirement `text`."""
    number = order(version)
    tests = {
        ">=": lambda limit: number >= limit,
        "<=": lambda limit: number <= limit,
        ">": lambda limit: number > limit,
        "<": lambda limit: number < limit,
        "=": lambda limit: number == limit,
    }
    return all(tests[operator](limit) for operator, limit in requirement(text))
