"""Raw objects to unique, labelled, split tensors, as Spark transformations: nothing here brings an image to the driver.

    files     binaryFile rows of all below raw/<dataset>/
    examined  one row per file of the manifest: its tensor, or `why` it has none
    unique    one row per distinct content, with its split; what contradicts itself has no split
    facts     sums over the training split, from which the driver derives mean, deviation and profile

A tensor is binary: C*H*W bytes (uint8) in C order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from models import drift, features
from pipelines.jobs import manifest
from pipelines.jobs.lake import Lake

COLUMNS = ("id", "source", "label", "label_name", "tensor")
DECODED = "path string, sha256 string, channels int, tensor binary, why string"
FACTS = "fact string, index int, value long"
# Photographs are megabytes each: this bounds what one worker holds at a time.
BATCH = 64
FILES_A_TASK = 1000
# Fine enough that the driver can choose the profile's own bins from it.
BINS = 1024
SPAN = np.linspace(0.0, 255.0, BINS + 1)


def examined(spark: SparkSession, lake: Lake, key: str, head: manifest.Head, pixels: int) -> DataFrame:
    """Path, label, label_name, channels, tensor, why (null when the file is good) of every file in the manifest."""
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(BATCH))
    folder = key.rpartition("/")[0] + "/"
    listed = spark.sparkContext.parallelize([key], 1).flatMap(partial(manifest.rows, lake))
    entries = spark.createDataFrame(listed, manifest.ROW)
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(lake.uri(folder))
    relative = F.substring_index("path", f"/{folder}", -1).alias("path")
    # Spark cuts small files into many tiny tasks, whose start would cost more than their work.
    tasks = max(spark.sparkContext.defaultParallelism, head.files // FILES_A_TASK)
    decoded = files.coalesce(tasks).select(relative, "content").mapInArrow(partial(_decode, pixels=pixels), DECODED)
    # A merge join at any size: a broadcast would go through the driver.
    joined = entries.alias("e").join(decoded.hint("merge").alias("d"), F.col("e.path") == F.col("d.path"), "left")
    numbers = F.create_map(*(F.lit(item) for number, name in enumerate(head.classes) for item in (name, number)))
    label = numbers[F.col("e.label_name")]
    return joined.select(
        F.col("e.path").alias("path"),
        label.alias("label"),
        F.col("e.label_name").alias("label_name"),
        "channels",
        "tensor",
        _why(label).alias("why"),
    )


def _why(label: Column) -> Column:
    """What is wrong with a file of the manifest, null for nothing."""
    return (
        F.when(F.col("d.path").isNull(), "missing: the manifest lists it, the lake does not have it")
        .when(F.col("d.sha256") != F.col("e.sha256"), "changed: these are not the bytes that the manifest names")
        .when(label.isNull(), F.concat(F.lit("its label is none of the classes: "), F.col("e.label_name")))
        .otherwise(F.col("d.why"))
    )


def _decode(batches: Iterator[pa.RecordBatch], pixels: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        found = [_decode_one(content.as_py(), pixels) for content in batch.column("content")]
        columns = [batch.column("path"), *(pa.array(column) for column in zip(*found, strict=True))]
        names = ["path", "sha256", "channels", "tensor", "why"]
        types = [pa.string(), pa.string(), pa.int32(), pa.binary(), pa.string()]
        yield pa.RecordBatch.from_arrays([c.cast(t) for c, t in zip(columns, types, strict=True)], names=names)


def _decode_one(content: bytes, pixels: int) -> tuple[str, int | None, bytes | None, str | None]:
    digest = hashlib.sha256(content).hexdigest()
    try:
        channels = features.channels(content)
        return digest, channels, features.decode(content, (channels, pixels, pixels)).tobytes(), None
    except features.CorruptSample as error:
        return digest, None, None, f"corrupt: {error}"


def unique(good: DataFrame, channels: int, seed: int) -> DataFrame:
    """One row per distinct tensor: COLUMNS, copies, other (the last source of the same content), labels, split.

    In a set with colour, a grey picture has three equal channels. Content with several labels has a null split. The
    split follows from content and seed alone, so no copy of a training sample is ever tested on, however data grow.
    """
    three = F.concat("tensor", "tensor", "tensor")
    same_shape = F.when(F.col("channels") < channels, three).otherwise(F.col("tensor"))
    grouped = (
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
    )
    split = F.udf(partial(features.split_of, seed=seed), "string")
    return grouped.select(
        "id",
        F.col("kept.path").alias("source"),
        F.col("kept.label").alias("label"),
        F.col("kept.label_name").alias("label_name"),
        "tensor",
        "copies",
        "other",
        "labels",
        F.when(F.size("labels") == 1, split("id")).alias("split"),
    )


def facts(train: DataFrame, shape: tuple[int, int, int]) -> dict[str, npt.NDArray[np.int64]]:
    """Whole-number sums over the training split, the same however Spark cuts it.

    `pixels` [1] per channel, `sum` and `squares` [C], and the histograms `mean` and `contrast` [BINS] over SPAN.
    """
    partials = train.select("tensor").mapInArrow(partial(_facts, shape=shape), FACTS)
    found: dict[str, npt.NDArray[np.int64]] = {
        "pixels": np.zeros(1, np.int64),
        "sum": np.zeros(shape[0], np.int64),
        "squares": np.zeros(shape[0], np.int64),
        "mean": np.zeros(BINS, np.int64),
        "contrast": np.zeros(BINS, np.int64),
    }
    for row in partials.groupBy("fact", "index").agg(F.sum("value").alias("value")).collect():
        found[row["fact"]][row["index"]] = row["value"]
    return found


def _facts(batches: Iterator[pa.RecordBatch], shape: tuple[int, int, int]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if not batch.num_rows:
            continue
        flat = [np.frombuffer(tensor.as_py(), np.uint8) for tensor in batch.column("tensor")]
        pixels = np.stack(flat).reshape(-1, *shape)
        whole = pixels.astype(np.int64)
        sums: dict[str, npt.NDArray[Any]] = {
            "pixels": np.array([whole[:, 0].size]),
            "sum": whole.sum((0, 2, 3)),
            "squares": (whole * whole).sum((0, 2, 3)),
            **{name: drift.histogram(values, SPAN) for name, values in drift.summarize(pixels).items()},
        }
        listed = [(name, at, int(v)) for name, values in sums.items() for at, v in enumerate(values) if v]
        yield pa.RecordBatch.from_arrays(
            [
                pa.array([row[0] for row in listed], pa.string()),
                pa.array([row[1] for row in listed], pa.int32()),
                pa.array([row[2] for row in listed], pa.int64()),
            ],
            names=["fact", "index", "value"],
        )
