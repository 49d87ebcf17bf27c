"""Draws the candidates of one target: latency against metric, the chosen one marked, as an SVG that stands alone.

What a browser needs is inside: style for light and dark, no font, no script. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 44, 66
# Width of a letter and height of a line of the labels, for keeping them apart.
LETTER, LINE = 7.0, 14
STYLE = """
svg { font: 12px ui-sans-serif, system-ui, "Segoe UI", Roboto, Arial, sans-serif; }
.bg { fill: #ffffff; } text { fill: #1b1f24; stroke: #ffffff; stroke-width: 3px; paint-order: stroke; }
.soft { fill: #69707a; font-size: 11px; font-weight: 400; }
.grid { stroke: #e6e3dc; } .level { stroke: #69707a; stroke-dasharray: 5 4; } .lead { stroke: #69707a; opacity: .5; }
.whisker { stroke: #69707a; opacity: .4; stroke-width: 2; }
.fits { fill: #69707a; } .dropped { fill: none; stroke: #c25a1b; stroke-width: 1.8; }
.chosen { fill: #0a736c; } .ring { fill: none; stroke: #0a736c; stroke-width: 2; } .bold { font-weight: 650; }
.end { text-anchor: end; } .mid { text-anchor: middle; }
@media (prefers-color-scheme: dark) {
  .bg { fill: #1a1d21; } text { fill: #e9e7e2; stroke: #1a1d21; } .soft { fill: #99a1ab; } .grid { stroke: #2d3137; }
  .level, .lead, .whisker { stroke: #99a1ab; } .fits { fill: #99a1ab; } .dropped { stroke: #f0955a; }
  .chosen { fill: #55c2b7; } .ring { stroke: #55c2b7; }
}
"""

Row = Mapping[str, Any]
Box = tuple[float, float, float, float]
Place = Callable[[float], float]


def pictures(manifest: Mapping[str, Any]) -> dict[str, str]:
    """A picture by target, of each target where something was measured. `manifest` is a release's."""
    drawn = {}
    for target in sorted({row["target"] for row in manifest["artifacts"]}):
        rows = [row for row in manifest["artifacts"] if row["target"] == target]
        if any(_measured(row) for row in rows):
            drawn[target] = draw(target, rows, bool(manifest["contract"].get("classes")))
    return drawn


def draw(target: str, rows: Sequence[Row], classes: bool) -> str:
    """One target's rows: median milliseconds to the right, logarithmic, and the test metric with its interval upwards.

    `classes` says that the metric is accuracy; else it is the root of the mean squared error, whose axis points down.
    """
    shown = sorted((row for row in rows if _measured(row)), key=lambda row: (row["p50_ms"], row["format"]))
    spans = [_span(row, classes) for row in shown]
    x, across = _log_axis([row["p50_ms"] for row in shown])
    y, upwards = _axis([value for span in spans for value in span], up=classes)
    level = y(_trained(shown[0], classes))
    parts = [*_frame(target, shown[0], classes, x, across, y, upwards)]
    parts.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>')
    parts.append(f'<text class="soft end" x="{WIDTH - RIGHT - 4}" y="{level - 5:.1f}">trained model</text>')
    taken: list[Box] = [(WIDTH - RIGHT - 90, level - 16, WIDTH - RIGHT, level - 2)]
    points = [(x(row["p50_ms"]), y(row["metric"])) for row in shown]
    taken += [(left - 7, top - 7, left + 7, top + 7) for left, top in points]
    for row, point in zip(shown, points, strict=True):
        parts += _label(row, point, taken)
    for row, span, point in zip(shown, spans, points, strict=True):
        parts += _point(row, point, (y(span[0]), y(span[2])))
    parts += [*_legend(rows, shown), "</svg>"]
    return "\n".join(parts)


def _measured(row: Row) -> bool:
    return row.get("skipped") is None and all(isinstance(row.get(key), int | float) for key in ("p50_ms", "metric"))


def _trained(row: Row, classes: bool) -> float:
    """What the trained model itself reached: a drop is accuracy lost, or the share by which the error grew."""
    drop = float(row["metric_drop"])
    return float(row["metric"]) + drop if classes else float(row["metric"]) / (1 + drop)


def _span(row: Row, classes: bool) -> tuple[float, float, float]:
    """A candidate's metric, and what the ends of its loss's 95 % interval make of the trained model's."""
    trained = _trained(row, classes)
    ends = [row.get(key) for key in ("metric_drop_low", "metric_drop_high")]
    found = [trained - end if classes else trained * (1 + end) for end in ends if isinstance(end, int | float)]
    return min([row["metric"], *found]), float(row["metric"]), max([row["metric"], *found])


def _log_axis(values: Sequence[float]) -> tuple[Place, list[float]]:
    """A logarithmic axis that holds all values, and its ticks at 1, 2 and 5 of each power of ten."""
    low, high = min(values) / 1.35, max(values) * 1.35
    if high / low < 4:
        middle = math.sqrt(low * high)
        low, high = middle / 2, middle * 2
    ticks = [factor * 10.0**power for power in range(-7, 8) for factor in (1, 2, 5)]
    span = math.log(high / low)
    return lambda value: LEFT + math.log(value / low) / span * (WIDTH - LEFT - RIGHT), [
        tick for tick in ticks if low <= tick <= high
    ]


def _axis(values: Sequence[float], up: bool) -> tuple[Place, list[float]]:
    """An axis that holds all values with a margin, upwards or downwards, and four or five round ticks."""
    low, high = min(values), max(values)
    # A hundredth of the value at least, so that noise does not look like a difference.
    spread = max(high - low, 0.01 * max(abs(high), 1e-9))
    low, high = (low + high - 1.3 * spread) / 2, (low + high + 1.3 * spread) / 2
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if (high - low) / (factor * power) <= 5)
    ticks = [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
    height = HEIGHT - TOP - BOTTOM

    def place(value: float) -> float:
        share = (value - low) / (high - low)
        return TOP + (1 - share if up else share) * height

    return place, ticks


def _frame(
    target: str, row: Row, classes: bool, x: Place, across: Sequence[float], y: Place, upwards: Sequence[float]
) -> Iterator[str]:
    """Ground, title, grid and what the axes mean."""
    metric = "accuracy" if classes else "root mean squared error"
    label = f"{target}: latency against {metric} of every candidate"
    box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
    yield f'<svg {box} role="img" aria-label="{escape(label)}">'
    yield f'<style>{STYLE}</style><rect class="bg" width="{WIDTH}" height="{HEIGHT}"/>'
    proxy = "  measured by proxy, on another kind of machine" if row.get("proxy") else ""
    yield f'<text class="bold" x="{LEFT}" y="17">{escape(target)}<tspan class="soft">{proxy}</tspan></text>'
    says = f"{metric} on the test split, with the 95 % interval of its loss; up is better"
    yield f'<text class="soft" x="{LEFT}" y="{TOP - 9}">{says}</text>'
    for tick in upwards if not classes else [tick for tick in upwards if tick <= 1]:
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        yield f'<text class="soft end" x="{LEFT - 8}" y="{y(tick) + 4:.1f}">{tick:.6g}</text>'
    floor = HEIGHT - BOTTOM
    for tick in across:
        yield f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{floor}"/>'
        yield f'<text class="soft mid" x="{x(tick):.1f}" y="{floor + 16}">{tick:g}</text>'
    yield f'<text class="soft end" x="{WIDTH - RIGHT}" y="{floor + 33}">median ms at batch 1, left is faster</text>'


def _kind(row: Row) -> str:
    if row.get("chosen"):
        return "chosen"
    return "dropped" if row.get("dropped") else "fits"


def _point(row: Row, point: tuple[float, float], ends: tuple[float, float]) -> Iterator[str]:
    left, top = point
    yield f'<line class="whisker" x1="{left:.1f}" x2="{left:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>'
    if row.get("chosen"):
        yield f'<circle class="ring" cx="{left:.1f}" cy="{top:.1f}" r="9"/>'
    text = f"{row['format']}: {row['p50_ms']:.3f} ms, {row['metric']:.4f}"
    yield f'<circle class="{_kind(row)}" cx="{left:.1f}" cy="{top:.1f}" r="5"><title>{escape(text)}</title></circle>'


def _label(row: Row, point: tuple[float, float], taken: list[Box]) -> Iterator[str]:
    """The format's name as near to its point as it fits, with a line to it where that is not beside it."""
    left, top = point
    wide = LETTER * len(row["format"])
    box = next(
        (box for box in _boxes(left, top, wide) if _free(box, taken)), (left + 11, top - 7, left + wide, top + 7)
    )
    taken.append(box)
    if abs((box[1] + box[3]) / 2 - top) > 1 or min(abs(box[0] - left), abs(box[2] - left)) > LINE:
        edge = box[0] if box[0] > left else box[2]
        yield f'<line class="lead" x1="{left:.1f}" y1="{top:.1f}" x2="{edge:.1f}" y2="{(box[1] + box[3]) / 2:.1f}"/>'
    style = ' class="bold"' if row.get("chosen") else ""
    yield f'<text{style} x="{box[0]:.1f}" y="{box[3] - 3:.1f}">{escape(row["format"])}</text>'


def _boxes(left: float, top: float, wide: float) -> Iterator[Box]:
    """Places for a label: right and left of its point, then a line above and below, and so on, ever further aside."""
    for aside in range(0, WIDTH, 40):
        for step in range(HEIGHT // LINE):
            for side in (1, -1) if step else (1,):
                middle = top + side * step * LINE
                for start in (left + 13 + aside, left - 13 - wide - aside):
                    yield start, middle - LINE / 2, start + wide, middle + LINE / 2


def _free(box: Box, taken: Sequence[Box]) -> bool:
    if box[0] < LEFT or box[2] > WIDTH - 2 or box[1] < TOP - 4 or box[3] > HEIGHT - BOTTOM:
        return False
    return not any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
    )


def _legend(rows: Sequence[Row], shown: Sequence[Row]) -> Iterator[str]:
    """What the marks mean, and how many candidates are not in the picture."""
    left, top = float(LEFT), HEIGHT - 12
    for kind, text in (("chosen", "chosen"), ("fits", "fits, slower"), ("dropped", "dropped, the table says why")):
        if any(_kind(row) == kind for row in shown):
            yield f'<circle class="{kind}" cx="{left + 5:.1f}" cy="{top - 4}" r="5"/>'
            yield f'<text class="soft" x="{left + 16:.1f}" y="{top}">{text}</text>'
            left += 34 + LETTER * len(text)
    missing = len(rows) - len(shown)
    if missing:
        yield f'<text class="soft end" x="{WIDTH - RIGHT}" y="{top}">{missing} skipped, see the table</text>'
