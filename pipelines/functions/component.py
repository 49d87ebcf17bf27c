"""The model component of Greengrass, with its recipe from the template, published once."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parents[2] / "edge" / "recipes" / "model.json"
# It becomes one word of the recipe's command line.
SIGNATURE = re.compile(r"[A-Za-z0-9+/]{86}==")
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 45.0


class ComponentFailed(Exception):
    """Greengrass did not accept the component version; the message is its own."""


def recipe(*, name: str, version: str, prefix: str, artifact: str, runtime: str, stager: str, signature: str) -> str:
    """The recipe as Greengrass takes it. `artifact` and `stager` are S3 URIs of zips, `signature` is base64 or empty.

    Raises ComponentFailed.
    """
    if signature and not SIGNATURE.fullmatch(signature):
        raise ComponentFailed(f"the signature of version {version} is not 64 bytes in base64")
    text = TEMPLATE.read_text("utf-8")
    for placeholder, value in {
        "@COMPONENT@": name,
        "@VERSION@": version,
        "@PREFIX@": prefix,
        "@ARTIFACT@": artifact,
        "@STEM@": _stem(artifact),
        "@RUNTIME_COMPONENT@": runtime,
        "@STAGER@": stager,
        "@STAGER_STEM@": _stem(stager),
        "@SIGNATURE@": signature,
    }.items():
        text = text.replace(placeholder, value)
    left = [word for word in text.split('"') if word.startswith("@") and word.endswith("@")]
    if left or '"@' in text:
        raise ComponentFailed(f"edge/recipes/model.json asks for {left[0]}, which the release does not know")
    return json.dumps(json.loads(text))


def publish(greengrass: Any, recipe: str, *, like: str) -> str:
    """Creates the version, or finds it, and waits until it can be deployed; returns its ARN.

    `like` is any ARN of the same account, region and partition. Raises ComponentFailed.
    """
    try:
        arn = str(greengrass.create_component_version(inlineRecipe=recipe.encode())["arn"])
    except greengrass.exceptions.ConflictException:
        document = json.loads(recipe)
        _, partition, _, region, account, _ = like.split(":", 5)
        name, version = document["ComponentName"], document["ComponentVersion"]
        arn = f"arn:{partition}:greengrass:{region}:{account}:components:{name}:versions:{version}"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        status = greengrass.describe_component(arn=arn)["status"]
        if status["componentState"] == "DEPLOYABLE":
            return arn
        if status["componentState"] in ("FAILED", "DEPRECATED"):
            raise ComponentFailed(
                f"{arn} is {status['componentState']}: {status.get('message') or status.get('errors')}"
            )
        if time.monotonic() > deadline:
            raise ComponentFailed(f"{arn} is still {status['componentState']} after {PATIENCE_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def _stem(uri: str) -> str:
    """The folder that Greengrass unpacks an archive into: its file name without the extension."""
    return uri.rpartition("/")[2].removesuffix(".zip")
