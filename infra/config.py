"""All of `lab.toml` as one validated object, and the one place that reads it; its tables are those of tables.py.

`load()` takes the file that LAB_CONFIG names (default `lab.toml`), lays over it the table of the environment that
LAB_ENVIRONMENT names (default `[lab] environment`), then LAB_OVERRIDES (JSON), and validates the result. When the
overrides name another data set, a built-in one brings its own tables. Whatever is wrong becomes one `ConfigError` of
one line that names the key and what is allowed there.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from infra import environments
from infra.builtin import own_tables
from infra.environments import ConfigError
from infra.tables import (
    METRICS,
    REQUIRED,
    TARGETS,
    TASKS,
    Budget,
    Data,
    Delivery,
    Edge,
    Gate,
    Lab,
    Place,
    Security,
    Serving,
    Table,
    Target,
    Train,
)


class Settings(Table):
    """All of `lab.toml` as it is in one environment."""

    lab: Lab = Lab()
    data: Data = Data()
    train: Train = Train()
    gate: Gate = Gate(accuracy=0.95)
    targets: dict[str, Target] = Field(default_factory=lambda: {name: Target() for name in REQUIRED})
    serving: Serving = Serving()
    edge: Edge = Edge()
    budget: Budget = Budget()
    security: Security = Security()
    delivery: Delivery = Delivery()
    _places: dict[str, Place] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _targets_are_known(self) -> Settings:
        for name in self.targets:
            if name not in TARGETS:
                raise ValueError(f"[targets] {name} is unknown; allowed: {', '.join(TARGETS)}")
        missing = [name for name in REQUIRED if name not in self.targets]
        if missing:
            raise ValueError(f"[targets.{missing[0]}] is missing; the endpoint and the device each need their target")
        return self

    @model_validator(mode="after")
    def _the_task_fits_the_data(self) -> Settings:
        allowed = TASKS[self.data.modality]
        if self.data.task not in allowed:
            raise ValueError(f"[data] task = '{self.data.task}' is none of {self.data.modality}: {', '.join(allowed)}")
        if self.data.task == "regression" and not self.data.target:
            raise ValueError("[data] target is missing; a regression needs the column that it predicts")
        return self

    @model_validator(mode="after")
    def _the_gate_can_decide(self) -> Settings:
        if all(getattr(self.gate, metric) is None for metric in METRICS):
            raise ValueError(f"[gate] names no metric, so any model would pass; give one of {', '.join(METRICS)}")
        return self

    @model_validator(mode="after")
    def _serverless_has_no_instances(self) -> Settings:
        serving = self.serving
        instances = (
            ("max_instances", serving.max_instances > 1),
            ("capture_percent", serving.capture_percent),
            ("delete_at", serving.delete_at),
        )
        for key, asked in instances:
            if serving.serverless and asked:
                raise ValueError(f"[serving] {key} needs serverless = false; it is of instances alone")
        return self

    @model_validator(mode="after")
    def _one_thing_deploys(self) -> Settings:
        delivery = self.delivery
        if delivery.github and delivery.connection:
            raise ValueError("[delivery] names github and connection; one of them deploys")
        if bool(delivery.connection) != bool(delivery.repository):
            raise ValueError("[delivery] connection and repository come together: both, or neither")
        return self

    @model_validator(mode="after")
    def _some_devices_wait_for_the_canaries(self) -> Settings:
        edge = self.edge
        if edge.canaries >= edge.devices and edge.devices > 1:
            raise ValueError(f"[edge] canaries = {edge.canaries} leaves no device of {edge.devices} for the fleet")
        if edge.devices == 1 and edge.canaries > 1:
            raise ValueError(f"[edge] canaries = {edge.canaries} is more than there are devices: 1")
        return self

    @model_validator(mode="after")
    def _no_secret_is_a_setting(self) -> Settings:
        if "@" in self.train.mlflow:
            raise ValueError(
                "[train] mlflow holds a user or a password, which every job would see in its environment; "
                "give a URI without, or the ARN of a SageMaker MLflow App, which takes the job's role"
            )
        return self

    @model_validator(mode="after")
    def _the_network_can_hold_it(self) -> Settings:
        if self.security.network == "none":
            return self
        if self.serving.serverless:
            raise ValueError(
                "[security] network = 'vpc' and [serving] serverless = true exclude each other; serverless endpoints "
                "stand in no VPC: set [serving] serverless = false, which bills an instance by the hour"
            )
        if self.train.mlflow and not self.train.mlflow.startswith("arn:"):
            raise ValueError(
                f"[train] mlflow = '{self.train.mlflow}' cannot be reached with [security] network = 'vpc'; "
                "give the ARN of a SageMaker MLflow App, or leave it empty"
            )
        return self

    @property
    def exported(self) -> frozenset[str]:
        """The formats that may ship to any target: the export job must be able to make them."""
        return frozenset(form for target in self.targets.values() for form in target.formats)

    @property
    def served(self) -> frozenset[str]:
        """The formats that the endpoint may receive."""
        return frozenset(self.targets[REQUIRED[0]].formats)

    @property
    def at_the_edge(self) -> frozenset[str]:
        """The formats that a device may receive, of whatever kind it is."""
        return frozenset(
            form for name, target in self.targets.items() if name.startswith("edge-") for form in target.formats
        )

    @property
    def place(self) -> Place:
        """Where this environment lies."""
        lab = self.lab
        return Place(name=lab.environment, region=lab.region, account=lab.account, promote_from=lab.promote_from)

    @property
    def places(self) -> dict[str, Place]:
        """Every environment of the lab by name, this one included."""
        return {**self._places, self.lab.environment: self.place}

    @property
    def prefix(self) -> str:
        """What every resource's name starts with, such as `ml-lab-dev`."""
        return f"{self.lab.name}-{self.lab.environment}"

    @property
    def watch_minutes(self) -> float:
        """How long the canaries are watched before the fleet receives what they took."""
        return self.edge.watch_minutes or (30.0 if self.keeps_data else 0.1)

    @property
    def keeps_data(self) -> bool:
        """Whether buckets and tables outlive the stack."""
        return self.lab.environment == "prod"

    def resolved(self) -> dict[str, Any]:
        """The settings with every default filled in and what is unset left out, as JSON can carry them."""
        return self.model_dump(mode="json", exclude_none=True)


