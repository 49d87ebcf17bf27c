"""Which split a sample belongs to: stratified, by group or by time, so that nothing leaks.

A key (a content, or a group of samples) has one draw, a hash of seed and key, and so one side. Within a stratum (a
class) keys are ranked by their draw and cut exactly at the shares, which gives a rare class its place in every split.
From LIMIT keys on the cut is a fixed draw, so that no task ever sorts a large class and new data move no old sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from models.contract import ANOMALY

Shares = tuple[float, float, float]
SPLITS = ("train", "validation", "test")
SHARES: Shares = (0.7, 0.15, 0.15)
# Where the test split is given, the rest is cut in two.
REST: Shares = (0.85, 0.15, 0.0)
# Anomalies are measured with, not learned from.
HELD_OUT: Shares = (0.0, 0.5, 0.5)
LIMIT = 10_000
# A split by time is cut at one of so many places.
PLACES = 500
# Above every draw.
END = "g"


def draw(key: Column, seed: int) -> Column:
    """16 hexadecimal digits that follow from key and seed alone; their order is the numbers' order."""
    return F.substring(F.sha2(F.concat(F.lit(f"{seed}:"), key), 256), 1, 16)


def allot(count: int, shares: Shares) -> tuple[int, int, int]:
    """How many of `count` keys go to train, validation and test.

    Each share above zero gets at least one from three keys on, test two from eight on; of fewer, train comes first,
    then test.
    """
    wanted = [split for split in (0, 2, 1) if shares[split] > 0]
    if count <= len(wanted):
        train, validation, test = (int(split in wanted[:count]) for split in range(3))
        return train, validation, test
    validation, test = (max(1, math.ceil(share * count - 0.5)) if share else 0 for share in shares[1:])
    if not shares[0]:
        return 0, validation, count - validation
    test = max(test, 2) if test and count >= 8 else test
    return count - validation - test, validation, test


def assigned(
    frame: DataFrame,
    key: str,
    label: str,
    *,
    seed: int,
    among: Column | None = None,
    grouped: bool = False,
    anomaly: bool = False,
    rest: Shares = SHARES,
) -> DataFrame:
    """`frame` with the `split` of each row's `key`, stratified by `label`, null for rows that are not `among` those.

    A key is a content or, `grouped`, a group, whose stratum is its one class or that it has several; an `anomaly` makes
    its key one of anomalies, of which training sees none.
    """
    least, most = F.min(label), F.max(label)  # of ANOMALY the least is the anomaly
    stratum = F.when(least == most, least).otherwise("several classes") if grouped and not anomaly else least
    rows = frame if among is None else frame.filter(among)
    keys = rows.groupBy(F.col(key).alias("key")).agg(F.coalesce(stratum, F.lit("")).alias("stratum"))
    sizes = {row["stratum"]: row["count"] for row in keys.groupBy("stratum").count().collect()}
    if grouped and not anomaly and min(sizes.values(), default=0) < len(SPLITS):
        keys, sizes = keys.withColumn("stratum", F.lit("")), {"": sum(sizes.values())}
    shares = dict.fromkeys(sizes, rest)
    if anomaly and sizes.get(ANOMALY[0], 0) >= len(SPLITS):
        shares[ANOMALY[1]] = HELD_OUT if rest[2] else (0.0, 1.0, 0.0)
    sides = sided(keys, cuts(keys, sizes, shares, seed), seed)
    return frame.join(sides.select(F.col("key").alias(key), "split"), key, "left")


def cuts(keys: DataFrame, sizes: Mapping[str, int], shares: Mapping[str, Shares], seed: int) -> DataFrame:
    """`stratum`, `low`, `high`: the last draw of training and of validation, for keys with `key` and `stratum`."""
    fixed = [
        (stratum, _digits(shares[stratum][0]), _digits(sum(shares[stratum][:2])))
        for stratum, size in sizes.items()
        if size >= LIMIT
    ]
    spark = keys.sparkSession
    large = spark.createDataFrame(fixed, "stratum string, low string, high string")
    exact = {stratum: allot(size, shares[stratum]) for stratum, size in sizes.items() if size < LIMIT}
    ends = [(stratum, train, train + validation) for stratum, (train, validation, _) in exact.items()]
    if not ends:
        return large
    last = spark.createDataFrame(ends, "stratum string, train int, seen int")
    order = Window.partitionBy("stratum").orderBy("draw", "key")
    ranked = (
        keys.join(F.broadcast(last), "stratum")
        .withColumn("draw", draw(F.col("key"), seed))
        .withColumn("rank", F.row_number().over(order))
    )
    small = ranked.groupBy("stratum").agg(_at("train").alias("low"), _at("seen").alias("high"))
    return small.union(large) if fixed else small


def _at(end: str) -> Column:
    """The draw of the key whose rank the column `end` names; before every draw where it names none."""
    return F.coalesce(F.max(F.when(F.col("rank") == F.col(end), F.col("draw"))), F.lit(""))


def sided(keys: DataFrame, bounds: DataFrame, seed: int) -> DataFrame:
    """`keys` with the `split` that their draw has between the bounds of their stratum."""
    drawn = draw(F.col("key"), seed)
    side = F.when(drawn <= F.col("low"), "train").when(drawn <= F.col("high"), "validation").otherwise("test")
    return keys.join(F.broadcast(bounds), "stratum").withColumn("split", side)


def settled(frame: DataFrame) -> DataFrame:
    """Takes `split` from a row whose `content` is also in a later split: test keeps it, training has not seen it."""
    place = F.when(F.col("split") == "train", 0).when(F.col("split") == "validation", 1).otherwise(2)
    latest = F.max("place").over(Window.partitionBy("content"))
    marked = frame.withColumn("place", place).withColumn("latest", latest)
    kept = F.when(F.col("place") == F.col("latest"), F.col("split"))
    return marked.withColumn("split", kept).drop("place", "latest")


def places(total: int, shares: Shares, flagged: Mapping[int, int], least: int = 1) -> tuple[int, int]:
    """After how many of `total` rows in time's order training ends, and validation.

    `flagged` counts anomalous rows by PLACES-th of the series. The cuts move from their shares so far that validation
    and test hold an anomaly each, where the series allows, and none is cut in two; `least` rows stay in each.
    """
    if not flagged or not shares[2]:
        return round(shares[0] * total), round((shares[0] + shares[1]) * total)
    counts = np.zeros(PLACES)
    for place, count in flagged.items():
        counts[place] = count
    before = np.concatenate([[0.0], np.cumsum(counts)])
    inside = np.zeros(PLACES + 1, bool)
    inside[1:-1] = (counts[1:] > 0) & (counts[:-1] > 0)
    width = min(PLACES // 4, max(PLACES // 20, math.ceil(least * PLACES / total)))
    first, second = np.meshgrid(np.arange(PLACES + 1), np.arange(PLACES + 1), indexing="ij")
    cost = np.abs(first / PLACES - shares[0]) + np.abs(second / PLACES - shares[0] - shares[1])
    cost += 10.0 * (before[second] - before[first] <= 0) + 20.0 * (before[-1] - before[second] <= 0)
    cost += 1.0 * inside[first] + 1.0 * inside[second]
    allowed = (first >= PLACES // 4) & (second - first >= width) & (PLACES - second >= width)
    best = int(np.argmin(np.where(allowed, cost, np.inf)))
    return tuple(round(int(place) * total / PLACES) for place in np.unravel_index(best, cost.shape))  # type: ignore[return-value]


def _digits(share: float) -> str:
    return f"{int(share * 2**64):016x}" if share < 1.0 - 1e-12 else END
