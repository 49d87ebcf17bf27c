"""Tables and series from raw files to samples, report and contract.

On the driver are only bounded figures: class names, at most VOCABULARY values of each category, counts, moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from models import datachecks, tables
from models.contract import ANOMALY, SCHEMA, Column, Contract, Target
from pipelines.jobs import fit, slices, split, tabulate
from pipelines.jobs.curate import NAMED, Curated
from pipelines.jobs.lake import Lake
from pipelines.jobs.manifest import Head, Table
from pipelines.jobs.split import SPLITS

# Values of a category that have a place of their own; rarer ones are unknown.
VOCABULARY = 1000
TEST = "test"


def run(spark: SparkSession, lake: Lake, key: str, head: Head, seed: int, corrupt_share: float) -> Curated:
    """What becomes of the rows in the files of the manifest at `key`."""
    table = head.table
    assert table is not None
    series = head.modality == "timeseries"
    found = tabulate.examined(spark, lake, key, head).persist(StorageLevel.DISK_ONLY)
    units = (F.count_distinct("unit") if table.group else F.lit(0)).alias("units")
    totals = found.agg(F.count("*").alias("rows"), F.count("why").alias("corrupt"), units).first().asDict()
    good = found.filter("why is null")
    classes = _classes(good, head.task)
    given: dict[str, Any] = {
        "task": head.task, "unit": "rows", "classes": classes, "total": totals["rows"],
        "corrupt_total": totals["corrupt"], "corrupt": _corrupt(found, totals["corrupt"]),
        "corrupt_share": corrupt_share, "duplicates_total": 0, "duplicates": [], "conflicts_total": 0, "conflicts": [],
    }  # fmt: skip
    more = {"rows": totals["rows"], "units": totals["units"], "split": _rule(table, series)}
    if totals["rows"] == totals["corrupt"] or len(classes) > datachecks.CLASSES:
        return Curated(samples=found, report=datachecks.check(counts={}, more=more, **given), contract=_no_contract)
    rows = _sided(good, table, head.task, series, seed).persist(StorageLevel.DISK_ONLY)
    form = slices.Form(
        task=head.task,
        columns=_columns(rows.filter("split = 'train'"), table),
        classes=classes,
        missing=table.missing,
        window=table.window,
        stride=table.stride,
        cap=table.rul_cap,
    )
    samples = _samples(rows, table, form, series).persist(StorageLevel.DISK_ONLY)
    counts, left_out, span = _counted(samples, classes)
    if not series:
        given |= _copies(rows)
    report = datachecks.check(counts=counts, span=span, more={**more, "dropped": left_out}, **given)
    found.unpersist()

    def contract() -> Contract:
        return _contract(head, table, form, counts, samples)

    return Curated(samples=_typed(samples, classes), report=report, contract=contract)


def _classes(good: DataFrame, task: str) -> tuple[str, ...]:
    """Class names, numbers by their size; one too many where there are too many. None where the answer is a number."""
    if task == "anomaly":
        return ANOMALY
    if task != "classification":
        return ()
    names = good.filter("label is not null").select("label").distinct().limit(datachecks.CLASSES + 1).collect()
    return tuple(sorted((row["label"] for row in names), key=_by_size))


def _by_size(name: str) -> tuple[bool, float, str]:
    number = tables.is_number(name)
    return not number, float(name) if number else 0.0, name


def _corrupt(found: DataFrame, total: int) -> list[dict[str, str]]:
    if not total:
        return []
    rows = found.filter("why is not null").orderBy("file", "block", "row").limit(NAMED).select("source", "why")
    return [row.asDict() for row in rows.collect()]


def _rule(table: Table, series: bool) -> str:
    """In words, for the report."""
    rule = "stratified by class, equal rows together"
    if table.group:
        rule = f"by {table.group}: a unit is on one side"
    elif table.time or series:
        rule = f"by {table.time or 'the order of the rows'}: training before validation before test"
    return f"test as its files are named; the rest {rule}" if table.parts else rule


def _sided(good: DataFrame, table: Table, task: str, series: bool, seed: int) -> DataFrame:
    """Good rows with their `split`; those of a series with their place in it."""
    rest = split.REST if table.parts else split.SHARES
    tested = F.col("part") == TEST
    if not series:
        good = good.filter("value is not null" if task == "regression" else "label is not null")
    if table.group:
        rows = split.assigned(
            good, "unit", "label", seed=seed, among=~tested, grouped=True, anomaly=task == "anomaly", rest=rest
        )
        rows = slices.numbered(rows) if series else rows
    elif table.time or series:
        rows = _by_time(slices.ordered(good), table.window if series else 1, rest)
        rows = slices.chunked(rows, table.window) if series else rows
    else:
        rows = split.assigned(good, "content", "label", seed=seed, among=~tested, rest=rest)
    rows = rows.withColumn("split", F.when(tested, F.lit(TEST)).otherwise(F.col("split")))
    return rows if series or not (table.group or table.time or table.parts) else split.settled(rows)


def _by_time(rows: DataFrame, least: int, rest: split.Shares) -> DataFrame:
    own = rows.filter(F.col("part") != TEST)
    place = F.floor((F.col("n") - 1) * split.PLACES / F.col("steps")).cast("int").alias("place")
    flags = own.filter(F.col("label") == ANOMALY[1]).groupBy(place).count().collect()
    total = own.select("steps").first()
    first, second = split.places(total[0] if total else 0, rest, {row[0]: row[1] for row in flags}, least)
    side = F.when(F.col("n") <= first, "train").when(F.col("n") <= second, "validation").otherwise("test")
    return rows.withColumn("split", side)


def _columns(train: DataFrame, table: Table) -> tuple[Column, ...]:
    """The features, a category's with the most frequent values of training."""
    found: dict[int, list[str]] = {place: [] for place in range(len(table.categories))}
    if found:
        words = train.select(F.posexplode("words").alias("place", "value")).filter("value is not null")
        order = Window.partitionBy("place").orderBy(F.desc("count"), "value")
        ranked = words.groupBy("place", "value").count().withColumn("rank", F.row_number().over(order))
        for row in ranked.filter(F.col("rank") <= VOCABULARY).select("place", "value").collect():
            found[row["place"]].append(row["value"])
    values = {name: tuple(sorted(found[place], key=_by_size)) for place, name in enumerate(table.categories)}
    return tuple(Column(name=name, values=values.get(name)) for name in table.features)


