"""Curates raw images on Spark, the Glue job's script; they come out decoded, unique, split.

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
    pixels, curated = args.pixels or head.pixels, f"curated/{args.run}"
    found = curate.examined(spark, lake, args.key, head, pixels).persist(StorageLevel.MEMORY_AND_DISK)
    totals = found.agg(
        F.count("*").alias("files"), F.count("why").alias("unusable"), F.max("channels").alias("channels")
    )
    files, unusable, channels = totals.first()
    shape = (channels or 1, pixels, pixels)
    samples = curate.unique(found.filter("why is null"), shape[0], args.seed).persist(StorageLevel.MEMORY_AND_DISK)
    report = _report(found, samples, files, unusable, head.classes, args.corrupt_share)
    lake.write(f"{curated}/data_report.json", json.dumps(report, indent=1, sort_keys=True).encode())
    if not report["passed"]:
        raise DataRefused(_refusal(report, lake.uri(f"{curated}/data_report.json")))
    found.unpersist()
    for split in SPLITS:
        part = samples.filter(F.col("split") == split).select(*curate.COLUMNS)
        part.write.mode("overwrite").parquet(lake.uri(f"{curated}/{split}"))
    contract = _contract(head, shape, report["counts"], curate.facts(samples.filter("split = 'train'"), shape))
    lake.write(f"{curated}/contract.json", _saved(contract))
    log.info("curated %s: %s", lake.uri(curated), json.dumps(report["counts"], sort_keys=True))
    return 0


def _report(
    found: DataFrame, samples: DataFrame, files: int, unusable: int, classes: Sequence[str], corrupt_share: float
) -> dict[str, Any]:
    """The data report: totals that Spark counted, and at most NAMED names of each kind of finding."""
    counts = {split: dict.fromkeys(classes, 0) for split in SPLITS}
    copies = conflicts = 0
    groups = samples.groupBy("split", "label_name").agg(F.count("*").alias("ids"), F.sum("copies").alias("files"))
    for row in groups.collect():
        if row["split"] is None:
            conflicts += row["ids"]
        else:
            counts[row["split"]][row["label_name"]] = row["ids"]
            copies += row["files"] - row["ids"]
    return datachecks.check(
        classes=classes,
        counts=counts,
        total=files,
        corrupt_total=unusable,
        corrupt=[
            {"source": row["path"], "why": row["why"]}
            for row in _some(found.filter("why is not null"), unusable, "path")
        ],
        corrupt_share=corrupt_share,
        duplicates_total=copies,
        duplicates=[
            {"source": row["source"], "same_as": row["other"]}
            for row in _some(samples.filter("copies > 1 and split is not null"), copies, "source")
        ],
        conflicts_total=conflicts,
        conflicts=[
            {"sources": [row["source"], row["other"]], "labels": list(row["labels"])}
            for row in _some(samples.filter("split is null"), conflicts, "source")
        ],
    )


def _some(rows: DataFrame, total: int, by: str) -> list[Any]:
    """The first NAMED rows without their tensors; where the total is zero, Spark need not look."""
    return rows.drop("tensor").orderBy(by).limit(NAMED).collect() if total else []


def _contract(
    head: manifest.Head, shape: tuple[int, int, int], counts: dict[str, dict[str, int]], facts: fit.Facts
) -> Contract:
    return Contract(
        schema=1,
        dataset=head.dataset,
        modality=head.modality,
        task=head.task,
        shape=shape,
        classes=head.classes,
        mean=fit.mean(facts),
        std=fit.deviation(facts),
        counts=counts,
        profile=fit.profile(facts),
    )


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
