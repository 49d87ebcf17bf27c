"""What every step agrees on about the data: shape, classes, training statistics.

ETL writes it beside the curated data; training, export, endpoint and device read it. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

SCHEMA = 1


class ContractError(Exception):
    """A contract that cannot be read or does not hold together; the message names file and field."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """One data set as the net sees it.

    shape    (C, H, W) of the raw uint8 tensor
    classes  names by index
    mean     per channel over the training split, 0..255
    std      per channel over the training split, 0..255, above zero
    counts   samples by split and class name
    profile  by statistic `{"edges": [...], "shares": [...]}` over the training split, for the drift watch
    """

    schema: int
    dataset: str
    modality: str
    task: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: Mapping[str, Mapping[str, int]]
    profile: Mapping[str, Any]

    def __post_init__(self) -> None:
        channels = self.shape[0] if len(self.shape) == 3 else 0
        if self.schema != SCHEMA:
            raise ContractError(f"schema {self.schema}; this code reads {SCHEMA}")
        if channels < 1 or min(self.shape) < 1:
            raise ContractError(f"shape {list(self.shape)} is not (channels, height, width)")
        if len(self.mean) != channels or len(self.std) != channels or min(self.std) <= 0:
            raise ContractError(f"mean and std need {channels} values each, std above zero")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ContractError(f"classes {list(self.classes)}: at least two, each once")

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def digest(self) -> str:
        """sha256 of the contract's canonical JSON: equal for equal contracts, on every machine."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Writes the contract as JSON."""
        path.write_text(json.dumps(self.document(), indent=1, sort_keys=True) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> Contract:
        """Reads a contract. Raises ContractError for one that is missing, broken or contradicts itself."""
        try:
            found = json.loads(path.read_text("utf-8"))
            given = {field.name: found[field.name] for field in fields(cls)}
            for name in ("shape", "classes", "mean", "std"):
                given[name] = tuple(given[name])
            return cls(**given)
        except FileNotFoundError:
            raise ContractError(f"{path} is missing") from None
        except KeyError as error:
            raise ContractError(f"{path}: the field {error} is missing") from None
        except (ValueError, TypeError) as error:
            raise ContractError(f"{path} is no contract: {error}") from None
