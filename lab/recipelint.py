"""What breaks a Greengrass component on a real nucleus though its recipe is accepted, as rules over recipes.

The facts behind the rules were measured on nucleus lite 2.6.0 or read in its source and in the classic nucleus'; each
rule keeps a recipe to what runs on both. Source: "AWS IoT Greengrass component recipe reference", format 2020-01-25.

    lint(recipe)          findings in one recipe, each with the rule's name, where, what and what to try
    template(document)    the recipes of a CloudFormation template's AWS::GreengrassV2::ComponentVersion
    filled(text)          a recipe of edge/recipes with its @PLACEHOLDERS@ filled in
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.recipe import ARTIFACT, MANIFEST, MAX_BYTES, MOST_KEYS, MOST_TEXT, PHASES, TOP, VARIABLE, leaves
from lab.template import as_text

INSTALL_S = 600
SCRIPT_BYTES = 10 * 1024
STEP = {"Script", "Timeout", "Setenv", "RequiresPrivilege", "SkipIf"}
_OTHERS = re.compile(r"\{[\w.-]+:(?:artifacts|configuration|kernel|work|iot):[^{}]*\}")
_ONE_LINE = re.compile(r"(?:cd \S+ && )?exec \S.*|exit 0")
_AS_TEXT = re.compile(r"-?\d+(?:\.\d+)?|true|false", re.IGNORECASE)
# What a component of ours is, by the end of its name.
RUNTIME, MODEL = re.compile(r"\.Inference$"), re.compile(r"\.Model(\.|$)")


@dataclass(frozen=True)
class Finding:
    """A rule that a recipe breaks: `where` in the recipe, `what` is wrong there, what to `do`."""

    rule: str
    where: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} [{self.rule}]; {self.do}"


Found = Iterator[tuple[str, str]]  # where and what
RULES: dict[str, tuple[Callable[[Mapping[str, Any]], Found], str]] = {}


def rule(name: str, do: str) -> Callable[[Callable[[Mapping[str, Any]], Found]], Callable[[Mapping[str, Any]], Found]]:
    """Enters a check into RULES under its name, with what to do about its findings."""

    def enter(check: Callable[[Mapping[str, Any]], Found]) -> Callable[[Mapping[str, Any]], Found]:
        RULES[name] = (check, do)
        return check

    return enter


def lint(text: str) -> list[Finding]:
    """Every finding in a recipe, in the order of the rules."""
    try:
        recipe = json.loads(text)
    except ValueError as error:
        do = "write JSON: numbers and booleans of a YAML recipe arrive as text on nucleus lite"
        return [Finding("json", "recipe", f"no JSON: {error}", do)]
    name = f"{recipe.get('ComponentName', 'recipe')}"
    found = [
        Finding(rule, f"{name} {where}".strip(), what, do)
        for rule, (check, do) in RULES.items()
        for where, what in check(recipe)
    ]
    if len(text.encode()) > MAX_BYTES:
        do = "move what is long into an artefact"
        found.append(Finding("recipe-size", name, f"{len(text.encode())} bytes; {MAX_BYTES} are the most", do))
    return found


def template(document: Mapping[str, Any]) -> Iterator[str]:
    """The inline recipes of a template; what is only known at deployment stands as `unknown` in them."""
    for resource in document.get("Resources", {}).values():
        if resource["Type"] == "AWS::GreengrassV2::ComponentVersion" and "InlineRecipe" in resource["Properties"]:
            yield as_text(resource["Properties"]["InlineRecipe"], lambda _: "unknown")


def filled(text: str) -> str:
    """A recipe's text with something fitting in place of each placeholder."""
    known = {"@COMPONENT@": "x.Model" if "@RUNTIME_COMPONENT@" in text else "x.Inference", "@VERSION@": "1.0.0"}
    known |= {"@RUNTIME_COMPONENT@": "x.Inference", "@MODEL_COMPONENT@": "x.Model", "@PREFIX@": "x"}
    return re.sub(r"@[A-Z0-9_]+@", lambda one: known.get(one[0], "s3://x/y.zip"), text)


