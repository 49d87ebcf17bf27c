"""The fleet over time as one picture: which model each core served when, what it rejected, what it took back.

Read from what a core leaves in its folder: `published.jsonl`, its messages to AWS IoT Core, and `deployments.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from lab.pictures import nice

WIDE, LEFT, RIGHT, ROW, HEAD = 1000, 172, 34, 38, 10
COLOURS = 6
# What an alert's kind is drawn as: a sign, and the word for the legend.
SIGNS = {"reject": ("✕", "rejected"), "revert": ("↩", "taken back"), "failed": ("!", "deployment failed")}


@dataclass
class Track:
    """One core: spans of time in which a version served, and marks of what happened. Times are seconds since 1970."""

    thing: str
    groups: Sequence[str]
    spans: list[tuple[float, float, str]] = field(default_factory=list)
    marks: list[tuple[float, str, str]] = field(default_factory=list)  # time, a key of SIGNS, words
    deployments: list[tuple[float, str]] = field(default_factory=list)  # time, words


def read(devices: Path, fleet: Sequence[Mapping[str, Any]]) -> list[Track]:
    """The tracks of `fleet` (rows with `thing` and `groups`) from the folders `devices`/<thing>."""
    tracks = [_track(devices / str(row["thing"]), row) for row in fleet]
    last = max((time for track in tracks for time in _times(track)), default=0.0)
    for track in tracks:  # what served last serves still
        if track.spans:
            start, _, version = track.spans[-1]
            track.spans[-1] = (start, last, version)
    return tracks


def _track(folder: Path, row: Mapping[str, Any]) -> Track:
    track = Track(str(row["thing"]), list(row.get("groups") or []))
    rejected: set[str] = set()
    for line in _lines(folder / "published.jsonl"):
        said = _payload(line)
        _serve(track, line["time"], said.get("model_version"))
        for event in [said] if "kind" in said else said.get("events") or []:
            kind, version = str(event.get("kind")), str(event.get("version"))
            words = f"{version} {SIGNS.get(kind, ('', ''))[1]}: {event.get('reason', '')}".rstrip(": ")
            known = kind in SIGNS and (kind, words) not in [(mark[1], mark[2]) for mark in track.marks]
            if known:
                track.marks.append((line["time"], kind, words))
                rejected.add(version)
    for line in _lines(folder / "deployments.jsonl"):
        named = ", ".join(f"{name} {version}" for name, version in line["components"].items())
        track.deployments.append((line["time"], f"{line['target'].rpartition('/')[2]}: {line['status']}; {named}"))
        if line["status"] == "FAILED" and not any(version in line["reason"] for version in rejected):
            track.marks.append((line["time"], "failed", line["reason"][:300]))
    return track


def _serve(track: Track, time: float, version: str | None) -> None:
    if track.spans:
        start, _, before = track.spans[-1]
        track.spans[-1] = (start, time, before)
        if before == version:
            return
    if version:
        track.spans.append((time, time, version))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue  # half a line of a core that was ended


def _payload(line: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(line["payload"])
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _times(track: Track) -> Iterator[float]:
    yield from (time for span in track.spans for time in span[:2])
    yield from (mark[0] for mark in track.marks)
    yield from (deployment[0] for deployment in track.deployments)


def draw(tracks: Sequence[Track]) -> str:
    """The picture as SVG in the report's style; empty when no core has done anything."""
    every = [time for track in tracks for time in _times(track)]
    if not every:
        return ""
    zero = _beginning(tracks)
    whole = max(max(every) - zero, 1.0)
    unit, scale = ("s", 1.0) if whole < 300 else ("min", 60.0)
    _, high, ticks = nice(0.0, whole / scale)
    versions = list(dict.fromkeys(version for time, version in sorted(_firsts(tracks))))
    bottom = HEAD + ROW * len(tracks)

    def x(time: float) -> float:
        return LEFT + (time - zero) / scale / high * (WIDE - LEFT - RIGHT)

    parts = [
        f'<svg class="chart fleet" viewBox="0 0 {WIDE} {bottom + 50}" role="img" aria-label="the fleet over time">'
    ]
    for tick in ticks:
        at = LEFT + tick / high * (WIDE - LEFT - RIGHT)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{HEAD - 4}" y2="{bottom}"/>')
        parts.append(f'<text class="tick mid" x="{at:.1f}" y="{bottom + 16}">{tick:.6g} {unit}</text>')
    for index, track in enumerate(tracks):
        parts += _row(track, HEAD + ROW * index, x, versions)
    parts += [*_legend(versions, bottom + 40), "</svg>"]
    return "\n".join(parts)


