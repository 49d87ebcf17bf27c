"""Samples that a person labelled, joined with the raw data set that they come to: a new version of its manifest.

    python -m models.relabel QUEUE_DIR LABELS.csv --manifest MANIFEST.json --out DIR [--classes JSON]

QUEUE_DIR holds `labels.csv` as it was handed out and the samples that it names. LABELS.csv is the same with `label`
filled in; `skip` leaves a sample out. Writes to DIR only what is new: pictures below their class, or one file of rows,
`_manifest.json` of the whole data set, and `labelled.csv`. The last line of output is a summary as JSON; what is wrong
is one line on stderr and exit 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models import datafiles
from models.datafiles import MANIFEST, DatasetError

SKIP = "skip"
QUEUE, DONE = "labels.csv", "labelled.csv"
SHOWN = 3


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _arguments(argv)
    try:
        manifest = json.loads(args.manifest.read_text("utf-8"))
        found = join(args.queue, args.labels, manifest, args.out, json.loads(args.classes))
    except (DatasetError, OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def join(
    queue: Path, labels: Path, manifest: Mapping[str, Any], out: Path, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """Writes the new files and the manifest to `out`; `{"dataset", "digest", "added", "skipped", "labels"}`.

    `classes` are those of a table, whose manifest has none. Raises DatasetError for the first thing that is wrong.
    """
    rows = read(labels)
    _check(rows, read(queue / QUEUE), labels.name, list(manifest["classes"] or classes))
    if manifest["task"] == "regression":
        _check_numbers(rows, labels.name)
    kept = [row for row in rows if row["label"] != SKIP]
    out.mkdir(parents=True, exist_ok=True)
    if not kept:
        raise DatasetError(f"{labels.name} skips every sample, so there is nothing new to learn from")
    if manifest["modality"] == "image":
        added = _pictures(queue, kept, out)
    elif manifest["modality"] == "tabular":
        added = _rows(queue, kept, manifest, out)
    else:
        raise DatasetError(
            "a window of a series has no label of its own; add the series' rows to the raw files instead"
        )
    head = {name: value for name, value in manifest.items() if name not in ("schema", "files", "digest")}
    if manifest["classes"]:
        head["classes"] = sorted({*manifest["classes"], *(row["label"] for row in kept)})
    former = {row["path"]: row for row in manifest["files"]}
    made = datafiles.write(out, head, [*former.values(), *(row for row in added if row["path"] not in former)])
    _note(out / DONE, [*(read(queue / DONE) if (queue / DONE).is_file() else []), *rows])
    count = Counter(row["label"] for row in kept)
    return {
        "dataset": manifest["dataset"],
        "digest": made["digest"],
        "added": len(kept),
        "skipped": len(rows) - len(kept),
        "labels": dict(sorted(count.items())),
    }


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a queue. Raises DatasetError when it is none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            stream.seek(0)
            # A spreadsheet may have written semicolons.
            rows = list(csv.DictReader(stream, delimiter=max(",;\t", key=head.count)))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    for name in ("file", "label"):
        if rows and name not in rows[0]:
            raise DatasetError(f"{path.name} has no column '{name}'; there are {', '.join(map(str, rows[0]))}")
    return [{key: (value or "").strip() for key, value in row.items() if isinstance(value, str)} for row in rows]


def _check(rows: list[dict[str, str]], queued: list[dict[str, str]], name: str, classes: Sequence[str]) -> None:
    known = {row["file"] for row in queued}
    if foreign := [row["file"] for row in rows if row["file"] not in known]:
        raise DatasetError(
            f"{name} has {_some(foreign)}, which the queue has not; label the queue as it was handed out"
        )
    if twice := [file for file, count in Counter(row["file"] for row in rows).items() if count > 1]:
        raise DatasetError(f"{name} has {_some(twice)} more than once; leave one row of each")
    if blank := [row["file"] for row in rows if not row.get("label")]:
        raise DatasetError(
            f"{name} has {len(blank)} rows without a label, such as {_some(blank)}; '{SKIP}' leaves one out"
        )
    if classes:
        unknown = sorted({row["label"] for row in rows} - {*classes, SKIP})
        if unknown:
            raise DatasetError(f"{name} has the label {_some(unknown)}; there are {', '.join(classes)}, and '{SKIP}'")
    if not rows:
        raise DatasetError(f"{name} has no row; there is nothing to learn from")


def _check_numbers(rows: list[dict[str, str]], name: str) -> None:
    wrong = sorted({row["label"] for row in rows if row["label"] != SKIP and not _number(row["label"])})
    if wrong:
        raise DatasetError(f"{name} has the label {_some(wrong)}; a number is asked for, or '{SKIP}'")


def _some(values: Sequence[str]) -> str:
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(f"'{value}'" for value in values[:SHOWN]) + more


def _pictures(queue: Path, rows: Sequence[Mapping[str, str]], out: Path) -> list[dict[str, Any]]:
    """Each picture below its class, under the name that its device gave it."""
    made = []
    for row in rows:
        path = f"{row['label']}/device-{Path(row['file']).name}"
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(queue / row["file"], out / path)
        made.append(datafiles.row(out, path, row["label"]))
    return made


def _rows(
    queue: Path, rows: Sequence[Mapping[str, str]], manifest: Mapping[str, Any], out: Path
) -> list[dict[str, Any]]:
    """One more file of the table, with the columns and in the form that the others have."""
    table = manifest["table"]
    target = str(table["target"] or "")
    if table["format"] != "csv" or not table["header"] or not target:
        raise DatasetError(
            "rows join a table of CSV files with a header and a target; add them to the raw files by hand"
        )
    lines = [_cells(queue / row["file"], row["label"], table, target) for row in rows]
    name = f"device-{datafiles.slug(Path(rows[0]['file']).stem)}-{len(rows)}.csv"
    with (out / name).open("w", encoding=table["encoding"], newline="") as stream:
        csv.writer(stream, delimiter=table["delimiter"]).writerows([table["names"], *lines])
    return [datafiles.row(out, name, "")]


def _cells(path: Path, label: str, table: Mapping[str, Any], target: str) -> list[str]:
    """The one row of a sample, its target filled in; a column that the device did not have is empty."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        found = list(csv.DictReader(stream, delimiter=table["delimiter"]))
    if len(found) != 1:
        raise DatasetError(f"{path.name} has {len(found)} rows; one label fits one row")
    return [label if name == target else str(found[0].get(name) or "") for name in table["names"]]


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _note(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        out = csv.DictWriter(stream, ("file", "label"), extrasaction="ignore")
        out.writeheader()
        out.writerows(rows)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.relabel", description="Joins labelled samples.")
    parser.add_argument("queue", type=Path, help="folder with labels.csv and the samples it names")
    parser.add_argument("labels", type=Path, help="labels.csv, filled in")
    parser.add_argument("--manifest", type=Path, required=True, help=f"{MANIFEST} of the raw data set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--classes", default="[]", help="of a table, as JSON")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
