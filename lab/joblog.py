"""Keeps a job's log, its last words for errors and all of it for CloudWatch Logs."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moto.logs.exceptions import ResourceAlreadyExistsException
from moto.logs.models import logs_backends

from lab import access, embedded, onbehalf

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
TAIL_LINES = 15
# CloudWatch Logs takes at most 10,000 events in a call and 256 KB in an event.
BATCH = 10_000
EVENT_BYTES = 256 * 1024 - 26
_JAVA_FRAME = re.compile(r"\s+(at [\w.$/<>]+\(|\.\.\. \d+ more)")


def text(log: Path) -> str:
    """All of a log; empty when there is none."""
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def tail(log: Path, lines: int = TAIL_LINES, characters: int = 1024) -> str:
    """The last lines of a log that say something, cut at the front to what a FailureReason may hold.

    Frames of a Java stack, which Spark writes by the dozen, are left out.
    """
    said = [line for line in text(log).splitlines() if line.strip() and not _JAVA_FRAME.match(line)][-lines:]
    return "\n".join(said)[-characters:]


def to_cloudwatch(
    engine: Engine, role_arn: str, group: str, stream: str, lines: Sequence[str], *, more: Sequence[str] = ()
) -> None:
    """Adds `lines` to a log stream, which comes into being with its group; all get the time of now.

    Metrics that they hold in the embedded format reach CloudWatch. The role writes them, with the further actions
    `more`; without the permission there is no log, as in AWS, and the engine's own log says why.
    """
    try:
        access.require(engine, role_arn, onbehalf.writes_log(engine, group, stream, *more))
    except access.AccessDenied as error:
        LOG.error("no log in %s: %s", group, error.message)
        return
    backend = logs_backends[engine.account][engine.region]
    with contextlib.suppress(ResourceAlreadyExistsException):
        backend.create_log_group(group, {})
    backend.ensure_log_stream(group, stream)
    now = int(time.time() * 1000)
    events = [{"timestamp": now, "message": line[:EVENT_BYTES]} for line in lines if line]
    for first in range(0, len(events), BATCH):
        backend.put_log_events(group, stream, events[first : first + BATCH])
    embedded.publish(engine, lines)