def load(environ: Mapping[str, str]) -> Settings:
    """The settings of this process. Raises ConfigError."""
    path = Path(environ.get("LAB_CONFIG") or "lab.toml")
    over = _overrides(environ.get("LAB_OVERRIDES", ""))
    asked = (over.get("lab") or {}).get("environment") or environ.get("LAB_ENVIRONMENT") or None
    return parse(_read(path), where=path.name, environment=asked, over=over)


def parse(
    tables: Mapping[str, Any],
    *,
    where: str = "lab.toml",
    environment: str | None = None,
    over: Mapping[str, Any] | None = None,
) -> Settings:
    """Validates the tables of a `lab.toml`, for every environment that it names, and gives those of one.

    `over` lies over the one that is chosen. Raises ConfigError with the first thing that is wrong.
    """
    found = environments.every(tables, environment, where)
    made = {name: _validated(own, f"{where}, [environments.{name}]") for name, own in found.others.items()}
    own = dict(found.own)
    named = ((over or {}).get("data") or {}).get("dataset")
    if named and named != (own.get("data") or {}).get("dataset"):
        own = own_tables(str(named), own)
    settings = _validated(environments.merged(own, over or {}), where)
    settings._places.update({name: one.place for name, one in made.items()})
    for one in (settings, *made.values()):
        _check_source(one, settings.places, where)
    return settings


def _check_source(settings: Settings, places: Mapping[str, Place], where: str) -> None:
    """Raises ConfigError unless the environment that models come from is another one, and can be reached."""
    own = settings.place
    if not own.promote_from:
        return
    others = {name: place for name, place in places.items() if name != own.name}
    if own.promote_from not in others:
        raise ConfigError(
            f"{where}: [environments.{own.name}] promote_from = '{own.promote_from}' is not allowed; "
            f"the other environments: {', '.join(sorted(others)) or 'none'}"
        )
    region = others[own.promote_from].region
    if settings.security.network == "vpc" and region != own.region:
        raise ConfigError(
            f"{where}: [environments.{own.name}] network = 'vpc' has no route to {region}, where promote_from = "
            f"'{own.promote_from}' lies; both in one region, or network = 'none'"
        )


def _validated(tables: Mapping[str, Any], where: str) -> Settings:
    try:
        return Settings.model_validate(tables)
    except ValidationError as error:
        found = error.errors()
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ConfigError(f"{where}: {_sentence(found[0])}{more}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; LAB_CONFIG names the settings file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _overrides(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"LAB_OVERRIDES is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError('LAB_OVERRIDES must be a JSON object such as {"train": {"size": "base"}}')
    return value


def _sentence(error: ErrorDetails) -> str:
    where = error["loc"]
    if not where:
        return str(error.get("ctx", {}).get("error", error["msg"]))
    key = _key([str(part) for part in where])
    if error["type"] == "extra_forbidden":
        return f"{key} is unknown; allowed: {', '.join(_allowed_keys([str(part) for part in where[:-1]]))}"
    value = error["input"]
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    return f"{key} = {shown} is not allowed; {_allowed(error)}"


def _key(parts: list[str]) -> str:
    """`[train] size`, `[targets.cloud-cpu] formats`, or `[train]` for a whole table."""
    depth = 2 if parts[0] == "targets" else 1
    table, rest = ".".join(parts[:depth]), " ".join(parts[depth:])
    return f"[{table}] {rest}".strip()


def _allowed(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if error["type"] == "literal_error":
        return f"allowed: {str(context['expected']).replace(chr(39), '').replace(' or ', ', ')}"
    if error["type"] == "string_pattern_mismatch":
        return f"it must match {context['pattern']}"
    message = error["msg"]
    return f"{message[:1].lower()}{message[1:]}"


def _allowed_keys(parts: list[str]) -> Iterator[str]:
    model: type[BaseModel] = Settings
    for part in parts:
        if part in TARGETS:
            model = Target
        elif part in model.model_fields:
            model = _model_of(model.model_fields[part])
    return iter(sorted([*model.model_fields, *([] if parts else ["environments"])]))


def _model_of(field: FieldInfo) -> type[BaseModel]:
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else Settings
