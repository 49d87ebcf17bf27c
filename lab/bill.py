"""What `lab cost` tells: a run, a day and a month without one, a month of use, by service, against `[budget]`.

A month of use is what stands, the runs, and what devices and the endpoint's clients do in it; how much that is are
assumptions, listed with the answer. Everything counted: lab/standing.py for what stands, lab/cost.py for a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab import cost, prices, standing, synth
from lab.errors import LabError
from lab.home import Home, merged_overrides, read_json
from lab.prices import Prices
from lab.standing import HOURS_A_MONTH

DAYS_A_MONTH = HOURS_A_MONTH / 24
# How long a job is taken to last before any run is recorded.
SUPPOSED_SECONDS = 600.0
# Names of the metrics that pipelines/functions/feedback.py makes of telemetry, and of the endpoint's own.
TELEMETRY_METRICS = 9
ENDPOINT_METRICS = 21
Template = Mapping[str, Any]
Settings = Mapping[str, Any]


class OverBudget(LabError):
    """The stack, or a run of it, would cost more than `[budget]` allows."""


@dataclass(frozen=True)
class Use:
    """What a month is assumed to hold. `images_gb` are both container images, `stored_gb` all buckets."""

    runs: int = 20
    requests: int = 10_000
    request_seconds: float = 0.05
    images_gb: float = 7.0
    stored_gb: float = 5.0


@dataclass(frozen=True)
class Bill:
    """All figures, in USD. A row is {"what", "service", "usd", "how"}; `usd` None is not priced, and named."""

    run: Mapping[str, Any]
    idle: Mapping[str, Any]
    month: Mapping[str, Any]
    services: Sequence[Mapping[str, Any]]
    unpriced: Sequence[str]
    assumptions: Sequence[str]
    budget: Mapping[str, Any]
    prices: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        return asdict(self)


def draw(template: Template, settings: Settings, records: Sequence[Mapping[str, Any]], table: Prices, use: Use) -> Bill:
    """The bill of a template. `settings` is lab.toml as resolved, `records` the runs so far, newest first."""
    run = _run(template, records, table)
    still = standing.rows(template, table)
    idle: list[cost.Row] = [
        {"what": row.what, "service": row.service, "usd": row.month_usd, "how": row.how} for row in still
    ]
    used = [*_stored(use, table), *_devices(settings, use, table), *_endpoint(settings, use, table)]
    runs = [{**row, "usd": row["usd"] and row["usd"] * use.runs} for row in run["rows"]]
    month = [*idle, *used, *runs]
    figures = {
        "run_usd": run["usd"],
        "month_usd": cost.total(row["usd"] for row in month),
    }
    return Bill(
        run=run,
        idle={
            "month_usd": cost.total(row["usd"] for row in idle),
            "day_usd": round(cost.total(row["usd"] for row in idle) / DAYS_A_MONTH, 4),
            "hourly": [row.what for row in still if row.hourly],
            "rows": idle,
        },
        month={"usd": figures["month_usd"], "rows": used, **asdict(use)},
        services=_services(run["rows"], idle, month),
        unpriced=sorted({row["what"] for row in month if row["usd"] is None}),
        assumptions=_assumptions(settings, run, table, use),
        budget=_budget(settings, figures, still, run),
        prices=table.summary(),
    )


def of_home(home: Home, app: Path | None = None, use: Use | None = None) -> Bill:
    """The bill of what lies here: synthesized when it must be, or the assembly `app`; with the runs of `.lab`."""
    assembly = synth.given(app) if app else synth.synth(home, merged_overrides({}))
    return of_assembly(home, assembly.path, use)


def of_assembly(home: Home, path: Path, use: Use | None = None) -> Bill:
    """The bill of the assembly in `path`."""
    lab = read_json(path / "lab.json")
    records = [read_json(folder / "record.json") for folder in home.runs_newest_first()]
    return draw(read_json(path / lab["template"]), lab["settings"], records, prices.load(), use or Use())


def refuse_above_budget(bill: Bill) -> None:
    """Raises OverBudget with the figure, the cap and what to change, when a cap is passed."""
    over = bill.budget["exceeded"]
    if over:
        raise OverBudget("; ".join(row["said"] for row in over), "; ".join(row["remedy"] for row in over))


def _run(template: Template, records: Sequence[Mapping[str, Any]], table: Prices) -> dict[str, Any]:
    """The newest run that succeeded at the template's instances, else one whose jobs take ten minutes each."""
    most = cost.run_rows(cost.supposed(template), template, table)
    found = next((record for record in records if record.get("status") == "SUCCEEDED"), None)
    states = cost.recorded(found, template) if found else cost.supposed(template, SUPPOSED_SECONDS)
    rows = cost.run_rows(states, template, table)
    return {
        "usd": cost.total(row["usd"] for row in rows),
        "at_most_usd": cost.total(row["usd"] for row in most),
        "from": found["run"] if found else None,
        "recorded": len(records),
        "rows": rows,
    }


