"""What every step agrees on about the data: shape, columns, classes or target, training statistics.

ETL writes it beside the curated data; training, export, endpoint and device read it. Standard library only.

    image       raw tensor uint8 [C, H, W]
    tabular     raw tensor float32 [F], one value per column
    timeseries  raw tensor float32 [T, F], a window of T steps

In a float tensor NaN stands for a missing value, and a category is its index in the column's vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

SCHEMA = 2
# What each modality can be asked, and the length of its shape.
TASKS = {
    "image": ("classification", "anomaly"),
    "tabular": ("classification", "regression"),
    "timeseries": ("classification", "regression", "rul", "anomaly"),
}
DIMENSIONS = {"image": 3, "tabular": 1, "timeseries": 2}
# The two classes of anomaly detection, in this order.
ANOMALY = ("normal", "anomaly")
CATEGORICAL = frozenset({"classification", "anomaly"})
# An answer that a person should see: a confidence below the one, or a number further than the other many deviations
# from the mean of the training targets.
CONFIDENT = 0.6
DEVIATIONS = 3.0


class ContractError(Exception):
    """A contract that cannot be read or does not hold together; the message names file and field."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One input column of a table or series: a number, or a category with its vocabulary by index."""

    name: str
    values: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """The number that a regression gives: its column, mean and deviation over the training split, and its cap."""

    name: str
    mean: float
    std: float
    cap: float | None = None


@dataclass(frozen=True, kw_only=True)
class Contract:
    """One data set as the net sees it.

    shape    of the raw tensor, see above
    classes  names by index; empty when the answer is a number
    mean     per channel (0..255) or column over the training split, missing values left out; 0 for a category
    std      likewise, above zero; 1 for a category
    counts   samples by split and class name; by split and `all` when the answer is a number
    profile  by statistic `{"edges": [...], "shares": [...]}` over the training split, for the drift watch
    columns  the F columns of a table or series, in the tensor's order
    target   of a regression
    missing  the texts that stand for a missing value, beside the empty one
    group    the column that tells units apart, `time` the one that orders them, "" for none
    stride   steps from one window to the next
    decimal  what stands before the decimals of a number in a text, a point or a comma
    """

    schema: int
    dataset: str
    modality: str
    task: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: Mapping[str, Mapping[str, int]]
    profile: Mapping[str, Any]
    columns: tuple[Column, ...] = ()
    target: Target | None = None
    missing: tuple[str, ...] = ()
    group: str = ""
    time: str = ""
    stride: int = 1
    decimal: str = "."

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ContractError(f"schema {self.schema}; this code reads {SCHEMA}")
        if self.task not in TASKS.get(self.modality, ()):
            raise ContractError(f"{self.modality} {self.task} is no task that is known here")
        if len(self.shape) != DIMENSIONS[self.modality] or min(self.shape) < 1:
            raise ContractError(f"shape {list(self.shape)} is none of {self.modality}")
        if len(self.mean) != self.width or len(self.std) != self.width or min(self.std) <= 0:
            raise ContractError(f"mean and std need {self.width} values each, std above zero")
        if self.modality != "image" and len(self.columns) != self.width:
            raise ContractError(f"{len(self.columns)} columns, the shape has {self.width}")
        if self.categorical and (len(self.classes) < 2 or len(set(self.classes)) != len(self.classes)):
            raise ContractError(f"classes {list(self.classes)}: at least two, each once")
        if self.decimal not in (".", ","):
            raise ContractError(f"'{self.decimal}' stands before no decimals; a point or a comma does")
        if not self.categorical and (self.classes or self.target is None or self.target.std <= 0):
            raise ContractError(f"{self.task} needs a target with a deviation above zero, and no classes")

    @property
    def categorical(self) -> bool:
        """Whether the answer is one of `classes`; else it is a number."""
        return self.task in CATEGORICAL

    @property
    def width(self) -> int:
        """Channels of an image, columns of a table or series."""
        return self.shape[0] if self.modality == "image" else self.shape[-1]

    @property
    def dtype(self) -> str:
        """numpy's name for the raw tensor's type."""
        return "uint8" if self.modality == "image" else "float32"

    def uncertain(self, answer: float) -> bool:
        """Whether an answer, the largest probability or the number, is one to look at; what is not finite always is."""
        if self.target is None:
            return not answer >= CONFIDENT
        return not abs(answer - self.target.mean) <= DEVIATIONS * self.target.std

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
            for name in ("shape", "classes", "mean", "std", "missing"):
                given[name] = tuple(given[name])
            given["columns"] = tuple(_column(row) for row in given["columns"])
            given["target"] = Target(**given["target"]) if given["target"] is not None else None
            return cls(**given)
        except FileNotFoundError:
            raise ContractError(f"{path} is missing") from None
        except KeyError as error:
            raise ContractError(f"{path}: the field {error} is missing") from None
        except (ValueError, TypeError) as error:
            raise ContractError(f"{path} is no contract: {error}") from None


def _column(row: Mapping[str, Any]) -> Column:
    values = row["values"]
    return Column(name=row["name"], values=None if values is None else tuple(values))
