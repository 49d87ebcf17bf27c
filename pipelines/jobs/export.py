"""Exports the model for each target, measures each artefact, packages the chosen ones.

    python -m pipelines.jobs.export --run RUN --targets JSON

A SageMaker processing job: folders below /opt/ml/processing. `release` becomes `releases/` of the data bucket, `export`
the run's own record of it, which the release gate reads.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.export.release import release
from pipelines.jobs import folders, logs

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """One release, and its manifest as the run's export.json."""
    args = _arguments(argv)
    logs.start(sys.stdout)
    with tempfile.TemporaryDirectory() as scratch:
        model = folders.unpack(args.model / "model.tar.gz", Path(scratch) / "model")
        args.release.mkdir(parents=True, exist_ok=True)
        manifest = release(model, args.curated, args.release, args.targets, args.run)
    args.export.mkdir(parents=True, exist_ok=True)
    (args.export / "export.json").write_text(json.dumps(manifest, indent=1), "utf-8")
    for row in manifest["artifacts"]:
        log.info("version=%s %s", manifest["version"], _line(row))
    return 0


def _line(row: dict[str, Any]) -> str:
    if row.get("skipped"):
        return f"{row['target']} {row['format']}: skipped, {row['skipped']}"
    chosen = ", chosen" if row["chosen"] else ""
    return f"{row['target']} {row['format']}: p95 {row['p95_ms']:.2f} ms, agreement {row['agreement']:.4f}{chosen}"


def _targets(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(found, dict) or not found:
        raise argparse.ArgumentTypeError('expected an object such as {"cloud-cpu": {"formats": ["onnx-fp32"]}}')
    return found


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    processing = folders.ml() / "processing"
    parser = argparse.ArgumentParser(prog="python -m pipelines.jobs.export")
    parser.add_argument("--run", required=True)
    parser.add_argument("--targets", type=_targets, required=True, help="[targets] of lab.toml as JSON")
    parser.add_argument("--model", type=Path, default=processing / "model")
    parser.add_argument("--curated", type=Path, default=processing / "curated")
    parser.add_argument("--release", type=Path, default=processing / "release")
    parser.add_argument("--export", type=Path, default=processing / "export")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
