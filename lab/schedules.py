"""EventBridge's schedules: a rule's cron or rate falls due by this machine's clock, and its targets are called.

Covers: rate(N minutes, hours, days) from when the engine saw the rule first; cron with numbers, names, lists, ranges,
    steps, `*` and `?`, in UTC, to the minute. A minute in which the machine slept is not made up for.
Does not cover, and refuses when the rule is made: L, W and # in cron.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from moto.events.models import Rule, events_backends

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
MINUTE = 60
UNITS = {"minute": 1, "hour": 60, "day": 24 * 60}
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# Of each field: its lowest and highest value, and the names that stand for values from the lowest on.
FIELDS: Sequence[tuple[int, int, Sequence[str]]] = (
    (0, 59, ()), (0, 23, ()), (1, 31, ()), (1, 12, MONTHS), (1, 7, DAYS), (1970, 2199, ()),
)  # fmt: skip
Due = Callable[[datetime, datetime], bool]


def install(engine: Engine) -> None:
    """Starts the clock, which looks once a minute."""
    threading.Thread(target=_run, args=(engine,), name="schedules", daemon=True).start()


def _run(engine: Engine) -> None:
    seen: dict[str, datetime] = {}
    while True:
        time.sleep(MINUTE - time.time() % MINUTE + 0.01)
        try:
            tick(engine, datetime.now(UTC), seen)
        except Exception:
            LOG.exception("schedules")


def tick(engine: Engine, now: datetime, seen: dict[str, datetime]) -> None:
    """Calls the targets of every rule that is due in this minute; `seen` is when each rule was there first."""
    from lab import events

    now = now.replace(second=0, microsecond=0)
    for rule in list(events_backends[engine.account][engine.region].describe_event_bus("default").rules.values()):
        if rule.scheduled_expression and rule.state == "ENABLED":
            since = seen.setdefault(rule.arn, now)
            if parse(rule.scheduled_expression)(now, since):
                events.deliver(engine, rule, _event(engine, rule, now))


def _event(engine: Engine, rule: Rule, now: datetime) -> dict[str, object]:
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": engine.account,
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": engine.region,
        "resources": [rule.arn],
        "detail": {},
    }


def parse(expression: str) -> Due:
    """Whether a schedule is due at a minute, given when its rule was there first. Raises ValueError in one line."""
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    if rate:
        every = int(rate[1]) * UNITS[rate[2]]
        if not every:
            raise ValueError(f"{expression}: a rate is at least one")
        return lambda now, since: now > since and int((now - since).total_seconds() // MINUTE) % every == 0
    cron = re.fullmatch(r"cron\((.+)\)", expression)
    fields = cron[1].split() if cron else []
    if len(fields) != len(FIELDS):
        raise ValueError(f"{expression} is no schedule: rate(1 day), or cron of six fields such as cron(0 20 * * ? *)")
    allowed = [_values(field, *bounds) for field, bounds in zip(fields, FIELDS, strict=True)]
    return lambda now, since: all(value in values for value, values in zip(_parts(now), allowed, strict=True))


def _parts(now: datetime) -> tuple[int, ...]:
    """Minute, hour, day, month, day of the week from Sunday as 1, year."""
    return now.minute, now.hour, now.day, now.month, now.isoweekday() % 7 + 1, now.year


def _values(field: str, low: int, high: int, names: Sequence[str]) -> set[int]:
    """Every value that a field of cron allows."""
    found: set[int] = set()
    for part in field.upper().split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span in ("*", "?"):
            start, end = low, high
        else:
            start = _number(first, low, names)
            end = _number(last, low, names) if last else high if step else start
        found |= set(range(start, end + 1, _number(step, low, ()) if step else 1))
    if not found or min(found) < low or max(found) > high:
        raise ValueError(f"{field} in cron: allowed are {low} to {high}")
    return found


def _number(text: str, low: int, names: Sequence[str]) -> int:
    if text in names:
        return names.index(text) + low
    if not text.isdigit():
        raise ValueError(f"{text} in cron is not covered on the desk: numbers, names, lists, ranges and steps are")
    return int(text)