def every(assembly: Path, sources: Path | None = None) -> list[Finding]:
    """The findings in an assembly's templates, and in the recipes below `sources`/edge/recipes."""
    texts = [
        text for path in sorted(assembly.glob("*.template.json")) for text in template(json.loads(path.read_text()))
    ]
    if sources is not None:
        texts += [filled(path.read_text("utf-8")) for path in sorted((sources / "edge" / "recipes").glob("*.json"))]
    return [finding for text in dict.fromkeys(texts) for finding in lint(text)]


# What a recipe holds, by its place.


def _manifests(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, manifest in enumerate(recipe.get("Manifests") or []):
        yield f"Manifests[{index}]", manifest


def _lifecycles(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if recipe.get("Lifecycle"):
        yield "Lifecycle", recipe["Lifecycle"]
    for where, manifest in _manifests(recipe):
        yield f"{where}.Lifecycle", manifest.get("Lifecycle") or {}


def _steps(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Where, which phase, its body; a phase that is only a script has a body all the same."""
    for where, lifecycle in _lifecycles(recipe):
        for name, body in lifecycle.items():
            if name.lower() in PHASES:
                yield f"{where}.{name}", name.lower(), body if isinstance(body, Mapping) else {"Script": body}


def _script(body: Mapping[str, Any]) -> str:
    return next((str(value) for key, value in body.items() if key.lower() == "script"), "")


def _texts(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text in which the nucleus fills variables in: scripts and environment variables."""
    for where, _, body in _steps(recipe):
        yield f"{where}.Script", _script(body)
        for key, value in (body.get("Setenv") or {}).items():
            yield f"{where}.Setenv.{key}", str(value)
    for where, lifecycle in _lifecycles(recipe):
        for key, value in (lifecycle.get("Setenv") or {}).items():
            yield f"{where}.Setenv.{key}", str(value)


def _configuration(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (recipe.get("ComponentConfiguration") or {}).get("DefaultConfiguration") or {}
    return found


# The rules.


@rule("platform-runtime", 'write "runtime": "*" in Platform: nucleus lite ignores a manifest without it')
def _platform_runtime(recipe: Mapping[str, Any]) -> Found:
    for where, manifest in _manifests(recipe):
        if "runtime" not in (manifest.get("Platform") or {}):
            yield f"{where}.Platform", "it has no runtime"


@rule("platform-architecture", "write amd64 or aarch64, one manifest for each, or leave it out")
def _platform_architecture(recipe: Mapping[str, Any]) -> Found:
    for where, manifest in _manifests(recipe):
        architecture = (manifest.get("Platform") or {}).get("architecture", "*")
        if architecture not in ("amd64", "aarch64", "*"):
            yield f"{where}.Platform", f"no nucleus calls itself {architecture!r}"


@rule("key-case", "write the key as the recipe reference does: phases in lower case, the others as Script, Uri, Setenv")
def _key_case(recipe: Mapping[str, Any]) -> Found:
    yield from _strangers("", recipe, TOP)
    for where, manifest in _manifests(recipe):
        yield from _strangers(where, manifest, MANIFEST)
        for index, artifact in enumerate(manifest.get("Artifacts") or []):
            yield from _strangers(f"{where}.Artifacts[{index}]", artifact, ARTIFACT)
    for where, lifecycle in _lifecycles(recipe):
        yield from _strangers(where, lifecycle, {*PHASES, "Setenv"})
    for where, _, body in _steps(recipe):
        yield from _strangers(where, body, STEP)


def _strangers(where: str, table: Mapping[str, Any], known: set[str]) -> Found:
    for key in table:
        if key not in known:
            yield where, f"the key {key!r} means nothing to nucleus lite"


@rule("no-run", "add startup, or run with the script `exit 0`: nucleus lite waits 300 s for one and fails")
def _no_run(recipe: Mapping[str, Any]) -> Found:
    if not {"run", "startup"} & {phase for _, phase, _ in _steps(recipe)}:
        yield "Manifests", "no phase runs anything"


@rule(
    "foreign-variable", "hand it over in a folder that both know: nucleus lite knows a component's own variables alone"
)
def _foreign_variable(recipe: Mapping[str, Any]) -> Found:
    for where, text in _texts(recipe):
        for one in _OTHERS.findall(text):
            yield where, f"{one} is another component's"


@rule("brace", "leave it out: nucleus lite runs the text before it and reports success")
def _brace(recipe: Mapping[str, Any]) -> Found:
    for where, text in _texts(recipe):
        if "{" in _OTHERS.sub("", VARIABLE.sub("", text)):
            yield where, "a brace that opens no recipe variable"


@rule(
    "configuration-in-script",
    "read it over IPC: the classic nucleus writes numbers as 300.0, and restarts for each change",
)
def _configuration_in_script(recipe: Mapping[str, Any]) -> Found:
    for where, text in _texts(recipe):
        if "{configuration:" in text:
            yield where, "it is filled in from the configuration"


@rule("one-exec", "write one line that ends in `exec …`, so that the process itself is what the nucleus watches")
def _one_exec(recipe: Mapping[str, Any]) -> Found:
    for where, _, body in _steps(recipe):
        if not _ONE_LINE.fullmatch(_script(body)):
            yield f"{where}.Script", "it is more than one line that starts one process"


@rule("script-size", "move it into an artefact")
def _script_size(recipe: Mapping[str, Any]) -> Found:
    for where, _, body in _steps(recipe):
        size = len(_script(body).encode())
        if size > SCRIPT_BYTES:
            yield f"{where}.Script", f"{size} bytes; {SCRIPT_BYTES} are the most"


@rule("install-timeout", f"state at least {INSTALL_S} s: the default of 120 s is short for wheels on a small device")
def _install_timeout(recipe: Mapping[str, Any]) -> Found:
    for where, phase, body in _steps(recipe):
        if phase == "install" and not _number(body.get("Timeout"), INSTALL_S):
            yield where, f"its Timeout is {body.get('Timeout', 'not stated')}"


@rule("startup-timeout", "state the seconds until the component has to report RUNNING")
def _startup_timeout(recipe: Mapping[str, Any]) -> Found:
    for where, phase, body in _steps(recipe):
        if phase == "startup" and not _number(body.get("Timeout"), 1):
            yield where, "its Timeout is not stated"


def _number(value: Any, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= least


@rule("permission", "state Read and Execute: the default is 0755 on nucleus lite and 0440 on the classic one")
def _permission(recipe: Mapping[str, Any]) -> Found:
    for where, manifest in _manifests(recipe):
        for index, artifact in enumerate(manifest.get("Artifacts") or []):
            if not {"Read", "Execute"} <= set(artifact.get("Permission") or {}):
                yield f"{where}.Artifacts[{index}]", "its Permission is not stated"


@rule("configuration-type", "write it as the number or boolean that it is")
def _configuration_type(recipe: Mapping[str, Any]) -> Found:
    for path, value in leaves(_configuration(recipe)):
        if isinstance(value, str) and _AS_TEXT.fullmatch(value):
            yield f"DefaultConfiguration.{'.'.join(path)}", f"{value!r} is a text"


@rule("configuration-size", "put it into the model package or another artefact")
def _configuration_size(recipe: Mapping[str, Any]) -> Found:
    found = list(leaves(_configuration(recipe)))
    for path, value in found:
        if isinstance(value, str) and len(value.encode()) > MOST_TEXT:
            where = f"DefaultConfiguration.{'.'.join(path)}"
            yield where, f"{len(value.encode())} bytes; nucleus lite takes {MOST_TEXT}"
    if len(found) > MOST_KEYS:
        yield "DefaultConfiguration", f"{len(found)} keys; nucleus lite takes {MOST_KEYS}"


@rule("soft-dependency", "write SOFT: with HARD, each restart of the one restarts the other")
def _soft_dependency(recipe: Mapping[str, Any]) -> Found:
    for name, wanted in (recipe.get("ComponentDependencies") or {}).items():
        if not name.startswith("aws.greengrass.") and wanted.get("DependencyType", "HARD") != "SOFT":
            yield f"ComponentDependencies.{name}", "it is a HARD dependency"


@rule("runtime-on-model", "let the model depend on the runtime: the other way round every start waits for the model")
def _runtime_on_model(recipe: Mapping[str, Any]) -> Found:
    if RUNTIME.search(str(recipe.get("ComponentName"))):
        for name in recipe.get("ComponentDependencies") or {}:
            if MODEL.search(name):
                yield f"ComponentDependencies.{name}", "the runtime depends on a model"
