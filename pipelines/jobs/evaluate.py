"""Measures the trained model on the test split, against baselines and champion.

    python -m pipelines.jobs.evaluate --run RUN [--package-group GROUP]

A SageMaker processing job: folders below /opt/ml/processing, `model` holding the training job's model.tar.gz.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import boto3

from models.evaluate import evaluate
from pipelines.jobs import champion, folders, logs

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """One evaluation; the report goes to the `report` folder."""
    args = _arguments(argv)
    logs.start(sys.stdout)
    with tempfile.TemporaryDirectory() as scratch:
        model = folders.unpack(args.model / "model.tar.gz", Path(scratch) / "model")
        against = _champion(args.package_group, Path(scratch) / "champion")
        args.report.mkdir(parents=True, exist_ok=True)
        report = evaluate(model, args.curated, against, args.report, run=args.run)
    log.info("run=%s: %s", args.run, report["verdict"])
    return 0


def _champion(group: str, into: Path) -> Path | None:
    if not group:
        return None
    found = champion.fetch(boto3.client("sagemaker"), boto3.client("s3"), group, into)
    log.info("champion: %s", "none is approved yet" if found is None else f"the newest approved package of {group}")
    return found


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    processing = folders.ml() / "processing"
    parser = argparse.ArgumentParser(prog="python -m pipelines.jobs.evaluate")
    parser.add_argument("--run", required=True)
    parser.add_argument("--package-group", default="", help="where the champion is registered; none: no comparison")
    parser.add_argument("--model", type=Path, default=processing / "model")
    parser.add_argument("--curated", type=Path, default=processing / "curated")
    parser.add_argument("--report", type=Path, default=processing / "report")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
