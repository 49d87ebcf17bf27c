"""What adapt came to: the settings, the guesses behind them, what it found, and how that is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from models.adapt.finding import EXCLUDED, Finding
from models.adapt.guess import CERTAIN, Guess
from models.adapt.problem import some


@dataclass
class Options:
    """What the caller decided; "" and empty leave it to adapt."""

    target: str = ""
    task: str = ""
    group: str = ""
    time: str = ""
    missing: tuple[str, ...] = ()


@dataclass
class Report:
    """`data` is the `[data]` table, `gate` its fitting metrics; `columns` and `drawings` are for the data card."""

    data: dict[str, Any]
    gate: dict[str, float]
    what: str
    rows: int
    guesses: list[Guess] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    columns: list[dict[str, object]] = field(default_factory=list)
    classes: dict[str, int] = field(default_factory=dict)
    drawings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON holds it, without the drawings."""
        return {
            "what": self.what,
            "rows": self.rows,
            "data": self.data,
            "gate": self.gate,
            "classes": self.classes,
            "columns": self.columns,
            "guesses": [asdict(guess) for guess in self.guesses],
            "findings": [asdict(finding) for finding in self.findings],
            "notes": self.notes,
        }


def told(report: Report, places: Mapping[str, str]) -> str:
    """The report for a terminal; `places` are the files written, by what they are."""
    return "\n".join([*_table(report), *_guesses(report), *_findings(report), *_places(places)])


def _table(report: Report) -> Iterator[str]:
    data = report.data
    yield f"{'data set':<10} {data['dataset']}: {report.what}"
    yield f"{'task':<10} {data['modality']} {data['task']}"
    roles = ((role, data.get(role)) for role in ("target", "group", "time"))
    yield from (f"{role:<10} {name}" for role, name in roles if name)
    if report.classes:
        yield f"{'classes':<10} {some((f'{name} {count:,}' for name, count in report.classes.items()), 10)}"
    if report.columns:
        inputs = [str(row["name"]) for row in report.columns if row["role"] == "input"]
        yield f"{'inputs':<10} {len(inputs)} of {len(report.columns)} columns: {some(inputs, 6)}"
    for role in ("window", "patch", "exclude", "missing"):
        if data.get(role):
            value = some(data[role], 6) if isinstance(data[role], list) else data[role]
            yield f"{role:<10} {value}"
    yield f"{'gate':<10} " + ", ".join(f"{name} {value:g}" for name, value in report.gate.items())


def _guesses(report: Report) -> Iterator[str]:
    unsure = [guess for guess in report.guesses if guess.sure < CERTAIN]
    if unsure:
        yield "\nguessed, and how to overrule it"
    for guess in unsure:
        yield f"  {guess.what}: {guess.value or 'none'} ({guess.sure:.0%} sure: {guess.why}); {guess.overrule}"
    yield from (f"  {note}" for note in report.notes)


def _findings(report: Report) -> Iterator[str]:
    yield f"\nfindings   {len(report.findings)}"
    for finding in report.findings:
        out = " → excluded" if finding.level == EXCLUDED else ""
        yield f"  {finding.kind}: {finding.subject}: {finding.evidence}{out}"


def _places(places: Mapping[str, str]) -> Iterator[str]:
    yield ""
    yield from (f"{what:<10} {place}" for what, place in places.items())
