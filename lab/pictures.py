"""The report's charts as SVG: learning curves, intervals, confusion matrix, time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 500, 250
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 16, 34
MOST_CLASSES_WITH_FIGURES = 24


def curves(history: Sequence[Mapping[str, Any]], word: str, label: str) -> str:
    """Lines over epochs for every number in `history` whose key holds `word`; empty when there is none."""
    keys = [key for key in (history[0] if history else {}) if word in key and _is_number(history[0][key])]
    lines = {key: [float(row[key]) for row in history if _is_number(row.get(key))] for key in keys}
    if not lines:
        return ""
    values = [value for line in lines.values() for value in line]
    low, high, ticks = nice(min(values), max(values))
    last = max(len(line) for line in lines.values())

    def x(epoch: float) -> float:
        return LEFT + (epoch / max(1, last - 1)) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 7}" y="{y(tick) + 4:.1f}">{tick:.6g}</text>')
    for epoch in _epoch_ticks(last):
        parts.append(f'<text class="tick mid" x="{x(epoch - 1):.1f}" y="{HEIGHT - BOTTOM + 17}">{epoch}</text>')
    parts.append(f'<text class="tick end" x="{WIDTH - RIGHT}" y="{HEIGHT - 3}">epoch</text>')
    for number, line in enumerate(lines.values(), 1):
        points = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(line))
        parts.append(f'<polyline class="line s{number}" points="{points}"/>')
        parts.append(f'<circle class="dot s{number}" cx="{x(len(line) - 1):.1f}" cy="{y(line[-1]):.1f}" r="3"/>')
    parts += [*_legend(lines), "</svg>"]
    return "\n".join(parts)


def _legend(lines: Mapping[str, Sequence[float]]) -> Iterator[str]:
    x = LEFT + 6.0
    for number, (key, line) in enumerate(lines.items(), 1):
        text = f"{key.replace('_', ' ')} {line[-1]:.4g}"
        yield f'<line class="line s{number}" x1="{x:.1f}" x2="{x + 16:.1f}" y1="{HEIGHT - 8}" y2="{HEIGHT - 8}"/>'
        yield f'<text class="legend" x="{x + 21:.1f}" y="{HEIGHT - 4}">{escape(text)}</text>'
        x += 40 + 6.4 * len(text)


def _epoch_ticks(last: int) -> list[int]:
    step = max(1, math.ceil(last / 8))
    ticks = list(range(step, last + 1, step))
    return [1, *ticks] if step > 1 else ticks


def nice(low: float, high: float) -> tuple[float, float, list[float]]:
    """A range around [low, high] whose ends and ticks are round."""
    span = (high - low) or abs(high) or 1.0
    rough = span / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return first * step, last * step, [index * step for index in range(first, last + 1)]


def intervals(rows: Sequence[tuple[str, Mapping[str, Any]]], metric: str, label: str) -> str:
    """Points with their 95 % intervals, one row per model, the first one emphasised."""
    shown = [(name, values) for name, values in rows if _is_number(values.get(metric))]
    if not shown:
        return ""
    numbers = [float(values.get(f"{metric}{end}", values[metric])) for _, values in shown for end in ("_low", "_high")]
    low, high, ticks = nice(min(numbers), max(numbers))
    left, wide, row = 168, 1000, 34
    height = 14 + row * len(shown) + 26

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (wide - left - 92)

    parts = [f'<svg class="chart" viewBox="0 0 {wide} {height}" role="img" aria-label="{escape(label)}">']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="8" y2="{height - 24}"/>')
        parts.append(f'<text class="tick mid" x="{x(tick):.1f}" y="{height - 6}">{tick:.6g}</text>')
    for index, (name, values) in enumerate(shown):
        y = 14 + row * index + row / 2
        value = float(values[metric])
        start, end = (float(values.get(f"{metric}{side}", value)) for side in ("_low", "_high"))
        mark = "ours" if index == 0 else "other"
        parts.append(f'<text class="row {mark}" x="{left - 16}" y="{y + 4:.1f}">{escape(name)}</text>')
        parts.append(f'<line class="whisker {mark}" x1="{x(start):.1f}" x2="{x(end):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<circle class="point {mark}" cx="{x(value):.1f}" cy="{y}" r="5.5">'
            f"<title>{escape(name)}: {value:.4f} [{start:.4f}, {end:.4f}]</title></circle>"
        )
        parts.append(f'<text class="row value {mark}" x="{wide - 4}" y="{y + 4:.1f}">{value:.4f}</text>')
    parts.append("</svg>")
    return "\n".join(parts)


def scatter(pairs: Sequence[Sequence[float]], label: str) -> str:
    """Points (true, predicted) and the line on which both are equal; empty without points."""
    if not pairs:
        return ""
    low, high, ticks = nice(min(map(min, pairs)), max(map(max, pairs)))
    side = HEIGHT + 90
    span = side - TOP - BOTTOM

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * span

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * span

    parts = [f'<svg class="chart" viewBox="0 0 {LEFT + span + RIGHT} {side}" role="img" aria-label="{escape(label)}">']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + span}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 7}" y="{y(tick) + 4:.1f}">{tick:.6g}</text>')
        parts.append(f'<text class="tick mid" x="{x(tick):.1f}" y="{TOP + span + 17}">{tick:.6g}</text>')
    parts.append(f'<line class="line s2" x1="{x(low)}" y1="{y(low)}" x2="{x(high)}" y2="{y(high)}"/>')
    parts += [f'<circle class="dot s1" cx="{x(true):.1f}" cy="{y(said):.1f}" r="2"/>' for true, said in pairs]
    parts.append(f'<text class="tick end" x="{LEFT + span}" y="{side - 2}">true value</text></svg>')
    return "\n".join(parts)


def sparkline(values: Sequence[float | None]) -> str:
    """A small line of a window's values; gaps where one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1.0
    points = " ".join(
        f"{2 + 156 * place / max(1, len(values) - 1):.1f},{26 - 24 * (value - low) / span:.1f}"
        for place, value in enumerate(values)
        if value is not None
    )
    line = f'<polyline class="line s1" points="{points}"/>'
    return f'<svg class="spark" viewBox="0 0 160 28" width="160" height="28">{line}</svg>'


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """The confusion matrix: rows are true classes, columns predicted, shade is the share of the row."""
    count = len(classes)
    if not count or len(matrix) != count:
        return ""
    cell = max(12, min(52, 470 // count))
    margin = 20 + 7 * min(14, max(len(str(name)) for name in classes))
    size = margin + count * cell
    figures = count <= MOST_CLASSES_WITH_FIGURES
    parts = [
        f'<svg class="matrix" viewBox="0 0 {size + 6} {count * cell + 30}" role="img" aria-label="confusion matrix">'
    ]
    for i, row in enumerate(matrix):
        whole = sum(row) or 1
        y = 6 + i * cell
        name = escape(str(classes[i])[:14])
        parts.append(f'<text class="tick end" x="{margin - 8}" y="{y + cell / 2 + 4:.1f}">{name}</text>')
        for j, value in enumerate(row):
            share = value / whole
            kind = "hit" if i == j else "miss"
            shade = 0.0 if value == 0 else 0.14 + 0.86 * share if i == j else min(1.0, 0.25 + 2.5 * share)
            x = margin + j * cell
            parts.append(
                f'<rect class="{kind}" x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}" rx="3" '
                f'style="--shade:{shade:.3f}"><title>{name} predicted as {escape(str(classes[j]))}: {value} '
                f"({share:.1%})</title></rect>"
            )
            if figures and value:
                ink = "on" if shade > 0.55 else "off"
                parts.append(
                    f'<text class="cell {ink}" x="{x + cell / 2 - 1:.1f}" y="{y + cell / 2 + 3:.1f}">{value}</text>'
                )
    parts += _columns(classes, cell, margin)
    parts.append("</svg>")
    return "\n".join(parts)


def _columns(classes: Sequence[str], cell: int, margin: int) -> Iterator[str]:
    """Names under the columns; short ones stand, long ones are cut."""
    fits = max(1, int(cell / 6.5))
    for j, name in enumerate(classes):
        text = str(name) if len(str(name)) <= fits else str(name)[: max(1, fits - 1)] + "…"
        x = margin + j * cell + cell / 2
        yield f'<text class="tick mid" x="{x:.1f}" y="{len(classes) * cell + 22}">{escape(text)}</text>'


def shares(parts_of_time: Sequence[tuple[str, float]], label: str) -> str:
    """One bar, divided: where the wall time went."""
    total = sum(seconds for _, seconds in parts_of_time) or 1.0
    wide, x = 1000.0, 0.0
    parts = [f'<svg class="shares" viewBox="0 0 {wide:g} 26" role="img" aria-label="{escape(label)}">']
    for number, (name, seconds) in enumerate(parts_of_time):
        size = seconds / total * wide
        title = f"{escape(name)}: {seconds:.1f} s"
        parts.append(
            f'<rect class="p{number}" x="{x:.1f}" y="0" width="{max(0.0, size - 1.5):.1f}" height="26" rx="3">'
            f"<title>{title}</title></rect>"
        )
        x += size
    parts.append("</svg>")
    return "\n".join(parts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
