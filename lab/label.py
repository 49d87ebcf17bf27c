"""The labelling queue at a person's desk: fetched with the samples beside it, taken back filled in.

The samples are what devices sent; what a label means, and how labelled samples join the raw data set, is knowledge of
the data, so a child of `models` does it. The manifest is written last, and its arrival starts the flow.
"""

from __future__ import annotations

import csv
import html
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from lab import launch, processes, registry
from lab.errors import DataError, LabError
from lab.home import Home, read_json, write_atomically
from lab.stack import Stack

QUEUE, DONE, NOTE = "labels.csv", "labelled.csv", "queue.json"
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def fetch(stack: Stack, dataset: str | None, out: Path) -> dict[str, Any]:
    """Has the queue gathered anew and brings it to the folder `out`, samples, page and all. Raises LabError."""
    own = str(stack.settings["data"]["dataset"])
    name = dataset or own
    if name == own:
        _gather(stack)
    s3, bucket, prefix = stack.client("s3"), stack["DataBucket"], f"raw/{name}-device/"
    text = _object(s3, bucket, prefix + QUEUE)
    rows = list(csv.DictReader(io.StringIO((text or b"").decode())))
    if not rows:
        hint = "devices send samples once [edge] capture_per_day is above 0; lab device tail shows what they do"
        raise LabError(f"no sample of {name} waits for a label", hint)
    if out.exists() and any(out.iterdir()):
        raise LabError(f"{out} is not empty", "name another folder: --out FOLDER")
    for row in rows:
        path = (out / row["file"]).resolve()
        if not path.is_relative_to(out.resolve()):
            raise LabError(f"the queue names '{row['file']}', which lies outside of {out}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_object(s3, bucket, prefix + row["file"]) or b"")
    done = _object(s3, bucket, prefix + DONE)
    if done is not None:
        (out / DONE).write_bytes(done)
    write_atomically(out / NOTE, json.dumps({"dataset": name, "classes": _classes(stack, name)}))
    write_atomically(out / "index.html", page(name, rows, _classes(stack, name)))
    write_atomically(out / QUEUE, (text or b"").decode())
    return {"dataset": name, "rows": len(rows), "folder": str(out), "page": str(out / "index.html")}


def take(home: Home, stack: Stack, filled: Path) -> dict[str, Any]:
    """Checks a filled queue, joins it with the raw data set and puts the new version there. Raises DataError."""
    queue = filled.resolve().parent
    if not (queue / NOTE).is_file():
        raise DataError(f"{queue} is no folder that `lab label` made", "fetch the queue first: lab label --out FOLDER")
    about = read_json(queue / NOTE)
    s3, bucket, prefix = stack.client("s3"), stack["DataBucket"], f"raw/{about['dataset']}/"
    former = _object(s3, bucket, prefix + "_manifest.json")
    if former is None:
        raise DataError(f"the raw data set {about['dataset']} is not in the bucket", "bring it there: lab run")
    with tempfile.TemporaryDirectory() as temporary:
        out, given = Path(temporary) / "new", Path(temporary) / "manifest.json"
        given.write_bytes(former)
        found = _join(home, queue, filled, given, out, about.get("classes") or [])
        manifest = read_json(out / "_manifest.json")
        for row in manifest["files"]:
            if (out / row["path"]).is_file():  # the others are in the bucket
                s3.put_object(Bucket=bucket, Key=prefix + row["path"], Body=(out / row["path"]).read_bytes())
        s3.put_object(Bucket=bucket, Key=f"raw/{about['dataset']}-device/{DONE}", Body=(out / DONE).read_bytes())
        metadata = {key: str(manifest[key]) for key in ("digest", "dataset", "modality", "task")}
        key, body = prefix + "_manifest.json", json.dumps(manifest, sort_keys=True).encode()
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", Metadata=metadata)
    return {**found, "manifest": f"s3://{bucket}/{key}"}


def _join(home: Home, queue: Path, filled: Path, manifest: Path, out: Path, classes: list[str]) -> dict[str, Any]:
    argv = [sys.executable, "-m", "models.relabel", str(queue), str(filled.resolve())]
    argv += ["--manifest", str(manifest), "--out", str(out), "--classes", json.dumps(classes)]
    with processes.Running(argv, cwd=home.repo, env=launch.environment(home)) as child:
        done = child.wait()
    said = done.last_lines(1) or [f"python -m models.relabel ended with {done.rc}"]
    if done.rc != 0:
        raise DataError(said[0], f"mend {filled} and take it back once more: lab label {filled}")
    found: dict[str, Any] = json.loads(said[0])
    return found


def _gather(stack: Stack) -> None:
    name = f"{stack['CanaryGroup'].removesuffix('-canary')}-labelling"
    answer = stack.client("lambda").invoke(FunctionName=name, Payload=b"{}")
    if answer.get("FunctionError"):
        raise LabError(f"{name} failed: {answer['Payload'].read().decode()[:300]}", "lab logs labelling")


def _classes(stack: Stack, dataset: str) -> list[str]:
    """What the newest model of the data set can answer; empty when none was registered."""
    for package in registry.packages(stack):
        found = _object(stack.client("s3"), stack["DataBucket"], f"releases/{package.version}/manifest.json")
        contract = (json.loads(found) if found else {}).get("contract") or {}
        if contract.get("dataset") == dataset:
            return [str(name) for name in contract.get("classes") or []]
    return []


def _object(s3: Any, bucket: str, key: str) -> bytes | None:
    try:
        body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    return body


def page(dataset: str, rows: list[dict[str, str]], classes: list[str]) -> str:
    """A page that shows each sample with what was predicted; it opens offline, from the folder."""
    shown = "\n".join(_figure(row) for row in rows)
    asked = f"one of {', '.join(map(html.escape, classes))}" if classes else "a number"
    return f"""<!doctype html>
<meta charset="utf-8">
<title>{html.escape(dataset)}: samples to label</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; }}
main {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
figure {{ margin: 0; width: 12rem; }}
img {{ width: 12rem; image-rendering: pixelated; border: 1px solid #ccc; }}
pre {{ overflow-x: auto; max-height: 12rem; }}
figcaption {{ overflow-wrap: anywhere; }}
</style>
<h1>{html.escape(dataset)}: {len(rows)} samples to label</h1>
<p>Write {asked} into the column <code>label</code> of <code>labels.csv</code>, or <code>skip</code>; then
<code>lab label labels.csv</code>.</p>
<main>
{shown}
</main>
"""


def _figure(row: dict[str, str]) -> str:
    file = html.escape(row["file"], quote=True)
    image = (
        f'<img src="{file}" alt="{file}">' if row["file"].lower().endswith(PICTURES) else f'<a href="{file}">rows</a>'
    )
    sure = f" ({float(row['confidence']):.2f})" if row.get("confidence") else ""
    said = f"<b>{html.escape(row.get('predicted', ''))}</b>{sure}, {html.escape(row.get('why', ''))}"
    return f"<figure>{image}<figcaption>{said}<br>{file}</figcaption></figure>"