def _stored(use: Use, table: Prices) -> list[cost.Row]:
    images, objects = use.images_gb * table.usd("ecr_gb_month"), use.stored_gb * table.usd("s3_gb_month")
    return [
        _row("container images", "ECR", images, f"{use.images_gb:g} GB"),
        _row("objects and their versions", "S3", objects, f"{use.stored_gb:g} GB"),
    ]


def _devices(settings: Settings, use: Use, table: Prices) -> list[cost.Row]:
    """Telemetry: a message, its rule, one call of the feedback function, one object and one PutMetricData."""
    edge = settings.get("edge") or {}
    count, every = int(edge.get("devices", 0)), float(edge.get("telemetry_s", 60.0))
    if not count:
        return []
    messages = count * HOURS_A_MONTH * 3600 / every
    function = table.usd("lambda_request") + 0.25 * 0.1 * table.usd("lambda_gb_second")
    metrics = TELEMETRY_METRICS * (1 + count)
    said = f"{messages:,.0f} messages of {count} devices"
    return [
        _row("telemetry", "IoT", messages * (table.usd("iot_message") + 2 * table.usd("iot_rule")), said),
        _row("feedback function", "Lambda", messages * function, said),
        _row("telemetry's objects", "S3", messages * table.usd("s3_put"), said),
        _row("PutMetricData", "CloudWatch", messages * table.usd("put_metric_request"), said),
        _row("device metrics", "CloudWatch", metrics * table.usd("metric_month"), f"{metrics} metrics"),
        _row("core devices", "GreengrassV2", count * table.usd("greengrass_device_month"), f"{count} devices"),
    ]


def _endpoint(settings: Settings, use: Use, table: Prices) -> list[cost.Row]:
    serving = settings.get("serving") or {}
    metrics = ENDPOINT_METRICS * table.usd("metric_month")
    rows = [_row("endpoint metrics", "CloudWatch", metrics, f"{ENDPOINT_METRICS} metrics, while it serves")]
    if serving.get("serverless", True):
        memory = int(serving.get("memory_mb", 2048)) / 1024
        usd = use.requests * use.request_seconds * memory * table.usd("serverless_gb_second")
        rows.append(_row("endpoint's requests", "SageMaker", usd, f"{use.requests:,} requests at {memory:g} GB"))
    return rows


def _row(what: str, service: str, usd: float, how: str) -> cost.Row:
    return {"what": what, "service": service, "usd": round(usd, 4), "how": how}


