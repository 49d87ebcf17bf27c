"""Whether a target can be learned: two classes at least, two samples of each, a number where a number is asked for."""

from __future__ import annotations

from collections import Counter

import numpy as np

from models.adapt import guess as guesses
from models.adapt.columns import NUMBER, Column
from models.adapt.problem import AdaptError
from models.adapt.sample import Sample
from models.adapt.source import MOST_CLASSES


def check(column: Column, task: str, taken: Sample) -> None:
    """Raises AdaptError for a target that cannot be learned."""
    count, name = int(column.present.sum()), f"the target '{column.name}' of {taken.files[0].name}"
    if column.distinct < 2:
        value = next((word for word in column.words() if word), "nothing")
        raise AdaptError(f"{name} has one class: '{value}' in all {count} rows",
                         "bring samples of another class, or name another --target")  # fmt: skip
    if task == "regression":
        if column.kind == NUMBER and not guesses.looks_like_id(column):
            return
        if column.kind == NUMBER:
            raise AdaptError(f"{name} is different in each row, as a number of rows is", "name another --target")
        row = int(np.flatnonzero(column.present)[0])
        cell = taken.cells[column.name][row]
        raise AdaptError(f"{taken.where(row)}, column '{column.name}': '{cell}' is no number",
                         "regression needs a number: name another --target, or --task classification")  # fmt: skip
    if column.distinct == count:
        raise AdaptError(f"{name} is different in each of its {count} rows, so no class has two samples",
                         "name another --target, or --task regression for a quantity")  # fmt: skip
    if column.distinct > MOST_CLASSES:
        raise AdaptError(f"{name} has {column.distinct:,} classes; at most {MOST_CLASSES:,} are learned",
                         "merge classes into broader ones, or --task regression for a quantity")  # fmt: skip
    words = Counter(word for word in column.words() if word)
    alone = [word for word, n in words.items() if n < 2]
    if alone and taken.whole:
        row = column.words().index(alone[0])
        raise AdaptError(
            f"{taken.where(row)}: class '{alone[0]}' of {name} has one sample, each class needs two"
            + (f" (and {len(alone) - 1} more such classes)" if len(alone) > 1 else ""),
            "bring more samples of it, merge it into another class, or leave its row out",
        )
