"""Looks for drift in what the devices reported, and puts the metric that the alarm watches.

    python -m pipelines.jobs.watch --bucket BUCKET --namespace PREFIX/Edge [--days N] [--today DATE]

Each message holds the population stability index that the device measured against its model's contract, over `count`
samples. The fleet's index is their mean, weighted by samples. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import boto3

from pipelines.jobs import logs
from pipelines.jobs.lake import Lake

PREFIX = "telemetry/"
log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """One look at the last days."""
    args = _arguments(argv)
    logs.start(sys.stderr)
    lake = Lake(args.root or f"s3://{args.bucket}")
    since = args.today - timedelta(days=args.days - 1)
    summary = summarize(messages(lake, since))
    if args.namespace and summary["psi"] is not None:
        datum = {"MetricName": "DriftPsi", "Unit": "None", "Value": summary["psi"]}
        boto3.client("cloudwatch").put_metric_data(Namespace=args.namespace, MetricData=[datum])
    sys.stdout.write(json.dumps({"schema": 1, "since": since.isoformat(), **summary}) + "\n")
    return 0


def messages(lake: Lake, since: date) -> Iterator[dict[str, Any]]:
    """Every telemetry message of `since` and later. One that is not JSON is named in the log and left out."""
    for key in lake.keys(PREFIX):
        _, _, day, _ = (key.split("/") + [""] * 4)[:4]
        if day < since.isoformat():
            continue
        try:
            yield json.loads(lake.read(key))
        except ValueError as error:
            log.warning("%s is not JSON: %s", lake.uri(key), error)


def summarize(found: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """`psi` (None when no device measured one), and the same by thing and by model version; samples and messages."""
    total: list[tuple[float, int]] = []
    things: dict[str, list[tuple[float, int]]] = defaultdict(list)
    versions: dict[str, list[tuple[float, int]]] = defaultdict(list)
    seen = samples = 0
    for message in found:
        seen += 1
        count = int(message.get("count") or 0)
        samples += count
        if message.get("psi") is None or not count:
            continue
        pair = (float(message["psi"]), count)
        total.append(pair)
        things[str(message.get("thing"))].append(pair)
        versions[str(message.get("model_version"))].append(pair)
    return {
        "messages": seen,
        "samples": samples,
        "psi": _mean(total),
        "by_thing": {name: _mean(pairs) for name, pairs in sorted(things.items())},
        "by_version": {name: _mean(pairs) for name, pairs in sorted(versions.items())},
    }


def _mean(pairs: Sequence[tuple[float, int]]) -> float | None:
    weight = sum(count for _, count in pairs)
    return sum(value * count for value, count in pairs) / weight if weight else None


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipelines.jobs.watch")
    parser.add_argument("--bucket", default="")
    parser.add_argument("--root", default="", help="a local folder instead of a bucket")
    parser.add_argument("--namespace", default="", help="of the metric DriftPsi; none: nothing is put")
    parser.add_argument("--days", type=int, default=1, help="how many days back, today included")
    today = datetime.now(UTC).date()
    parser.add_argument("--today", type=date.fromisoformat, default=today, help="the last day of the look (UTC)")
    args = parser.parse_args(argv)
    if not args.bucket and not args.root:
        parser.error("one of --bucket and --root is needed")
    return args


if __name__ == "__main__":
    sys.exit(main())
