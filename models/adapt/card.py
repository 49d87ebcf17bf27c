"""The data card: what adapt found, as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from models.adapt.finding import EXCLUDED, WARN
from models.adapt.report import Report

STYLE = """
:root{--paper:#faf9f6;--card:#fff;--ink:#1b1f24;--muted:#69707a;--line:#e6e3dc;--accent:#0a736c;
  --second:#c25a1b;
--third:#5b57a6;--warn:#a15c00;--bad:#b3261e;--soft:#f8ead2}
@media (prefers-color-scheme:dark){:root{--paper:#131518;--card:#1a1d21;--ink:#e9e7e2;--muted:#99a1ab;
  --line:#2d3137;
--accent:#55c2b7;--second:#f0955a;--third:#a7a3ee;--warn:#e5b566;--bad:#f28b82;--soft:#3a2d14}
}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
  font:15px/1.55 system-ui,-apple-system,"Segoe UI",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1120px;margin:0 auto;padding:44px 28px 72px}
h1{font-size:34px;line-height:1.15;margin:0 0 6px}
h2{font-size:20px;margin:0 0 12px}
h3{font-size:13px;color:var(--muted);margin:18px 0 8px}
.muted{color:var(--muted)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(172px,1fr));gap:1px;margin:24px 0 0;
background:var(--line);border:1px solid var(--line);border-radius:12px;overflow:hidden}
.facts div{background:var(--card);padding:14px 18px}
.facts dt{font-size:13px;color:var(--muted)}
.facts dd{margin:2px 0 0;font-size:20px;font-weight:620;overflow-wrap:anywhere}
section{margin-top:22px;background:var(--card);border:1px solid var(--line);border-radius:12px;
  padding:22px 26px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th{text-align:left;color:var(--muted);font-size:12.5px;padding:6px 14px 6px 0;
  border-bottom:1px solid var(--line);white-space:nowrap}
td{padding:7px 14px 7px 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:break-word}
tr:last-child td{border-bottom:0}
.n{text-align:right;white-space:nowrap}
.pill{display:inline-block;padding:1px 9px;border-radius:99px;font-size:12.5px;font-weight:600;
  background:var(--soft);color:var(--warn);white-space:nowrap}
.pill.excluded{color:var(--bad)}
.pill.note{color:var(--muted);background:none;padding-left:0}
svg{display:block;max-width:100%}
svg .bar{fill:var(--accent)}
svg .span{fill:var(--bad);opacity:.16}
svg polyline{fill:none;stroke:var(--accent);stroke-width:1.2}
svg text{fill:var(--muted);font-size:12px}
svg .box{fill:none;stroke:#ff5a36;stroke-width:3}
.pics{display:flex;flex-wrap:wrap;gap:10px}
.pics figure{margin:0;width:164px;font-size:12px;color:var(--muted);overflow-wrap:anywhere}
.pics svg{width:164px;border-radius:4px}
"""


def html(report: Report) -> str:
    """The whole page."""
    data = report.data
    title = f"{data['dataset']}: data card"
    body = [
        f"<h1>{escape(str(data['dataset']))}</h1><div class=muted>{escape(report.what)}</div>", _facts(report),
        _findings(report), _guesses(report), _series(report.drawings), _pictures(report), _classes(report.classes),
        _columns(report.columns), _settings(data, report.gate),
    ]  # fmt: skip
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, body))
        + "\n</main></body></html>\n"
    )


def _facts(report: Report) -> str:
    data = report.data
    facts = {"task": f"{data['modality']} {data['task']}", "samples": f"{report.rows:,}"}
    facts |= {role: str(data[role]) for role in ("target", "group", "time", "window", "patch") if data.get(role)}
    facts |= {"findings": str(len(report.findings))}
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{rows}</dl>'


def _findings(report: Report) -> str:
    rows = [
        f'<tr><td><span class="pill {one.level}">{escape(one.kind)}</span></td><td>{escape(one.subject)}</td>'
        f"<td>{escape(one.evidence)}{'. Excluded.' if one.level == EXCLUDED else ''}</td></tr>"
        for one in sorted(report.findings, key=lambda one: (one.level != EXCLUDED, one.level != WARN))
    ]
    return _section("What was found", _table(("finding", "where", "evidence"), rows) if rows else "<p>Nothing.</p>")


def _guesses(report: Report) -> str:
    rows = [
        f"<tr><td>{escape(one.what)}</td><td>{escape(one.value or 'none')}</td><td class=n>{one.sure:.0%}</td>"
        f"<td>{escape(one.why)}</td><td><code>{escape(one.overrule)}</code></td></tr>"
        for one in report.guesses
    ]
    return _section("What was concluded", _table(("what", "value", "sure", "why", "overrule"), rows) if rows else "")


def _series(drawings: Mapping[str, Any]) -> str:
    lines: Mapping[str, Sequence[Sequence[float]]] = drawings.get("lines") or {}
    charts = [_line(name, points, drawings.get("spans") or []) for name, points in lines.items() if points]
    note = '<p class="muted">Shaded: labelled anomalous.</p>' if drawings.get("spans") else ""
    return _section("Over time", note + "".join(charts)) if charts else ""


def _line(name: str, points: Sequence[Sequence[float]], spans: Sequence[Sequence[float]]) -> str:
    values = [value for _, value in points]
    low, high = min(values), max(values)
    scale = (high - low) or 1.0
    drawn = " ".join(f"{x * 1000:.1f},{170 - (value - low) / scale * 150:.1f}" for x, value in points)
    shades = "".join(
        f'<rect class="span" x="{start * 1000:.1f}" y="10" width="{max(2.0, (end - start) * 1000):.1f}" height="165"/>'
        for start, end in spans
    )
    head = f"{escape(name)}: {low:.4g} to {high:.4g}"
    return f'<h3>{head}</h3><svg viewBox="0 0 1000 180" width="100%" role="img" aria-label="{head}">{shades}' \
        f'<polyline points="{drawn}"/></svg>'  # fmt: skip


def _pictures(report: Report) -> str:
    shown: Mapping[str, Sequence[Mapping[str, Any]]] = report.drawings.get("pictures") or {}
    parts = [
        f'<h3>{escape(name)}</h3><div class="pics">{"".join(map(_picture, pictures))}</div>'
        for name, pictures in shown.items()
    ]
    sizes = report.drawings.get("sizes")
    if sizes:
        parts.append("<h3>sizes in pixels</h3>" + _bars(sizes.most_common(8)))
    return _section("Pictures", "".join(parts)) if parts else ""


def _picture(one: Mapping[str, Any]) -> str:
    width, height = one["size"]
    boxes = "".join(
        f'<rect class="box" x="{left}" y="{top}" width="{wide}" height="{tall}"/>'
        for top, left, tall, wide in one["boxes"]
    )
    name = escape(str(one["name"]), quote=True)
    return f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}"><image href="{one["uri"]}" ' \
        f'width="{width}" height="{height}"/>{boxes}</svg>{name}</figure>'  # fmt: skip


def _classes(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])[:40]
    return _section("Classes", _bars(most)) if most else ""


def _bars(counts: Sequence[tuple[str, int]]) -> str:
    top = max(count for _, count in counts)
    rows = [
        f'<tr><td>{escape(str(name))}</td><td><svg width="{max(2, 400 * count / top):.0f}" height="12">'
        f'<rect class="bar" width="100%" height="12" rx="3"/></svg></td><td class=n>{count:,}</td></tr>'
        for name, count in counts
    ]
    return _table((), rows)


def _columns(columns: Sequence[Mapping[str, Any]]) -> str:
    if not columns:
        return ""
    return _section("Columns", _table(("column", "role", "kind", "unit", "different", "missing", "values", ""),
                                      map(_column, columns)))  # fmt: skip


def _column(row: Mapping[str, Any]) -> str:
    if "low" in row:
        values = f"{row['low']:.4g} … {row['middle']:.4g} … {row['high']:.4g}"
    else:
        values = ", ".join(f"{word} ({count})" for word, count in row.get("common", [])[:4])
    role = (
        f'<span class="pill excluded">{row["role"]}</span>' if row["role"] == "excluded" else escape(str(row["role"]))
    )
    cells = [escape(str(row["name"])), role, escape(str(row["kind"])), escape(str(row["unit"]))]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + (
        f"<td class=n>{row['distinct']:,}</td><td class=n>{row['missing']:.1%}</td><td>{escape(values)}</td>"
        f"<td>{_histogram(row.get('histogram') or [])}</td></tr>"
    )  # fmt: skip


def _histogram(counts: Sequence[int]) -> str:
    if not counts:
        return ""
    top, wide = max(counts) or 1, 120 / len(counts)
    bars = "".join(
        f'<rect class="bar" x="{place * wide:.1f}" y="{26 - 26 * count / top:.1f}" width="{max(0.8, wide - 0.8):.1f}" '
        f'height="{26 * count / top:.1f}"/>'
        for place, count in enumerate(counts)
    )
    return f'<svg width="120" height="26" aria-hidden="true">{bars}</svg>'


def _settings(data: Mapping[str, Any], gate: Mapping[str, float]) -> str:
    every = [("[data]", data), ("[gate]", gate)]
    rows = [
        f"<tr><td>{table}</td><td><code>{escape(key)}</code></td><td>{escape(str(value))}</td></tr>"
        for table, values in every
        for key, value in values.items()
    ]
    return _section("Settings written", _table((), rows))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _table(head: Sequence[str], rows: Iterator[str] | Sequence[str]) -> str:
    first = f"<tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>" if head else ""
    return f'<div class="scroll"><table>{first}{"".join(rows)}</table></div>'
