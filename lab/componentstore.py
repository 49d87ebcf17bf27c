"""Greengrass component versions: registered from a recipe, their artefacts digested, found by ARN or requirement."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from botocore.exceptions import ClientError
from moto.core.exceptions import JsonRESTError

from lab import recipe as recipes
from lab.engine import Engine
from lab.jobs import now


class ServiceError(JsonRESTError):  # type: ignore[misc]
    """An error with AWS's code and HTTP status."""

    statuses: Mapping[str, int] = {"ConflictException": 409, "ResourceNotFoundException": 404}

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = self.statuses.get(code, 400)


@dataclass
class Component:
    """One immutable component version. `state` is DEPLOYABLE, or FAILED with `message` and `errors` by artefact."""

    arn: str
    recipe: recipes.Recipe
    document: bytes
    source: bytes
    created: datetime
    tags: dict[str, str]
    token: str | None = None
    state: str = "DEPLOYABLE"
    message: str = "NONE"
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def version(self) -> str:
        return self.recipe.version


class ComponentStore:
    """The component versions of the engine's one account and region. Calls may come from any thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.lock = threading.RLock()
        self.components: dict[str, dict[str, Component]] = {}

    def arn(self, kind: str, rest: str) -> str:
        return f"arn:aws:greengrass:{self.engine.region}:{self.engine.account}:{kind}:{rest}"

    def create_component(self, document: bytes, tags: Mapping[str, str], token: str | None = None) -> Component:
        """Registers a version and computes its artefacts' digests. Versions are immutable: ConflictException."""
        try:
            parsed = recipes.parse(document)
        except recipes.RecipeError as error:
            raise ServiceError("ValidationException", f"Invalid recipe: {error}") from error
        if parsed.name.startswith("aws.greengrass."):
            raise ServiceError("ValidationException", f"{parsed.name}: names under aws.greengrass are AWS's own")
        with self.lock:
            there = self.components.get(parsed.name, {}).get(parsed.version)
        if there is not None:
            if token and there.token == token and there.source == document:
                return there
            raise ServiceError(
                "ConflictException",
                f"Component [{parsed.name} : {parsed.version}] for account [{self.engine.account}] "
                f"already exists with state: [{there.state}]",
            )
        digested, errors = self.digested(document)
        component = Component(
            self.arn("components", f"{parsed.name}:versions:{parsed.version}"),
            recipes.parse(digested),
            digested,
            document,
            now(),
            dict(tags),
            token,
        )
        if errors:
            component.state, component.errors = "FAILED", errors
            component.message = "INVALID_ARGUMENT: an artifact cannot be accessed: " + "; ".join(errors.values())
        with self.lock:
            self.components.setdefault(parsed.name, {})[parsed.version] = component
        return component

    def digested(self, document: bytes) -> tuple[bytes, dict[str, str]]:
        """The recipe with Digest and Algorithm at each artefact, and what could not be read, by uri."""
        raw = json.loads(document)
        errors: dict[str, str] = {}
        for manifest in raw["Manifests"]:
            for artifact in manifest.get("Artifacts") or []:
                bucket, _, key = artifact["Uri"].removeprefix("s3://").partition("/")
                try:
                    body = self.engine.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
                except ClientError as error:
                    errors[artifact["Uri"]] = f"{artifact['Uri']}: {error.response['Error']['Code']}"
                    continue
                artifact["Digest"] = base64.b64encode(hashlib.sha256(body).digest()).decode()
                artifact["Algorithm"] = "SHA-256"
        return json.dumps(raw).encode(), errors

    def component(self, name: str, version: str) -> Component:
        with self.lock:
            found = self.components.get(name, {}).get(version)
        if found is None:
            raise ServiceError("ResourceNotFoundException", f"Component [{name} : {version}] does not exist")
        return found

    def by_arn(self, arn: str) -> Component:
        found = re.fullmatch(r"arn:aws[\w-]*:greengrass:[^:]*:[^:]*:components:([^:]+):versions:(.+)", arn)
        if found is None:
            raise ServiceError("ValidationException", f"{arn} is not the ARN of a component version")
        return self.component(found[1], found[2])

    def versions(self, name: str) -> list[Component]:
        """A component's versions, newest first; empty when there is none."""
        with self.lock:
            every = list(self.components.get(name, {}).values())
        return sorted(every, key=lambda component: recipes.order(component.version), reverse=True)

    def resolve(self, name: str, wanted: str) -> Component | None:
        """The highest deployable version of `name` that meets the requirement."""
        for component in self.versions(name):
            if component.state == "DEPLOYABLE" and recipes.satisfies(component.version, wanted):
                return component
        return None

    def delete_component(self, arn: str) -> None:
        component = self.by_arn(arn)
        with self.lock:
            self.components[component.name].pop(component.version)
            if not self.components[component.name]:
                del self.components[component.name]
