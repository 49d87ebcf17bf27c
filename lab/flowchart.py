"""Draws a state machine as it ran: its graph, and when each state ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

ROW = 30
BOX = 22
TRUNK_X, SIDE_X, WIDTH = 6, 244, 212
BARS_X, BARS_WIDTH = 492, 500
TOTAL_WIDTH = 1060
MANY = 3  # a Catch that this many states share leads to the common failure path, drawn last

Names = dict[str, str]


@dataclass(frozen=True)
class Graph:
    """A definition as edges: `next` along the flow, `catches` on errors."""

    start: str
    next: Mapping[str, Sequence[str]]
    catches: Mapping[str, Sequence[str]]
    kinds: Mapping[str, str]


@dataclass(frozen=True)
class Placed:
    """Where a state stands: `row` from the top, on the `trunk` or beside it."""

    row: int
    trunk: bool

    @property
    def x(self) -> int:
        return TRUNK_X if self.trunk else SIDE_X

    @property
    def y(self) -> int:
        return 34 + self.row * ROW

    @property
    def middle(self) -> int:
        return self.y + BOX // 2


def read(definition: Mapping[str, Any]) -> Graph:
    """The graph of a definition in Amazon's States Language."""
    states: Mapping[str, Mapping[str, Any]] = definition["States"]
    following: dict[str, list[str]] = {}
    for name, state in states.items():
        found = [state.get("Next"), *[rule.get("Next") for rule in state.get("Choices", [])], state.get("Default")]
        following[name] = list(dict.fromkeys(target for target in found if target))
    catches = {name: [rule["Next"] for rule in state.get("Catch", [])] for name, state in states.items()}
    kinds = {name: str(state["Type"]) for name, state in states.items()}
    return Graph(str(definition["StartAt"]), following, catches, kinds)


def draw(definition: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], label: str) -> str:
    """An SVG of the whole state machine. `rows` are the record's states of this flow, with `start` in epoch seconds."""
    graph = read(definition)
    ran = {str(row["name"]): row for row in rows}
    places = place(graph, set(ran))
    height = 34 + len(places) * ROW + 8
    parts = [
        f'<svg class="flow" viewBox="0 0 {TOTAL_WIDTH} {height}" role="img" aria-label="{escape(label)}">',
        *_axis(rows, height),
        *_edges(graph, places, [str(row["name"]) for row in rows]),
        *_error_edge(graph, places, ran),
        *[_node(name, spot, graph.kinds[name], ran.get(name)) for name, spot in places.items()],
        *_bars(rows, places),
        "</svg>",
    ]
    return "\n".join(parts)


def place(graph: Graph, ran: set[str]) -> dict[str, Placed]:
    """A row for every state: the trunk in order, what branches off below the state it leaves, failures last."""
    trunk = _trunk(graph, ran)
    shared = {target for target in graph.kinds if sum(target in found for found in graph.catches.values()) >= MANY}
    order: list[str] = []

    def beside(name: str) -> Iterator[str]:
        targets = [*graph.next[name], *[target for target in graph.catches[name] if target not in shared]]
        for target in targets:
            if target not in trunk and target not in order and target not in shared:
                order.append(target)
                yield target
                yield from beside(target)

    for name in trunk:
        order.append(name)
        for _ in beside(name):
            pass
    for name in graph.kinds:
        if name not in order and name in shared:
            order.append(name)
            for _ in beside(name):
                pass
    order += [name for name in graph.kinds if name not in order]
    on_trunk = set(trunk)
    return {name: Placed(row, name in on_trunk) for row, name in enumerate(order)}


def _trunk(graph: Graph, ran: set[str]) -> list[str]:
    """The longest way from the start to a good end without going in circles; of equals, the one that ran."""
    best: list[str] = []

    def score(path: list[str]) -> tuple[bool, int, int]:
        good = bool(path) and graph.kinds[path[-1]] != "Fail" and not set(graph.next[path[-1]])
        return good, len(path), sum(name in ran for name in path)

    def walk(path: list[str]) -> None:
        nonlocal best
        ahead = [name for name in graph.next[path[-1]] if name not in path]
        if not ahead and score(path) > score(best):
            best = list(path)
        for name in ahead:
            walk([*path, name])

    walk([graph.start])
    return best


def _node(name: str, spot: Placed, kind: str, row: Mapping[str, Any] | None) -> str:
    state = "idle" if row is None else str(row["status"]).lower()
    if row is not None and row.get("caught"):
        state = "caught"
    what = kind if row is None or ":" not in str(row["resource"]) else _service(str(row["resource"]))
    if 7.4 * len(name) + 5.6 * len(what) > WIDTH - 40:
        what = ""
    title = name if row is None else f"{name}: {row['status']}, {row['seconds']:.2f} s"
    if row is not None and row.get("caught"):
        title += f", caught {row['caught']}"
    return (
        f'<g class="node {state}"><title>{escape(title)}</title>'
        f'<rect x="{spot.x}" y="{spot.y}" width="{WIDTH}" height="{BOX}" rx="5"/>'
        f'<circle cx="{spot.x + 12}" cy="{spot.middle}" r="3.5"/>'
        f'<text class="name" x="{spot.x + 23}" y="{spot.middle + 4}">{escape(name)}</text>'
        f'<text class="what" x="{spot.x + WIDTH - 8}" y="{spot.middle + 4}">{escape(what)}</text></g>'
    )


