"""Curates raw data on Spark, the Glue job's script; they come out decoded, unique, split.

    --bucket B --key raw/<dataset>/_manifest.json --run R --seed N --pixels N [--corrupt-share X] [--root DIR]

Writes below `curated/<run>/`: data_report.json always; train, validation and test as Parquet, then contract.json, only
when every hard data check holds. Otherwise it fails, and the last line says which check and why. `--root` names a local
folder instead of a bucket.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from models.contract import Contract
from pipelines.jobs import curate_images, curate_tables, logs, manifest
from pipelines.jobs.curate import COLUMNS
from pipelines.jobs.lake import Lake
from pipelines.jobs.split import SPLITS

PARTITIONS = "spark.sql.shuffle.partitions"
# Of raw data to a task: with what Spark needs to sort them, a small part of any executor's memory.
PARTITION_BYTES = 16 * 2**20
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
    spark.conf.set(PARTITIONS, partitions(head, pixels, int(spark.conf.get(PARTITIONS))))
    if head.modality == "image":
        found = curate_images.run(spark, lake, args.key, head, pixels, args.seed, args.corrupt_share)
    else:
        found = curate_tables.run(spark, lake, args.key, head, args.seed, args.corrupt_share)
    lake.write(f"{curated}/data_report.json", json.dumps(found.report, indent=1, sort_keys=True).encode())
    if not found.report["passed"]:
        raise DataRefused(_refusal(found.report, lake.uri(f"{curated}/data_report.json")))
    for split in SPLITS:
        part = found.samples.filter(F.col("split") == split).select(*COLUMNS)
        part.write.mode("overwrite").parquet(lake.uri(f"{curated}/{split}"))
    lake.write(f"{curated}/contract.json", _saved(found.contract()))
    log.info("curated %s: %s", lake.uri(curated), json.dumps(found.report["counts"], sort_keys=True))
    return 0


def partitions(head: manifest.Head, pixels: int, least: int) -> int:
    """Into how many parts Spark cuts what it sorts: `least`, or more where the data are large, so that no part is."""
    size = sum(head.table.sizes.values()) if head.table else head.files * 3 * pixels * pixels
    return max(least, math.ceil(size / PARTITION_BYTES))


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
