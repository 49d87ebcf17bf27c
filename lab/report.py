"""Writes a run's report.html: one file that opens offline."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import fleetpicture, flowchart, pictures
from lab.home import read_json, write_atomically
from lab.metric import ERRORS, best, leading

TEMPLATE = Path(__file__).with_name("report.html.j2")
WATCHED = ("accuracy", "rmse", "f1", "score")
PNG = b"\x89PNG\r\n\x1a\n"
SPLITS = ("train", "validation", "test")
HEADLINES = {"SUCCEEDED": "succeeded", "REFUSED": "refused by the gate", "FAILED": "failed"}


def render(folder: Path) -> Path:
    """Writes `folder`/report.html from its record and the files beside it; a part the run never reached says so."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"figure": figure, "bytes": bytes_for_people, "clock": clock, "tojson_short": json.dumps}
    environment.filters |= {"brief": brief, "megabytes": megabytes}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    path = folder / "report.html"
    write_atomically(path, template.render(**_context(folder)))
    return path


def _context(folder: Path) -> dict[str, Any]:
    from markupsafe import Markup

    record = read_json(folder / "record.json")
    report = _read(folder / "evaluate" / "report.json")
    data = _read(folder / "curated" / "data_report.json")
    metric = leading(str(record.get("task")))
    models = _models(record)
    rival = best(dict(models[1:]), metric)
    history = report.get("history") or []
    children = max(0.0, record["seconds"] - record["engine"]["overhead_seconds"])
    time_rows = [("jobs, functions, endpoint, device", children), *record["engine"]["phases"].items()]
    return {
        "record": record,
        "headline": HEADLINES.get(record["status"], record["status"]),
        "metric": metric,
        "models": models,
        "rival": (rival, dict(models[1:])[rival]) if rival else None,
        "winner": record["metrics"].get("winner"),
        "verdict": record["metrics"].get("verdict"),
        "flows": [Markup(svg) for svg in _flows(folder, record)],
        "failed": [row for row in record["states"] if row["status"] == "FAILED" and record["status"] == "FAILED"],
        "intervals": Markup(pictures.intervals(models, metric, f"{metric} with 95 % intervals")),
        "criteria": criteria(record, _read(folder / "settings.json")),
        "losses": Markup(pictures.curves(history, "loss", "loss by epoch")),
        "scores": Markup(_scores(history)),
        "scatter": Markup(pictures.scatter(report.get("predicted") or [], "predicted against true values")),
        "slices": report.get("per_slice") or [],
        "matrix": Markup(pictures.confusion(report.get("confusion") or [], report.get("classes") or [])),
        "per_class": report.get("per_class") or [],
        "worst": _with_images(report.get("worst") or []),
        "worst_rows": [_drawn(row) for row in report.get("worst") or [] if not row.get("png_base64")],
        "samples": _by_label(_with_images(report.get("samples") or [])),
        "candidates": _candidates(folder, record["artifacts"]),
        "released_metric": "rmse" if metric in ERRORS else "accuracy",
        "data": data,
        "counts": _counts(data, _read(folder / "curated" / "contract.json")),
        "contract": _read(folder / "curated" / "contract.json"),
        "shares": Markup(pictures.shares(time_rows, "wall time")),
        "time_rows": time_rows,
        "fleet": Markup(_fleet(folder, record)),
        "recipes": sorted(path.name for path in folder.glob("recipes/*.json")),
    }


def _fleet(folder: Path, record: Mapping[str, Any]) -> str:
    """The cores of a release over time."""
    devices = (record.get("edge") or {}).get("devices") or []
    return fleetpicture.draw(fleetpicture.read(folder / "logs" / "devices", devices))


def _scores(history: Sequence[Mapping[str, Any]]) -> str:
    """The figure that training watched, whichever it was."""
    return next(filter(None, (pictures.curves(history, word, f"{word} by epoch") for word in WATCHED)), "")


def _drawn(row: Mapping[str, Any]) -> dict[str, Any]:
    """A worst row of a table or series, its window as a line."""
    from markupsafe import Markup

    return {**row, "line": Markup(pictures.sparkline(row["window"])) if row.get("window") else None}


