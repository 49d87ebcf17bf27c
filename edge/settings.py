"""The runtime component's configuration: typed, coerced, checked.

A nucleus may hand numbers over as strings (`"60"`, `"300.0"`) and booleans as words, so every value is coerced.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

RESERVED = ("accessControl",)
SCHEMES = ("folder", "replay", "topic", "camera")
WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
KEY_BYTES = 32


class SettingsError(Exception):
    """A value cannot be used; the message names the key, the value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a deployment may set. Every key but those marked * is applied at once, without a restart.

    prefix*           first level of every topic
    model_component   whose store holds the models
    source            what the device looks at: `folder:PATH` below the work folder, `replay:PATH`, `topic:NAME`, or
                      `camera:COMMAND` that writes MJPEG; a word alone is a folder
    rate_hz           samples a second that a replay gives
    interval_s        seconds between telemetry
    poll_s            seconds between looks at the store and at a folder
    threads           of the engine; 0 takes what the container's quota pays for
    budget_ms         latency that an answer may take; 0 takes the model's own
    deadline_ms       a sample that waited longer is dropped unanswered; 0 for never
    publish           whether each answer goes to the cloud, in batches
    ping_s*           seconds between proofs that subscriptions live; 0 for none
    patience_s        seconds without a nucleus after which the process ends, to be started with a new token
    probation_s       a new model is on probation for so long, or until it gave
    probation_n       so many answers
    errors_percent    errors of a model on probation above which the model before comes back
    hang_s            seconds without an answer after which a model counts as hanging
    drift_psi         stability index of a window above which the device reports drift
    memory_mb         resident size at which the process ends, to be started again; 0 for no limit
    free_mb           space that is left free on the disk, whatever comes
    spool_mb*         disk for messages that wait for the cloud
    spool_hours*      how long telemetry and results wait for it
    capture_per_day   samples kept for labelling in a day; 0 keeps none
    capture_mb        disk for samples that wait for their upload
    capture_below     confidence below which a sample is uncertain
    capture_inputs    whether the sample itself is kept, or, where it may show people, only what was answered
    bucket            where samples go; empty leaves them on the device
    public_key        Ed25519, 32 bytes in base64: a model is refused unless this key signed it; empty asks for none
    """

    prefix: str = "lab"
    model_component: str = ""
    source: str = "folder:inbox"
    rate_hz: float = 10.0
    interval_s: float = 60.0
    poll_s: float = 0.5
    threads: int = 1
    budget_ms: float = 0.0
    deadline_ms: float = 0.0
    publish: bool = False
    ping_s: float = 60.0
    patience_s: float = 30.0
    probation_s: float = 300.0
    probation_n: int = 200
    errors_percent: float = 5.0
    hang_s: float = 10.0
    drift_psi: float = 0.25
    memory_mb: int = 0
    free_mb: int = 16
    spool_mb: float = 8.0
    spool_hours: float = 168.0
    capture_per_day: int = 0
    capture_mb: float = 16.0
    capture_below: float = 0.7
    capture_inputs: bool = True
    bucket: str = ""
    public_key: str = ""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(f"{name} is {value:g}; {low:g} to {high:g} is allowed")
        if not self.prefix or any(sign in self.prefix for sign in "+#/ "):
            raise SettingsError(f"prefix is {self.prefix!r}; one topic level without +, # or / is allowed")
        if "/" in self.model_component:
            raise SettingsError(f"model_component is {self.model_component!r}; a component's name is allowed")
        scheme, _, rest = self.source.partition(":")
        if _ and (scheme not in SCHEMES or not rest):
            raise SettingsError(f"source is {self.source!r}; allowed: {', '.join(f'{one}:…' for one in SCHEMES)}")
        if self.public_key and _decoded(self.public_key) is None:
            raise SettingsError("public_key is not 32 bytes in base64, as an Ed25519 key is")

    @property
    def looks_at(self) -> tuple[str, str]:
        """Scheme and rest of `source`."""
        scheme, colon, rest = self.source.partition(":")
        return (scheme, rest) if colon else ("folder", scheme)

    @property
    def key(self) -> bytes | None:
        """The public key's bytes, None without one."""
        return _decoded(self.public_key) if self.public_key else None


_RANGES: dict[str, tuple[float, float]] = {
    "rate_hz": (0.01, 10_000),
    "interval_s": (0.1, 86_400),
    "poll_s": (0.01, 60),
    "threads": (0, 256),
    "budget_ms": (0, 600_000),
    "deadline_ms": (0, 600_000),
    "ping_s": (0, 86_400),
    "patience_s": (1, 86_400),
    "probation_s": (0, 86_400),
    "probation_n": (0, 1_000_000),
    "errors_percent": (0, 100),
    "hang_s": (0.5, 3_600),
    "drift_psi": (0.01, 100),
    "memory_mb": (0, 1_000_000),
    "free_mb": (0, 1_000_000),
    "spool_mb": (1, 10_000),
    "spool_hours": (0.01, 10_000),
    "capture_per_day": (0, 100_000),
    "capture_mb": (0, 100_000),
    "capture_below": (0, 1),
}


def read(raw: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Settings from a component's configuration, and the keys that mean nothing to us. Raises SettingsError."""
    kinds = {field.name: type(field.default) for field in fields(Settings)}
    values = {name: _coerced(name, raw[name], kind) for name, kind in kinds.items() if name in raw}
    return Settings(**values), sorted(set(raw) - set(kinds) - set(RESERVED))


def _coerced(name: str, value: Any, kind: type) -> Any:
    if kind is bool:
        return _truth(name, value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise SettingsError(f"{name} is {value!r}; {kind.__name__} is wanted")
    if kind is str:
        return str(value)
    try:
        number = float(value)
        whole = int(number)
    except (ValueError, OverflowError) as error:  # words, nan and infinity
        raise SettingsError(f"{name} is {value!r}; a number is wanted") from error
    if kind is int and number != whole:
        raise SettingsError(f"{name} is {value!r}; a whole number is wanted")
    return kind(number)


def _truth(name: str, value: Any) -> bool:
    """True and false as themselves, as words, or as the 1.0 that a nucleus made of them."""
    word = str(value).strip().lower()
    found = WORDS.get(word.removesuffix(".0"))
    if found is None:
        raise SettingsError(f"{name} is {value!r}; true or false is wanted")
    return found


def _decoded(text: str) -> bytes | None:
    try:
        key = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None
