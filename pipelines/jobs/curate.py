"""Raw objects to unique, labelled, split tensors as Spark transformations.

Nothing here brings an image to the driver.

    files     binaryFile rows of all below raw/<dataset>/
    examined  one row per file of the manifest: its tensor, or `why` it has none
    unique    one row per distinct content
    placed    the same with its split; what contradicts itself has no split
    facts     sums over the training split, from which the driver derives mean, deviation and profile

A tensor is binary: C*H*W bytes (uint8) in C order.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from models import drift, features
from models.contract import Contract
from pipelines.jobs import manifest, split
from pipelines.jobs.lake import Lake

# What a report names one by one; it always has the totals.
NAMED = 100
COLUMNS = ("id", "source", "label", "label_name", "tensor", "group")
DECODED = "path string, sha256 string, channels int, tensor binary, why string"
# A patch's picture: what its file's name has before the last `__`, whatever its folder.
PICTURE = "([^/]*)__[^/]*$"
# How many tensors a worker sums up at a time.
BATCH = 256
FILES_A_TASK = 1000
# Fine enough that the driver can choose the profile's own bins from it.
BINS = 1024
SPAN = np.linspace(0.0, 255.0, BINS + 1)


@dataclass(frozen=True, kw_only=True)
class Curated:
    """Samples as COLUMNS and `split` (null: left out), the data report, and how to fit the contract to them."""

    samples: DataFrame
    report: dict[str, Any]
    contract: Callable[[], Contract]


def examined(spark: SparkSession, lake: Lake, key: str, head: manifest.Head, pixels: int) -> DataFrame:
    """Path, label, label_name, channels, tensor, why (null when the file is good) of every file in the manifest."""
    folder = key.rpartition("/")[0] + "/"
    listed = spark.sparkContext.parallelize([key], 1).flatMap(partial(manifest.rows, lake))
    entries = spark.createDataFrame(listed, manifest.ROW)
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(lake.uri(folder))
    relative = F.substring_index("path", f"/{folder}", -1).alias("path")
    # Spark cuts small files into many tiny tasks, whose start would cost more than their work.
    tasks = max(spark.sparkContext.defaultParallelism, head.files // FILES_A_TASK)
    contents = files.coalesce(tasks).select(relative, "content").rdd
    decoded = spark.createDataFrame(
        contents.mapPartitions(partial(_decode, pixels=pixels)), DECODED, verifySchema=False
    )
    # A merge join at any size: a broadcast would go through the driver.
    joined = entries.alias("e").join(decoded.hint("merge").alias("d"), F.col("e.path") == F.col("d.path"), "left")
    named = _lookup(head.labels)[F.col("e.label_name")]
    label = _lookup({name: number for number, name in enumerate(head.classes)})[named]
    return joined.select(
        F.col("e.path").alias("path"),
        label.alias("label"),
        named.alias("label_name"),
        "channels",
        "tensor",
        _why(label).alias("why"),
    )


def _lookup(places: Mapping[str, Any]) -> Column:
    return F.create_map(*(F.lit(item) for pair in places.items() for item in pair))


def _why(label: Column) -> Column:
    """What is wrong with a file of the manifest, null for nothing."""
    return (
        F.when(F.col("d.path").isNull(), "missing or empty in the lake, though the manifest lists it")
        .when(F.col("d.sha256") != F.col("e.sha256"), "changed: these are not the bytes that the manifest names")
        .when(label.isNull(), F.concat(F.lit("its label is none of the classes: "), F.col("e.label_name")))
        .otherwise(F.col("d.why"))
    )


def _decode(files: Iterable[Any], pixels: int) -> Iterator[tuple[str, str, int | None, bytes | None, str | None]]:
    for path, content in files:
        data = bytes(content)
        digest = hashlib.sha256(data).hexdigest()
        try:
            channels = features.channels(data)
            yield path, digest, channels, features.decode(data, (channels, pixels, pixels)).tobytes(), None
        except features.CorruptSample as error:
            yield path, digest, None, None, f"corrupt: {error}"


def unique(good: DataFrame, channels: int, grouped: bool) -> DataFrame:
    """One row per distinct tensor: COLUMNS, copies, other (the last source of the same content), labels.

    In a set with colour, a grey picture has three equal channels. `grouped`: `group` is the picture of a patch.
    """
    three = F.concat("tensor", "tensor", "tensor")
    same_shape = F.when(F.col("channels") < channels, three).otherwise(F.col("tensor"))
    return (
        good.withColumn("tensor", same_shape)
        .withColumn("id", F.sha2("tensor", 256))
        .groupBy("id")
        .agg(
            F.min(F.struct("path", "label", "label_name")).alias("kept"),
            F.max("path").alias("other"),
            F.count("*").alias("copies"),
            F.sort_array(F.collect_set("label_name")).alias("labels"),
            F.first("tensor").alias("tensor"),
        )
        .select("id", "kept.*", "tensor", "copies", "other", "labels")
        .withColumnRenamed("path", "source")
        .withColumn("group", F.regexp_extract("source", PICTURE, 1) if grouped else F.lit(""))
    )


def placed(contents: DataFrame, head: manifest.Head, seed: int) -> DataFrame:
    """What `unique` gave, with the `split` of each content, null for one with several labels.

    Exact by class, and of anomalies training sees none; patches of one picture stay together. The same content is
    always on one side, so no copy of a training sample is ever tested on.
    """
    key = "group" if head.grouped else "id"
    return split.assigned(
        contents,
        key,
        "label_name",
        seed=seed,
        among=F.size("labels") == 1,
        grouped=head.grouped,
        anomaly=head.task == "anomaly",
    ).withColumn("split", F.when(F.size("labels") == 1, F.col("split")))


def facts(train: DataFrame, shape: tuple[int, int, int]) -> dict[str, npt.NDArray[np.int64]]:
    """Whole-number sums over the training split, the same however Spark cuts it.

    `pixels` [1] per channel, `sum` and `squares` [C], and the histograms `mean` and `contrast` [BINS] over SPAN.
    """
    found: dict[str, npt.NDArray[np.int64]] = {
        "pixels": np.zeros(1, np.int64),
        "sum": np.zeros(shape[0], np.int64),
        "squares": np.zeros(shape[0], np.int64),
        "mean": np.zeros(BINS, np.int64),
        "contrast": np.zeros(BINS, np.int64),
    }
    partials = train.select("tensor").rdd.mapPartitions(partial(sums, shape=shape))
    for (name, at), value in partials.reduceByKey(operator.add).collect():
        found[name][at] = value
    return found


def sums(rows: Iterator[Any], shape: tuple[int, int, int]) -> Iterator[tuple[tuple[str, int], int]]:
    """((fact, index), value) pairs of some rows `(tensor,)` of `shape` (C, H, W); equal keys are to be added up."""
    while some := list(itertools.islice(rows, BATCH)):
        pixels = np.stack([np.frombuffer(row[0], np.uint8) for row in some]).reshape(-1, *shape)
        whole = pixels.astype(np.int64)
        totals: dict[str, npt.NDArray[Any]] = {
            "pixels": np.array([whole[:, 0].size]),
            "sum": whole.sum((0, 2, 3)),
            "squares": (whole * whole).sum((0, 2, 3)),
            **{name: drift.histogram(values, SPAN) for name, values in drift.summarize(pixels).items()},
        }
        yield from (
            ((name, at), int(value)) for name, values in totals.items() for at, value in enumerate(values) if value
        )
