"""Times as people write them, as seconds since 1970: ISO 8601, or a form that a pattern names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache

MONTH = re.compile(r"\d{4}-\d{2}")
# What is worth trying patterns on: three numbers, or a month by its name and a number.
WRITTEN = re.compile(
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?|\d{1,2}/\d{4}"
    r"|(?=.*\d)([\d., /-]*)(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}[-/., ].*"
    r"|\d{1,4}[-/. ](?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
)
# Day before month comes first where both would do.
DAYS = (
    "%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d",
    "%Y.%m.%d", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d %Y", "%b %d, %Y", "%B %d, %Y", "%b-%d-%Y",
)  # fmt: skip
MONTHS = ("%m/%Y", "%b %Y", "%b-%Y", "%b-%y", "%Y %b", "%Y-%b", "%B %Y")
TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S")


def moment(text: str, pattern: str = "") -> float | None:
    """Seconds since 1970 of a date, in UTC when it names no zone; None for what is none.

    `pattern`, in the words of `strptime`, is tried first; ISO 8601 always is, a month such as 2024-01 included.
    """
    if pattern:
        try:
            return _seconds(datetime.strptime(text, pattern))
        except ValueError:
            pass
    try:
        return _seconds(datetime.fromisoformat(f"{text}-01" if MONTH.fullmatch(text) else text))
    except ValueError:
        return None


def patterns(texts: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Each pattern that parses a text, with the share of the texts that it parses; the most fitting ones first."""
    listed = list(texts)
    tried = dict.fromkeys(found for text in listed[:5] for found in _fitting(text))
    shares = {pattern: sum(_parses(text, pattern) for text in listed) / len(listed) for pattern in tried}
    yield from sorted(shares.items(), key=lambda item: -item[1])


def is_written(text: str) -> bool:
    """Whether a text is a date that a pattern can name, of which ISO 8601 is none."""
    return bool(_fitting(text))


def _fitting(text: str) -> Sequence[str]:
    if not WRITTEN.fullmatch(text):
        return ()
    return [found for found in _all() if _parses(text, found)]


@cache
def _all() -> tuple[str, ...]:
    return (*(day + time for day, time in itertools.product(DAYS, TIMES)), *MONTHS)


def _parses(text: str, pattern: str) -> bool:
    try:
        datetime.strptime(text, pattern)
    except ValueError:
        return False
    return True


def _seconds(found: datetime) -> float:
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
