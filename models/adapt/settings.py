"""Writes `lab.toml`: a new `[data]` and fitting metrics in `[gate]`; every other table and comment stays.

The file is written beside and renamed, so that it is the old one or the new one.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.adapt.problem import AdaptError

METRICS = frozenset(
    {"accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision", "log_loss"}
    | {"mae", "rmse", "r2", "nasa_score"}
)
HEADER = re.compile(r"""^\s*\[\[?\s*([A-Za-z0-9_.\-]+|"[^"]+")(\.[A-Za-z0-9_."\-]+)*\s*\]\]?\s*(#.*)?$""")
ENTRY = re.compile(r"^\s*([A-Za-z0-9_-]+)\s*=")
COMMENT = re.compile(r"""=.*?(\s+#[^"'\]]*)$""")
# Of a former [data] these say how careful to be, not what the data are.
KEPT = ("corrupt_share",)


def updated(text: str, data: Mapping[str, Any], gate: Mapping[str, float], where: str) -> str:
    """The text of a `lab.toml` with `data` and the metrics of `gate`. Raises AdaptError when it cannot be edited so."""
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AdaptError(f"{where} is no valid TOML: {error}", "mend it, or move it away to start anew") from None
    kept = {key: before.get("data", {})[key] for key in KEPT if key in before.get("data", {})}
    wanted = {**data, **kept}
    tables = list(_tables(text))
    names = [name for name, _ in tables]
    lines: list[str] = []
    for name, block in tables:
        if name == "data":
            lines += _replaced(block, wanted)
        elif name == "gate":
            lines += _gated(block, gate)
        else:
            lines += block
        if name == "gate" or (name == "data" and "gate" not in names):
            lines += [] if "gate" in names else ["", "[gate]", *_entries(gate)]
    if "data" not in names:
        lines += ["", "[data]", *_entries(wanted)]
        lines += [] if "gate" in names else ["", "[gate]", *_entries(gate)]
    result = "\n".join(lines).strip("\n") + "\n"
    rest = {key: value for key, value in before.get("gate", {}).items() if key not in METRICS}
    if _parsed(result) != {**before, "data": wanted, "gate": {**rest, **gate}}:
        raise AdaptError(
            f"{where} writes [data] or [gate] in a form that cannot be replaced safely",
            "write each as a table of its own, `[data]` on a line and its keys below",
        )
    return result


def write(path: Path, text: str) -> None:
    """Replaces a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    scratch = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        scratch.chmod(0o644)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _tables(text: str) -> Iterator[tuple[str, list[str]]]:
    """(name, lines) of each table, "" for what comes first; comments right above a header go with that header."""
    name, block = "", list[str]()
    for line in text.splitlines():
        if HEADER.match(line):
            above = len(block)
            while above and block[above - 1].lstrip().startswith("#"):
                above -= 1
            if name or block:
                yield name, block[:above]
            name, block = line.split("#")[0].strip().strip("[] "), [*block[above:], line]
        else:
            block.append(line)
    yield name, block


def _replaced(block: Sequence[str], wanted: Mapping[str, Any]) -> list[str]:
    """The block of `[data]` with other keys: comments on lines of their own stay, and those of keys that stay."""
    notes = {match[1]: note[1] for line in block if (match := ENTRY.match(line)) and (note := COMMENT.search(line))}
    head = next(place for place, line in enumerate(block) if HEADER.match(line))
    own = [line for line in block[head + 1 :] if line.startswith("#")]
    blank = [""] if block and not block[-1].strip() else []
    return [*block[: head + 1], *own, *_entries(wanted, notes), *blank]


def _gated(block: Sequence[str], gate: Mapping[str, float]) -> list[str]:
    head = next(place for place, line in enumerate(block) if HEADER.match(line))
    rest = [line for line in block[head + 1 :] if not ((match := ENTRY.match(line)) and match[1] in METRICS)]
    return [*block[: head + 1], *_entries(gate), *rest]


def _entries(values: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> list[str]:
    written = {key: f"{key} = {_value(value)}" for key, value in values.items()}
    return [f"{line:<29} {notes[key].strip()}" if notes and key in notes else line for key, line in written.items()]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(_value(item) for item in value)
        return f"[{inner}]" if len(inner) < 100 else "[\n" + "".join(f"  {_value(item)},\n" for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
