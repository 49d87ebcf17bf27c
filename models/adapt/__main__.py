"""A customer's folder or file to settings: what is in it, what it is for, what is wrong with it.

    python -m models.adapt PATH [--target C] [--task T] [--group C] [--time C] [--missing TEXT]
        [--out lab.toml] [--template FILE] [--card FILE] [--json]

Writes `lab.toml` and a data card (HTML, one file). Data that cannot be taken: one message, exit 1, nothing written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.adapt import card, pictures, report, settings, source, table
from models.adapt.problem import AdaptError
from models.adapt.report import Options, Report

TASKS = ("classification", "regression", "rul", "anomaly")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _arguments(argv)
    try:
        document, text = run(args)
    except AdaptError as error:
        return _refuse(error, args.json)
    except PermissionError as error:
        where = error.filename or args.path
        problem = AdaptError(f"{where} cannot be read: no permission", f"let this user read it: chmod u+r '{where}'")
        return _refuse(problem, args.json)
    except MemoryError:
        problem = AdaptError(f"{args.path} needs more memory than there is", "give a part of it")
        return _refuse(problem, args.json)
    except OSError as error:
        problem = AdaptError(
            f"{error.filename or args.path} cannot be read: {error.strerror or error}", "copy it again"
        )
        return _refuse(problem, args.json)
    sys.stdout.write((json.dumps(document) if args.json else text) + "\n")
    return 0


def run(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Looks, then writes the card and, last, the settings; the answer as JSON and as text. Raises AdaptError."""
    options = Options(args.target, args.task, args.group, args.time, tuple(args.missing))
    out, told_card = Path(args.out), Path(args.card or Path(args.out).with_name("data-card.html"))
    found = understood(Path(args.path), options)
    found.data["path"] = _portable(str(found.data["path"]))
    before = out if out.is_file() else Path(args.template) if args.template else None
    text = settings.updated(before.read_text("utf-8") if before else "", found.data, found.gate, str(before or out))
    settings.write(told_card, card.html(found))
    settings.write(out, text)
    places = {"settings": str(out), "data card": str(told_card), "next": "lab run"}
    said = report.told(found, places)
    return {**found.document(), "settings": str(out), "card": str(told_card), "text": said}, said


def understood(path: Path, options: Options) -> Report:
    """The report of what lies at `path`. Raises AdaptError."""
    found = source.find(path)
    return pictures.adapt(found, options) if found.pictures else table.adapt(found, options)


def _portable(path: str) -> str:
    """With a slash in it, so that it is not taken for the name of a built-in data set."""
    return path if "/" in path or "\\" in path else f"./{path}"


def _refuse(error: AdaptError, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps({"error": {"message": error.message, "hint": error.remedy}}) + "\n")
    sys.stderr.write(f"{error.message}\n  try: {error.remedy}\n")
    return 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.adapt", description="A folder or file to lab.toml.")
    parser.add_argument("path")
    parser.add_argument("--target", default="", help="the column to predict")
    parser.add_argument("--task", default="", choices=("", *TASKS))
    parser.add_argument("--group", default="", help="the column that tells units apart; a unit stays in one split")
    parser.add_argument("--time", default="", help="the column that orders rows")
    parser.add_argument("--missing", action="append", default=[], help="a text that stands for a missing value")
    parser.add_argument("--out", default="lab.toml", help="the settings to write or update")
    parser.add_argument("--template", help="settings to start from when --out does not exist")
    parser.add_argument("--card", help="the data card to write; beside --out without")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