def criteria(record: Mapping[str, Any], settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The signed criteria beside what was reached: name, asked, got. The verdict on them is the gate's own."""
    metrics = record["metrics"]
    metric = leading(str(record.get("task")))
    test: Mapping[str, Any] = metrics.get("test") or {}
    chosen = [row for row in record["artifacts"] if row.get("chosen")]
    rows = []
    for key, asked in (settings.get("gate") or {}).items():
        if asked is None or asked is False:
            continue
        if key in ("beat_baseline", "beat_champion"):
            rivals = metrics.get("baseline") or {} if key == "beat_baseline" else {"champion": metrics.get("champion")}
            got = ", ".join(f"{name} {figure(row.get(metric))}" for name, row in rivals.items() if row) or "none"
            rows.append((key, "yes", got.replace("_", " ")))
        elif key == "min_agreement":
            rows.append((key, figure(asked), figure(min((row["agreement"] for row in chosen), default=None))))
        elif key == "max_metric_drop":
            rows.append((key, figure(asked), figure(max((row["metric_drop"] for row in chosen), default=None))))
        else:
            rows.append((key, figure(float(asked)), figure(test.get(key))))
    for row in chosen:
        limit = (settings.get("targets") or {}).get(row["target"], {}).get("p95_ms")
        if limit is not None:
            rows.append((f"{row['target']}: p95 ms", figure(limit), figure(row["p95_ms"])))
    return rows


def _candidates(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    """By target: the export job's picture to embed, empty where it left none, and the rows; skipped ones last."""
    found = []
    for target in dict.fromkeys(str(row["target"]) for row in rows):
        path = folder / "export" / f"{target}.svg"
        # As a picture, not as part of the page: whatever stands in it, no browser runs it.
        encoded = base64.b64encode(path.read_bytes()).decode() if path.is_file() else ""
        ours = sorted((row for row in rows if row["target"] == target), key=lambda row: row["skipped"] is not None)
        found.append((target, encoded and f"data:image/svg+xml;base64,{encoded}", ours))
    return found


def _models(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The model, the champion it met, and the baselines, best known first row is ours."""
    metrics = record["metrics"]
    rows: list[tuple[str, Mapping[str, Any]]] = [("this model", metrics.get("test") or {})]
    if metrics.get("champion"):
        rows.append(("champion", metrics["champion"]))
    baselines: Mapping[str, Mapping[str, Any]] = metrics.get("baseline") or {}
    rows += [(name.replace("_", " "), values) for name, values in baselines.items()]
    return [row for row in rows if row[1]]


def _flows(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """A picture of each state machine that ran."""
    drawn = []
    for name, definition in _read(folder / "flow.json").items():
        rows = [row for row in record["states"] if row["flow"] == name]
        if rows:
            drawn.append(flowchart.draw(definition, rows, f"state machine {name} as it ran"))
    return drawn


def _counts(data: Mapping[str, Any], contract: Mapping[str, Any]) -> dict[str, Any]:
    """Samples per split and class as a table: columns, rows with a share for a bar, the sum."""
    counts: Any = contract.get("counts") or data.get("counts") or {}
    splits = {name: counts[name] for name in SPLITS if isinstance(counts.get(name), dict)}
    classes = list(dict.fromkeys(label for row in splits.values() for label in row))
    most = max((sum(int(row.get(label, 0)) for row in splits.values()) for label in classes), default=1) or 1
    rows = []
    for label in classes:
        parts = [int(row.get(label, 0)) for row in splits.values()]
        rows.append({"label": label, "parts": parts, "sum": sum(parts), "share": sum(parts) / most})
    return {"splits": list(splits), "rows": rows, "sum": sum(row["sum"] for row in rows)}


def _with_images(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with an `image` to embed, those left out whose picture is no PNG."""
    kept = []
    for row in rows:
        text = str(row.get("png_base64", ""))
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue
        if raw.startswith(PNG):
            kept.append({**row, "image": f"data:image/png;base64,{text}"})
    return kept


def _by_label(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(str(row.get("label", "")), []).append(row)
    return found


def figure(value: Any) -> str:
    """A number for a table: four figures after the point when small, none of the noise when not one."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.2f}"


def brief(value: Any) -> str:
    """A measured number in three significant figures."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def megabytes(value: Any) -> str:
    """Megabytes without a fraction."""
    return f"{value:,.0f} MB" if isinstance(value, int | float) else "–"


def bytes_for_people(value: Any) -> str:
    """Bytes with a unit."""
    if value is None:
        return "–"
    size = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def clock(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def _read(path: Path) -> dict[str, Any]:
    """A JSON object beside the record, empty when the run did not get as far as writing it."""
    if not path.is_file():
        return {}
    found = read_json(path)
    return found if isinstance(found, dict) else {}
