"""The runtime component's configuration: typed, coerced, checked.

A nucleus may hand numbers over as strings (`"60"`, `"300.0"`) and booleans as words, so every value is coerced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

RESERVED = ("accessControl",)


class SettingsError(Exception):
    """A value cannot be used; the message names the key, the value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """prefix: first level of every topic · model_component: whose store holds the models · source: folder of images,
    relative to the work folder · interval_s: seconds between telemetry · poll_s: seconds between looks at the store and
    the source · threads: of ONNX Runtime, 0 lets it choose."""

    prefix: str = "lab"
    model_component: str = ""
    source: str = "inbox"
    interval_s: float = 60.0
    poll_s: float = 0.5
    threads: int = 1

    def __post_init__(self) -> None:
        _within("interval_s", self.interval_s, 0.1, 86_400)
        _within("poll_s", self.poll_s, 0.01, 60)
        _within("threads", self.threads, 0, 256)
        if not self.prefix or any(sign in self.prefix for sign in "+#/ "):
            raise SettingsError(f"prefix is {self.prefix!r}; one topic level without +, # or / is allowed")
        if "/" in self.model_component:
            raise SettingsError(f"model_component is {self.model_component!r}; a component's name is allowed")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{name} is {value:g}; {low:g} to {high:g} is allowed")


def read(raw: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Settings from a component's configuration, and the keys that mean nothing to us. Raises SettingsError."""
    kinds = {field.name: type(field.default) for field in fields(Settings)}
    values = {name: _coerced(name, raw[name], kind) for name, kind in kinds.items() if name in raw}
    return Settings(**values), sorted(set(raw) - set(kinds) - set(RESERVED))


def _coerced(name: str, value: Any, kind: type) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise SettingsError(f"{name} is {value!r}; {kind.__name__} is wanted")
    if kind is str:
        return str(value)
    try:
        number = float(value)
    except ValueError as error:
        raise SettingsError(f"{name} is {value!r}; a number is wanted") from error
    if kind is int and number != int(number):
        raise SettingsError(f"{name} is {value!r}; a whole number is wanted")
    return kind(number)