def _beginning(tracks: Sequence[Track]) -> float:
    """Where the picture begins: at the first model, mark or deployment of one; cores may have waited long for it."""
    models = [
        time for track in tracks for time in (*(span[0] for span in track.spans), *(one[0] for one in track.marks))
    ]
    deployed = [one[0] for track in tracks for one in track.deployments]
    if not models:
        return min(deployed)
    first, last = min(models), max(*models, *deployed)
    return min([first, *(time for time in deployed if time >= first - max(5.0, 0.1 * (last - first)))])


def _firsts(tracks: Sequence[Track]) -> Iterator[tuple[float, str]]:
    """When each version served first, so that colours go by age."""
    for track in tracks:
        yield from ((start, version) for start, _, version in track.spans)


def _row(track: Track, top: int, x: Any, versions: Sequence[str]) -> Iterator[str]:
    middle = top + ROW / 2
    name = escape(track.thing.rpartition("-desk-")[2] and f"desk-{track.thing.rpartition('-desk-')[2]}")
    group = escape(", ".join(track.groups))
    yield f'<text class="row ours" x="76" y="{middle + 5:.1f}">{name}</text>'
    yield f'<text class="tick" x="88" y="{middle + 5:.1f}">{group}</text>'
    for start, end, version in track.spans:
        wide = max(3.0, x(end) - x(start) - 1)
        colour = versions.index(version) % COLOURS
        yield (
            f'<rect class="v{colour}" x="{x(start):.1f}" y="{top + 9}" width="{wide:.1f}" height="{ROW - 18}" rx="3">'
            f"<title>{escape(track.thing)} served {escape(version)}</title></rect>"
        )
        if wide > 8 * len(version) + 14:
            yield f'<text class="version" x="{x(start) + 14:.1f}" y="{middle + 4:.1f}">{escape(version)}</text>'
    for at, words in ((x(time), words) for time, words in track.deployments if x(time) >= LEFT):
        yield (f'<path class="deployed" d="M{at - 4:.1f} {top + 1}h8l-4 6z"><title>{escape(words)}</title></path>')
    for time, kind, words in track.marks:
        yield (
            f'<g class="sign {kind}"><circle cx="{x(time):.1f}" cy="{middle:.1f}" r="8.5"/>'
            f'<text x="{x(time):.1f}" y="{middle + 4.5:.1f}">{SIGNS[kind][0]}</text><title>{escape(words)}</title></g>'
        )


def _legend(versions: Sequence[str], y: int) -> Iterator[str]:
    at = float(LEFT)
    for index, version in enumerate(versions):
        yield f'<rect class="v{index % COLOURS}" x="{at:.1f}" y="{y - 10}" width="12" height="12" rx="3"/>'
        yield f'<text class="legend" x="{at + 18:.1f}" y="{y}">{escape(version)}</text>'
        at += 34 + 6.6 * len(version)
    yield f'<path class="deployed" d="M{at:.1f} {y - 8}h8l-4 6z"/>'
    yield f'<text class="legend" x="{at + 14:.1f}" y="{y}">deployed</text>'
    at += 80
    for kind, (sign, word) in SIGNS.items():
        yield (
            f'<g class="sign {kind}"><circle cx="{at + 6:.1f}" cy="{y - 4}" r="7"/>'
            f'<text x="{at + 6:.1f}" y="{y - 0.5:.1f}">{sign}</text></g>'
        )
        yield f'<text class="legend" x="{at + 18:.1f}" y="{y}">{word}</text>'
        at += 34 + 6.6 * len(word)
