"""Looks for drift in what devices reported and in what models were asked, and puts the metric that the alarm watches.

    python -m pipelines.jobs.watch --bucket BUCKET --namespace PREFIX/Edge [--contract KEY] [--days N] [--today DATE]

Each message holds the population stability index that the device measured against its model's contract, over `count`
samples. The fleet's index is their mean, weighted by samples. With the contract of the model that serves, captured
requests of the endpoint and samples that devices took at random are judged as a device judges its windows, with the
stated rate of false alarms. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3

from models import drift
from models.contract import Contract
from pipelines.jobs import logs, seen
from pipelines.jobs.lake import Lake

PREFIX = "telemetry/"
WORST = 5  # features shown
log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """One look at the last days."""
    args = _arguments(argv)
    logs.start(sys.stderr)
    lake = Lake(args.root or f"s3://{args.bucket}")
    since = args.today - timedelta(days=args.days - 1)
    summary = summarize(messages(lake, since))
    found = judged(lake, args.contract, since, args.alpha, args.drift_psi) if args.contract else {}
    data = [{"MetricName": "DriftPsi", "Unit": "None", "Value": summary["psi"]}] if summary["psi"] is not None else []
    data += [{"MetricName": "DriftAlerts", "Unit": "Count", "Value": 1.0} for one in found.values() if one["alarm"]]
    if args.namespace and data:
        boto3.client("cloudwatch").put_metric_data(Namespace=args.namespace, MetricData=data)
    sys.stdout.write(json.dumps({"schema": 1, "since": since.isoformat(), **summary, **found}) + "\n")
    return 0


def judged(lake: Lake, contract_key: str, since: date, alpha: float, effect: float) -> dict[str, dict[str, Any]]:
    """The judgement on what `endpoint` and `devices` were asked; one of which nothing was seen is left out."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "contract.json"
        path.write_bytes(lake.read(contract_key))
        contract = Contract.load(path)
    found = {}
    for name, batches in (("endpoint", seen.captured), ("devices", seen.sampled)):
        watch = drift.watch(contract)
        for batch in batches(lake, contract, since):
            watch.add(batch)
        if watch.seen:
            judgement = asdict(watch.judge(alpha, effect))
            found[name] = {**judgement, "features": judgement["features"][:WORST]}
    return found


def messages(lake: Lake, since: date) -> Iterator[dict[str, Any]]:
    """Every telemetry message of `since` and later. One that is not JSON is named in the log and left out."""
    for key in lake.keys(PREFIX):
        _, _, day, _ = (key.split("/") + [""] * 4)[:4]
        if day < since.isoformat() or "/alert-" in key:
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
    parser.add_argument("--namespace", default="", help="of DriftPsi and DriftAlerts; none: nothing is put")
    parser.add_argument("--contract", default="", help="key of the serving model's contract.json; none: no requests")
    parser.add_argument("--alpha", type=float, default=0.01, help="share of windows of unmoved data that may alarm")
    parser.add_argument("--drift-psi", type=float, default=0.25, help="index below which nothing alarms")
    parser.add_argument("--days", type=int, default=1, help="how many days back, today included")
    today = datetime.now(UTC).date()
    parser.add_argument("--today", type=date.fromisoformat, default=today, help="the last day of the look (UTC)")
    args = parser.parse_args(argv)
    if not args.bucket and not args.root:
        parser.error("one of --bucket and --root is needed")
    return args


if __name__ == "__main__":
    sys.exit(main())
