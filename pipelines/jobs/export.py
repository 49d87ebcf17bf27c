"""Exports the model for each target, measures each artefact, packages the chosen ones.

    python -m pipelines.jobs.export --run RUN --targets JSON… [--limits JSON…]

A SageMaker processing job: folders below /opt/ml/processing. `release` becomes `exports/<run>/` of the data bucket,
from where what passes the release gate is registered, `export` the run's own record of it, which that gate reads, with
a picture of each target's candidates beside it. Both go to the MLflow run of the training as well.
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

from models.export import picture
from models.export.release import release
from pipelines.jobs import folders, logs, tracking

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """One release, and its manifest as the run's export.json."""
    args = _arguments(argv)
    logs.start(sys.stdout)
    with tempfile.TemporaryDirectory() as scratch:
        model = folders.unpack(args.model / "model.tar.gz", Path(scratch) / "model")
        args.release.mkdir(parents=True, exist_ok=True)
        manifest = release(model, args.curated, args.release, args.targets, args.run, args.limits)
    args.export.mkdir(parents=True, exist_ok=True)
    (args.export / "export.json").write_text(json.dumps(manifest, indent=1), "utf-8")
    drawn = picture.pictures(manifest)
    for target, svg in drawn.items():
        (args.export / f"{target}.svg").write_text(svg, "utf-8")
    tracking.release(args.run, manifest, drawn)
    for row in manifest["artifacts"]:
        log.info("version=%s %s", manifest["version"], _line(row))
    return 0


def _line(row: dict[str, Any]) -> str:
    if row.get("skipped"):
        return f"{row['target']} {row['format']}: skipped, {row['skipped']}"
    verdict = "chosen" if row["chosen"] else f"dropped: {row['dropped']}" if row["dropped"] else "fits"
    figures = f"p50 {row['p50_ms']:.3f} ms, agreement {row['agreement']:.4f}, {row['peak_mb']:.0f} MB"
    return f"{row['target']} {row['format']}: {figures}, {verdict}"


class _Table(argparse.Action):
    """JSON in as many pieces as it came in: SageMaker takes no argument of more than 256 characters."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        try:
            found = json.loads("".join(values))
        except ValueError as error:
            parser.error(f"{self.option_strings[0]}: not JSON: {error}")
        if not isinstance(found, dict) or not found:
            parser.error(f"{self.option_strings[0]}: expected an object such as {self.metavar}")
        setattr(namespace, self.dest, found)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    processing = folders.ml() / "processing"
    parser = argparse.ArgumentParser(prog="python -m pipelines.jobs.export")
    parser.add_argument("--run", required=True)
    example = '{"cloud-cpu": {"formats": ["onnx-fp32"]}}'
    parser.add_argument(
        "--targets", action=_Table, nargs="+", required=True, metavar=example, help="[targets] of lab.toml as JSON"
    )
    parser.add_argument(
        "--limits", action=_Table, nargs="+", default={}, metavar='{"min_agreement": 0.995}', help="of [gate], as JSON"
    )
    parser.add_argument("--model", type=Path, default=processing / "model")
    parser.add_argument("--curated", type=Path, default=processing / "curated")
    parser.add_argument("--release", type=Path, default=processing / "release")
    parser.add_argument("--export", type=Path, default=processing / "export")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
