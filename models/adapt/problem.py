"""What adapt says when data cannot be taken as they are: where and what, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdaptError(Exception):
    """Data that cannot be taken: `message` names file, row or column, `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like `name`, whatever its case; "" when none is like it."""
    by_lower = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), by_lower, 1, 0.5)
    return by_lower[found[0]] if found else ""


def shown(text: str) -> str:
    """A cell's text for people, with what cannot be seen spelled out."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def some(names: Iterable[object], most: int = 8) -> str:
    """Names with commas between them, the first ones of many."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
