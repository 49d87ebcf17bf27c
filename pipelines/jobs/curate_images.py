"""Pictures from raw files to samples, report and contract."""

from __future__ import annotations

from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from models import datachecks
from models.contract import SCHEMA, Contract
from pipelines.jobs import curate, fit
from pipelines.jobs.curate import NAMED, Curated
from pipelines.jobs.lake import Lake
from pipelines.jobs.manifest import Head
from pipelines.jobs.split import SPLITS


def run(spark: SparkSession, lake: Lake, key: str, head: Head, pixels: int, seed: int, corrupt_share: float) -> Curated:
    """What becomes of the files of the manifest at `key`."""
    found = curate.examined(spark, lake, key, head, pixels).persist(StorageLevel.DISK_ONLY)
    totals = found.agg(
        F.count("*").alias("files"), F.count("why").alias("unusable"), F.max("channels").alias("channels")
    )
    files, unusable, channels = totals.first()
    shape = (channels or 1, pixels, pixels)
    contents = curate.unique(found.filter("why is null"), shape[0], head.grouped)
    contents = contents.persist(StorageLevel.DISK_ONLY)
    samples = curate.placed(contents, head, seed).persist(StorageLevel.DISK_ONLY)
    report = _report(found, samples, files, unusable, head, corrupt_share)
    found.unpersist()
    contents.unpersist()

    def contract() -> Contract:
        facts = curate.facts(samples.filter("split = 'train'"), shape)
        return Contract(
            schema=SCHEMA,
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

    return Curated(samples=samples, report=report, contract=contract)


def _report(
    found: DataFrame, samples: DataFrame, files: int, unusable: int, head: Head, corrupt_share: float
) -> dict[str, Any]:
    """The data report: totals that Spark counted, and at most NAMED names of each kind of finding."""
    counts = {split: dict.fromkeys(head.classes, 0) for split in SPLITS}
    copies = conflicts = 0
    groups = samples.groupBy("split", "label_name").agg(F.count("*").alias("ids"), F.sum("copies").alias("files"))
    for row in groups.collect():
        if row["split"] is None:
            conflicts += row["ids"]
        else:
            counts[row["split"]][row["label_name"]] = row["ids"]
            copies += row["files"] - row["ids"]
    return datachecks.check(
        task=head.task,
        classes=head.classes,
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
