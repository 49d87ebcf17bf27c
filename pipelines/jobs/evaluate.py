"""Measures the trained model on the test split, against baselines and champion.

    python -m pipelines.jobs.evaluate --run RUN [--package-group GROUP]

A SageMaker processing job: folders below /opt/ml/processing, `model` holding the training job's model.tar.gz. The best
baseline goes to the same kind of archive below `report`, so that it can be released in the model's place.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import boto3

from models.evaluate import evaluate
from models.export import package
from pipelines.jobs import champion, folders, logs

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """One evaluation; report and best baseline go to the `report` folder."""
    args = _arguments(argv)
    logs.start(sys.stdout)
    with tempfile.TemporaryDirectory() as scratch:
        model = folders.unpack(args.model / "model.tar.gz", Path(scratch) / "model")
        against = _champion(args.package_group, Path(scratch) / "champion")
        args.report.mkdir(parents=True, exist_ok=True)
        report = evaluate(model, args.curated, against, args.report, run=args.run)
        _pack(args.report / "baseline", Path(scratch) / "model.tar.gz")
    if report["unshippable"]:
        log.warning("run=%s: %s", args.run, report["unshippable"])
    log.info("run=%s: %s", args.run, report["verdict"])
    return 0


def _pack(folder: Path, archive: Path) -> None:
    """The model folder's files become its one model.tar.gz, as a training job leaves it; `archive` is a free place."""
    if not folder.is_dir():
        return
    package.tarred(folder, archive)
    shutil.rmtree(folder)
    folder.mkdir()
    shutil.move(archive, folder / archive.name)


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
