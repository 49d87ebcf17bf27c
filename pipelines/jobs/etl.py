"""Curates raw images on Spark: decoded, unique, split, checked; the Glue job's script.

    --bucket B --key raw/<dataset>/_manifest.json --run R --seed N --pixels N [--corrupt-share X] [--root DIR]

Writes below `curated/<run>/`: data_report.json always; train, validation and test as Parquet, then contract.json, only
when every hard data check holds. Otherwise it fails, and the last line says which check and why. `--root` names a local
folder instead of a bucket.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from models import datachecks
from models.contract import Contract
from pipelines.jobs import curate, fit, logs, manifest
from pipelines.jobs.lake import Lake

SPLITS = ("train", "validation", "test")
# What a report names one by one; it always has the totals.
NAMED = 100
log = logging.getLogger(__name__)


class DataRefused(Exception):
    """The data set does not pass its hard checks; the message names each failed one with its figures."""


def main(argv: Sequence[str] | None = None) -> int:
    """One curation. Raises DataRefused, ManifestError."""
    args = _arguments(argv)
    logs.start(sys.stderr)
    lake = Lake(args.root or f"s3://{args.bucket}")
    spark = SparkSession.builder.appName(args.JOB_NAME).getOrCreate()
    head = spark.sparkContext.parallelize([args.key], 1).map(lambda key: manifest.head(lake, key)).first()
    if isinstance(head, manifest.ManifestError):
        raise head
    pixels = args.pixels or head.pixels
    curated = f"curated/{args.run}"
    found = curate.examined(spark, lake, args.key, head, pixels).persist(StorageLevel.MEMORY_AND_DISK)
    channels = found.agg(F.max("channels")).first()[0] or 1
    samples = curate.unique(found.filter("why is null"), channels, args.seed).persist(StorageLevel.MEMORY_AND_DISK)
    report = _report(found, samples, head, args)
    found.unpersist()
    lake.write(f"{curated}/data_report.json", _json(report))
    if not report["passed"]:
        raise DataRefused(_refusal(report, lake.uri(f"{curated}/data_report.json")))
    for split in SPLITS:
        part = samples.filter(F.col("split") == split).select(*curate.COLUMNS)
        part.write.mode("overwrite").parquet(lake.uri(f"{curated}/{split}"))
    shape = (channels, pixels, pixels)
    facts = curate.facts(samples.filter("split = 'train'"), shape)
    contract = Contract(
        schema=1,
        dataset=head.dataset,
        modality=head.modality,
        task=head.task,
        shape=shape,
        classes=head.classes,
        mean=fit.mean(facts),
        std=fit.deviation(facts),
        counts=report["counts"],
        profile=fit.profile(facts),
    )
    lake.write(f"{curated}/contract.json", _saved(contract))
    log.info("curated %s: %s", lake.uri(curated), json.dumps(report["counts"], sort_keys=True))
    return 0


def _report(found: DataFrame, samples: DataFrame, head: manifest.Head, args: argparse.Namespace) -> dict[str, Any]:
    """The data report: totals from Spark, at most NAMED names of each kind of finding."""
    bad = found.filter("why is not null")
    total, refused = found.agg(F.count("*"), F.count("why")).first()
    copies = samples.filter("copies > 1 and split is not null")
    against = samples.filter("split is null")
    return datachecks.check(
        classes=head.classes,
        counts=_counts(samples, head.classes),
        total=total,
        corrupt_total=refused,
        corrupt=[{"source": row["path"], "why": row["why"]} for row in bad.orderBy("path").limit(NAMED).collect()],
        corrupt_share=args.corrupt_share,
        duplicates_total=copies.agg(F.sum(F.col("copies") - 1)).first()[0] or 0,
        duplicates=[
            {"source": row["source"], "same_as": row["other"]}
            for row in copies.orderBy("source").limit(NAMED).collect()
        ],
        conflicts_total=against.count(),
        conflicts=[
            {"sources": [row["source"], row["other"]], "labels": list(row["labels"])}
            for row in against.orderBy("source").limit(NAMED).collect()
        ],
    )


def _counts(samples: DataFrame, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    counts = {split: dict.fromkeys(classes, 0) for split in SPLITS}
    for row in samples.filter("split is not null").groupBy("split", "label_name").count().collect():
        counts[row["split"]][row["label_name"]] = row["count"]
    return counts


def _refusal(report: dict[str, Any], where: str) -> str:
    failed = [f"{check['name']}: {check['detail']}" for check in report["checks"] if not check["passed"]]
    named = [f"{item['source']} ({item['why']})" for item in report["corrupt"][:3]]
    return f"{'; '.join(failed)}{'; first: ' + ', '.join(named) if named else ''}; the whole report: {where}"


def _saved(contract: Contract) -> bytes:
    """The contract's own file format."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "contract.json"
        contract.save(path)
        return path.read_bytes()


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pipelines/jobs/etl.py", allow_abbrev=False)
    parser.add_argument("--JOB_NAME", default="etl", help="as Glue names it")
    parser.add_argument("--bucket", default="")
    parser.add_argument("--root", default="")
    parser.add_argument("--key", required=True, help="of the raw manifest")
    parser.add_argument("--run", required=True)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--pixels", type=int, default=0, help="side of every tensor; 0: as the manifest says")
    parser.add_argument("--corrupt-share", type=float, default=0.01, help="of files that may be unreadable")
    # Glue adds arguments of its own.
    args, _ = parser.parse_known_args(argv)
    if not args.bucket and not args.root:
        parser.error("one of --bucket and --root is needed")
    return args


if __name__ == "__main__":
    # Not sys.exit: Glue takes a SystemExit for a failure, and shows an exception's text as the run's error.
    main()