def _service(resource: str) -> str:
    service = resource.removeprefix("aws-sdk:").partition(":")[0]
    known = {
        "sagemaker": "SageMaker",
        "glue": "Glue",
        "lambda": "Lambda",
        "dynamodb": "DynamoDB",
        "codebuild": "CodeBuild",
        "ecr": "ECR",
        "s3": "S3",
        "greengrassv2": "Greengrass",
        "iot": "IoT",
    }
    return known.get(service, service)


def _edges(graph: Graph, places: Mapping[str, Placed], order: Sequence[str]) -> Iterator[str]:
    ran = set(order)
    for name, targets in graph.next.items():
        for target in targets:
            taken = {name, target} <= ran
            if taken or not _far(places[name], places[target]):
                yield _edge(places[name], places[target], "taken" if taken else "")
        for target in graph.catches[name]:
            if not places[target].trunk and places[target].row > places[name].row and places[name].trunk:
                shared = sum(target in found for found in graph.catches.values()) >= MANY
                if not shared:
                    yield _edge(places[name], places[target], "taken" if {name, target} <= ran else "")


def _far(start: Placed, end: Placed) -> bool:
    """Whether an edge between two states beside the trunk would run through others."""
    return not start.trunk and not end.trunk and abs(start.row - end.row) > 1


def _edge(start: Placed, end: Placed, how: str) -> str:
    if start.trunk and end.trunk and end.row > start.row:
        x = TRUNK_X + 12
        path = f"M{x} {start.y + BOX}V{end.y}"
    elif start.trunk and not end.trunk:
        x = SIDE_X - 14
        path = f"M{TRUNK_X + WIDTH} {start.middle}H{x}V{end.middle}H{SIDE_X}"
    elif not start.trunk and not end.trunk:
        x = SIDE_X + 12
        path = (
            f"M{x} {start.y + BOX if end.row > start.row else start.y}V{end.y if end.row > start.row else end.y + BOX}"
        )
    elif end.row > start.row:
        x = SIDE_X + 24
        path = f"M{x} {start.y + BOX}V{end.middle}H{TRUNK_X + WIDTH}"
    else:
        x = SIDE_X + 60
        path = f"M{x} {start.y}V{end.middle}H{TRUNK_X + WIDTH}"
    return f'<path class="edge {how}" d="{path}"/>'


def _error_edge(graph: Graph, places: Mapping[str, Placed], ran: Mapping[str, Any]) -> Iterator[str]:
    """The way of an error that was caught by the common failure path: drawn only when it was taken."""
    for name, row in ran.items():
        for target in graph.catches.get(name, []):
            if row["status"] == "FAILED" and target in ran and places[target].row > places[name].row:
                start, end = places[name], places[target]
                right = SIDE_X + WIDTH + 12
                yield (
                    f'<path class="edge error" d="M{start.x + WIDTH} {start.middle}H{right}'
                    f'V{end.middle}H{end.x + WIDTH}"/>'
                )


def _axis(rows: Sequence[Mapping[str, Any]], height: int) -> Iterator[str]:
    total = _total(rows)
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 36000) if total / step <= 8)
    ticks = int(total / step) + 1
    for tick in range(ticks):
        x = BARS_X + tick * step / total * BARS_WIDTH
        yield f'<line class="grid" x1="{x:.1f}" y1="28" x2="{x:.1f}" y2="{height}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="20">{tick * step:g} s</text>'


def _bars(rows: Sequence[Mapping[str, Any]], places: Mapping[str, Placed]) -> Iterator[str]:
    if not rows:
        return
    zero, total = min(float(row["start"]) for row in rows), _total(rows)
    for row in rows:
        if str(row["name"]) not in places:
            continue
        spot = places[str(row["name"])]
        seconds = float(row["seconds"])
        left = BARS_X + (float(row["start"]) - zero) / total * BARS_WIDTH
        wide = max(2.0, seconds / total * BARS_WIDTH)
        state = "caught" if row.get("caught") else str(row["status"]).lower()
        size = f'width="{wide:.1f}" height="{BOX - 10}" rx="2"'
        yield f'<rect class="bar {state}" x="{left:.1f}" y="{spot.y + 5}" {size}/>'
        text = f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds:.2f} s" if seconds >= 0.005 else ""
        inside = left + wide + 60 > TOTAL_WIDTH
        x, anchor = (left - 6, "end") if inside else (left + wide + 6, "start")
        yield f'<text class="seconds" x="{x:.1f}" y="{spot.middle + 4}" text-anchor="{anchor}">{text}</text>'


def _total(rows: Sequence[Mapping[str, Any]]) -> float:
    if not rows:
        return 1.0
    zero = min(float(row["start"]) for row in rows)
    return max(0.1, max(float(row["start"]) + float(row["seconds"]) for row in rows) - zero)