def _samples(rows: DataFrame, table: Table, form: slices.Form, series: bool) -> DataFrame:
    if not series:
        return rows.select(*slices.ROW).mapInArrow(partial(slices.samples, form=form), slices.SAMPLE)
    steps = rows.select(*slices.STEP).repartition("segment").sortWithinPartitions("segment", "n")
    return steps.mapInArrow(partial(slices.windows, form=form), slices.SAMPLE)


def _counted(
    samples: DataFrame, classes: tuple[str, ...]
) -> tuple[dict[str, dict[str, int]], dict[str, int], tuple[float, float] | None]:
    """Samples by split and class, those left out by reason, and the least and largest label of training."""
    counts = {name: dict.fromkeys(classes or ("all",), 0) for name in SPLITS}
    left_out: dict[str, int] = {}
    span = None
    groups = samples.groupBy("split", "label_name", "why").agg(F.count("*"), F.min("label"), F.max("label"))
    for side, name, why, number, least, most in groups.collect():
        if side is None:
            left_out[why] = left_out.get(why, 0) + number
            continue
        counts[side][name or "all"] = number
        span = (least, most) if side == "train" else span
    return counts, left_out, span


def _copies(rows: DataFrame) -> dict[str, int]:
    """How many rows equal another in all features, and how many of them say otherwise than it."""
    answer = F.coalesce("label", F.col("value").cast("string"))
    several = (F.min(answer) != F.max(answer)).alias("several")
    contents = rows.groupBy("content").agg(F.count("*").alias("rows"), several)
    found = contents.agg(F.coalesce(F.sum(F.col("rows") - 1), F.lit(0)), F.count(F.when(F.col("several"), 1))).first()
    return {"duplicates_total": found[0], "conflicts_total": found[1]}


def _typed(samples: DataFrame, classes: tuple[str, ...]) -> DataFrame:
    return samples.withColumn("label", F.col("label").cast("int")) if classes else samples


def _contract(
    head: Head, table: Table, form: slices.Form, counts: Mapping[str, Mapping[str, int]], samples: DataFrame
) -> Contract:
    known = fit.learned(samples.filter("split = 'train'"), sum(counts["train"].values()), form.columns)
    target = None
    if not form.classes:
        name, cap = ("rul", float(form.cap)) if form.task == "rul" else (table.target, None)
        target = Target(name=name, mean=known.target[0], std=known.target[1], cap=cap)
    width, series = len(form.columns), head.modality == "timeseries"
    return Contract(
        schema=SCHEMA,
        dataset=head.dataset,
        modality=head.modality,
        task=head.task,
        shape=(form.window, width) if series else (width,),
        classes=form.classes,
        mean=known.mean,
        std=known.std,
        counts=counts,
        profile=known.profile,
        columns=form.columns,
        target=target,
        missing=form.missing,
        group=table.group,
        time=table.time,
        stride=form.stride,
        decimal=table.decimal,
    )


def _no_contract() -> Contract:
    raise AssertionError("data that were refused have no contract")
