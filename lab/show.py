"""Prints results for people: a run's summary, the status, findings, an error."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab import metric
from lab.doctor import Finding
from lab.errors import FlowFailed, GateRefused, LabError

if TYPE_CHECKING:
    from lab.bill import Bill
    from lab.cloud import Cloud
    from lab.deploy import Prospect
    from lab.grants import Grant
    from lab.push import Pushed

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


def error(problem: LabError) -> None:
    """An error on stderr: what the job said last, what happened, what to try."""
    lines: list[str] = []
    if isinstance(problem, FlowFailed) and problem.log_tail:
        lines += ["", "last lines of the log:", *(f"  | {line}" for line in problem.log_tail), ""]
    lines.append(f"lab: {problem.message}")
    if isinstance(problem, GateRefused):
        lines += [f"  - {reason}" for reason in problem.reasons]
    if problem.hint:
        lines.append(f"  try: {problem.hint}" if not isinstance(problem, FlowFailed) else f"  {problem.hint}")
    sys.stderr.write("\n".join(lines) + "\n")


def findings(rows: Sequence[Finding]) -> None:
    """The doctor's table, and under it the mends."""
    console = Console(highlight=False)
    for row in rows:
        console.print(Text(f"{row.state:<5}", STYLES[row.state]) + Text(f"{row.name:<18}") + Text(row.detail))
        if row.mend:
            console.print(Text(f"     {'':<18}→ {row.mend}", "bold"))


def summary(record: Mapping[str, Any], folder: Path) -> None:
    """What a run came to: figures, decision, where to read on."""
    console = Console(highlight=False)
    console.print()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    for name, value in _lines(record):
        table.add_row(name, Text(value))
    style = "bold green" if record["status"] == "SUCCEEDED" else "bold red"
    console.print(Text(f"{record['status']}", style) + Text(f" run {record['run']}", ""), soft_wrap=True)
    console.print(table)
    console.print(Text(f"report   {folder / 'report.html'}"), soft_wrap=True)
    if record.get("approval") == "PendingManualApproval":
        console.print(Text("next     the model waits for approval: lab run --approve does it in one go;"))
        console.print(Text("         with `lab up` running it is: lab approve " + str(record.get("version") or "")))


