"""The endpoint's log as JSON lines, and its figures among them in CloudWatch's embedded metric format."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Mapping
from typing import Any, TextIO

from pipelines.jobs import logs

COUNTS = ("requests", "refused", "failed", "samples", "batches", "largest_batch")


class Lines(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, and the traceback when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def start(stream: TextIO) -> None:
    """What the endpoint says goes to `stream`, a JSON document per line."""
    logs.start(stream)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(Lines())


def embedded(figures: Mapping[str, Any], namespace: str, dimensions: Mapping[str, str], now: float) -> str:
    """Figures of `models.stages` as a line from which CloudWatch makes metrics, `now` in seconds since 1970.

    Source: Amazon CloudWatch, "Specification: Embedded metric format". What is no number goes along as a property.
    """
    units = {name: "Milliseconds" for name in figures if name.endswith("_ms")}
    units |= {name: "Count" for name in COUNTS if name in figures}
    directive = {
        "Namespace": namespace,
        "Dimensions": [sorted(dimensions)],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit in units.items()],
    }
    about = {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": about, **dimensions, **figures})