def _services(run: Sequence[cost.Row], idle: Sequence[cost.Row], month: Sequence[cost.Row]) -> list[dict[str, Any]]:
    """The three figures of each service, the dearest first."""
    found: dict[str, dict[str, float]] = {}
    for figure, rows in (("run_usd", run), ("idle_month_usd", idle), ("month_usd", month)):
        for row in rows:
            sums = found.setdefault(row["service"], {"run_usd": 0.0, "idle_month_usd": 0.0, "month_usd": 0.0})
            sums[figure] = round(sums[figure] + (row["usd"] or 0.0), 4)
    dearest = sorted(found.items(), key=lambda item: -item[1]["month_usd"])
    return [{"service": name, **sums} for name, sums in dearest]


def _assumptions(settings: Settings, run: Mapping[str, Any], table: Prices, use: Use) -> list[str]:
    region = str((settings.get("lab") or {}).get("region", table.region))
    elsewhere = "" if region == table.region else f"; {region} differs, and lab cost --refresh asks for it"
    how = f"the run is {run['from']}, its seconds as they were here" if run["from"] else (
        f"no run is recorded: each job is taken to last {SUPPOSED_SECONDS / 60:.0f} minutes"
    )  # fmt: skip
    return [
        f"list prices of {table.region} on {table.date}, no free tier and no discount{elsewhere}",
        how + ", priced at the instances that the template now asks for",
        f"a month has {HOURS_A_MONTH} hours, {use.runs} runs and {use.requests:,} requests of "
        f"{use.request_seconds * 1000:g} ms to the endpoint (--runs, --requests)",
        f"stored: {use.images_gb:g} GB of container images, {use.stored_gb:g} GB of objects",
        "devices of [edge] report all month; an account's real fleet may be smaller or larger",
        "not counted: logs, data transfer, DynamoDB and KMS requests, deliveries of SNS (cents at this size)",
    ]


def _budget(
    settings: Settings, figures: Mapping[str, float], still: Sequence[standing.Row], run: Mapping[str, Any]
) -> dict[str, Any]:
    caps = settings.get("budget") or {}
    over = []
    if "run_usd" in caps and figures["run_usd"] > caps["run_usd"]:
        dearest = max((row for row in run["rows"] if row["usd"]), key=lambda row: row["usd"])
        remedy = (
            f"{dearest['what']} is the most of it ({dearest['how']}): change [train] instance, instances, trials or "
            f"max_minutes, or raise [budget] run_usd"
        )
        over.append(_excess("a run", "run_usd", figures, caps, remedy))
    if "month_usd" in caps and figures["month_usd"] > caps["month_usd"]:
        over.append(_excess("a month", "month_usd", figures, caps, _month_remedy(still)))
    over += [
        {"key": "month_usd", "usd": None, "cap": caps.get("month_usd"), "remedy": row.how}
        | {"said": f"{row.what} bills by the hour at a price that is not known"}
        for row in still
        if row.hourly and row.month_usd is None
    ]
    return {**caps, "exceeded": over}


def _month_remedy(still: Sequence[standing.Row]) -> str:
    hourly = sorted((row for row in still if row.hourly and row.month_usd), key=lambda row: -(row.month_usd or 0))
    if not hourly:
        return "fewer runs or devices cost less (lab cost shows which), or raise [budget] month_usd in lab.toml"
    said = "; ".join(f"{row.what} ${row.month_usd:.2f} ({row.how})" for row in hourly[:3])
    more = f" and {len(hourly) - 3} more" if len(hourly) > 3 else ""
    mends = "; ".join(dict.fromkeys(row.mend or f"leave out {row.what}" for row in hourly))
    total = sum(row.month_usd or 0.0 for row in hourly)
    return f"${total:.2f} of it bill while nothing runs: {said}{more}. {mends}; or raise [budget] month_usd in lab.toml"


def _excess(
    what: str, key: str, figures: Mapping[str, float], caps: Mapping[str, float], remedy: str
) -> dict[str, Any]:
    usd, cap = round(figures[key], 2), float(caps[key])
    said = f"{what} would cost ${usd:.2f}, the cap is ${cap:.2f} ([budget] {key})"
    return {"key": key, "usd": usd, "cap": cap, "said": said, "remedy": remedy}