def _lines(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    test: Mapping[str, Any] = record["metrics"].get("test") or {}
    lines = [("data set", f"{record['dataset']} ({record['modality']})"), ("time", _time(record))]
    name = metric.leading(str(record.get("task")))
    if name in test:
        lines.append((name.replace("_", " "), f"{metric.text(test, name)}   baselines: {_baselines(record, name)}"))
    if record["metrics"].get("verdict"):
        lines.append(("verdict", str(record["metrics"]["verdict"])))
    gate = record.get("gate")
    if gate is not None:
        lines.append(("gate", _decision(gate)))
    chosen = [row for row in record["artifacts"] if row.get("chosen")]
    for row in chosen:
        lines.append((row["target"], f"{row['format']}, {row['bytes'] / 1e3:.0f} kB, p95 {row['p95_ms']:.2f} ms"))
    if record.get("model_package"):
        lines.append(("version", f"{record.get('version')}, {record.get('approval')}{_whose(record)}"))
    if record.get("endpoint"):
        lines.append(("endpoint", f"{record['endpoint']['name']} {record['endpoint']['status']}"))
    for device in (record.get("edge") or {}).get("devices", []):
        where = ", ".join(device.get("groups", [])) or "no group"
        lines.append(("device", f"{device['thing']} ({where}) {device['status']} with {device['model_version']}"))
    lines.append(("cost in AWS", f"about ${record['cost']['estimate_usd']:.2f} a run"))
    return lines


def _whose(record: Mapping[str, Any]) -> str:
    """Names the run whose files a version has, where that is an earlier one."""
    first = record.get("released_by") or record["run"]
    return "" if first == record["run"] else f"; its files are those of run {first[:8]}…, which made it first"


def _decision(gate: Mapping[str, Any]) -> str:
    if not gate["passed"]:
        return "refused: " + "; ".join(gate["reasons"])
    ship = str(gate.get("ship") or "model")
    return "passed" if ship == "model" else f"passed; the baseline {ship.replace('_', ' ')} ships"


def _time(record: Mapping[str, Any]) -> str:
    return f"{record['seconds']:.0f} s, of which the engine {record['engine']['overhead_seconds']:.1f} s"


def _baselines(record: Mapping[str, Any], name: str) -> str:
    rows: Mapping[str, Any] = record["metrics"].get("baseline") or {}
    shown = (f"{baseline} {row[name]:.4f}" for baseline, row in rows.items() if row.get(name) is not None)
    return ", ".join(shown) or "none"


def status(found: Mapping[str, Any]) -> None:
    """The running engine, its executions, packages, endpoint and devices."""
    console = Console(highlight=False)
    engine = found["engine"]
    console.print(Text(f"embedded AWS  {engine['endpoint']}  process {engine['pid']}  {engine['region']}"))
    console.print(Text(f"stack         {found['stack']['name']}"))
    _table(console, "executions", ("flow", "status", "started", "run"), found["executions"])
    _table(console, "packages", ("version", "approval", "run"), found["packages"])
    endpoint = found["endpoint"]
    console.print(Text(f"endpoint      {endpoint['name']} {endpoint['status']}" if endpoint else "endpoint      none"))
    devices = [{**row, "groups": ", ".join(row["groups"])} for row in found["edge"]["devices"]]
    _table(console, "devices", ("thing", "groups", "status", "model_version"), devices)


def bill(found: Bill) -> None:
    """What the stack costs: a run, idle, a month, by service, the assumptions, the budget."""
    console = Console(highlight=False)
    run, idle, month = found.run, found.idle, found.month
    recorded = f"run {run['from']}" if run["from"] else "no run is recorded yet"
    for title, usd, how in (
        ("a run", run["usd"], f"{recorded}; at most ${run['at_most_usd']:.2f}"),
        ("idle, a day", idle["day_usd"], "what stands while nothing runs"),
        ("idle, a month", idle["month_usd"], f"by the hour: {', '.join(idle['hourly']) or 'nothing'}"),
        ("a month", month["usd"], f"{month['runs']} runs, {month['requests']:,} requests, devices on"),
    ):
        console.print(Text(f"{title:<15} ${usd:>9.2f}   {how}"), soft_wrap=True)
    names = ("service", "run_usd", "idle_month_usd", "month_usd")
    money = [row for row in found.services if row["run_usd"] or row["month_usd"]]
    figures = [{key: row[key] if key == "service" else f"{row[key]:.4f}" for key in names} for row in money]
    _table(console, "by service, USD", names, [{name: name for name in names}, *figures])
    paid = [row for row in (*run["rows"], *month["rows"], *idle["rows"]) if row["usd"] is None or row["usd"] >= 0.0005]
    rows = [{**row, "usd": None if row["usd"] is None else f"{row['usd']:.4f}"} for row in paid]
    _table(console, "rows, USD", ("what", "usd", "how"), rows)
    free = [row for row in idle["rows"] if row["usd"] == 0]
    console.print(
        Text(f"without charge {len(free)} rows that cost nothing by standing; --json has each with its reason")
    )
    for what in found.unpriced:
        console.print(Text(f"not priced     {what}", "yellow"), soft_wrap=True)
    console.print(Text("assumptions"))
    for line in found.assumptions:
        console.print(Text(f"  {line}"), soft_wrap=True)
    console.print(Text("sources"))
    for page in sorted(set(found.prices["sources"].values())):
        console.print(Text(f"  {page}"), soft_wrap=True)
    caps = {key: found.budget[key] for key in ("run_usd", "month_usd") if key in found.budget}
    within = "passed" if found.budget["exceeded"] else "kept"
    console.print(Text(f"[budget]        {', '.join(f'{key} {cap:g}' for key, cap in caps.items())}: {within}"))
    for row in found.budget["exceeded"]:
        console.print(Text(f"  {row['said']}\n  → {row['remedy']}", "bold red"), soft_wrap=True)


def prospect(found: Prospect, cloud: Cloud, stack: str) -> None:
    """What a deployment asks before it begins: the checks, the changes, the cost."""
    console = Console(highlight=False)
    console.print(Text(f"{stack} to {cloud.name}", "bold"), soft_wrap=True)
    findings(found.findings)
    for line in found.plan.lines():
        console.print(Text(line), soft_wrap=True)
    costs, caps = found.bill, found.bill.budget
    console.print(
        Text(
            f"cost           about ${costs.run['usd']:.2f} a run (cap {caps['run_usd']:g}), "
            f"${costs.idle['month_usd']:.2f} a month idle, ${costs.month['usd']:.2f} a month in use "
            f"(cap {caps['month_usd']:g}); lab cost says how"
        ),
        soft_wrap=True,
    )


def outputs(found: Mapping[str, str]) -> None:
    """The outputs of a deployed stack."""
    _table(Console(highlight=False), "outputs", ("name", "value"), [{"name": k, "value": v} for k, v in found.items()])


def devices(rows: Sequence[Mapping[str, Any]]) -> None:
    """The desk's fleet, a line for each device."""
    shown = [
        {
            **row,
            "groups": ", ".join(row["groups"]),
            "faults": ", ".join(row["faults"]) or None,
            "telemetry": row["telemetry"] and row["telemetry"]["sent"],
        }
        for row in rows
    ]
    columns = ("thing", "groups", "status", "model_version", "telemetry", "faults")
    _table(Console(highlight=False), "devices", columns, shown)


def verdicts(pushed: Pushed) -> None:
    """What each device made of a model that was pushed."""
    words = {True: "accepted", False: "refused", None: "not seen"}
    rows = [{**vars(one), "verdict": words[one.accepted]} for one in pushed.verdicts]
    _table(Console(highlight=False), f"version {pushed.version}", ("thing", "verdict", "reason", "detail"), rows)


def grants(rows: Sequence[Grant]) -> None:
    """Each role's grants: used or not, and the reason."""
    console = Console(highlight=False)
    for role, own in groupby(rows, key=lambda row: row.role):
        shown = [
            {"used": "used" if row.used else "unused", "action": row.action, "on": row.resource, "reason": row.reason}
            for row in own
        ]
        _table(console, role, ("used", "action", "on", "reason"), shown)


def access(rows: Sequence[Grant], denied: Sequence[Mapping[str, Any]], statements: int, spare: int) -> None:
    """What the grants come to, and each call that was denied."""
    console = Console(highlight=False)
    used, bare = sum(row.used for row in rows), sum(not row.used and not row.reason for row in rows)
    said = f"{len(rows)} grants: {used} used, {len(rows) - used - bare} unused with a reason, {bare} unused without one"
    console.print(Text(said))
    needed = f"{statements} statements: a recorded call needs {statements - spare}, no call needs {spare}"
    console.print(Text(needed))
    for call in denied:
        what = call.get("unknown") or f"{call['action']} on {call['resource']}"
        console.print(Text(f"denied: {call['role']}: {what}"), soft_wrap=True)


def _table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows under a title, a line each whatever the terminal's width: what is read here is also piped and copied."""
    texts = [["–" if row.get(column) is None else str(row[column]) for column in columns] for row in rows]
    console.print(Text(f"{title:<13} {'' if texts else 'none'}".rstrip()))
    widths = [max((len(text[index]) for text in texts), default=0) for index in range(len(columns))]
    for text in texts:
        line = "  ".join(word.ljust(width) for word, width in zip(text, widths, strict=True)).rstrip()
        console.print(Text(f"  {line}"), soft_wrap=True)
