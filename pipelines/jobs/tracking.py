"""MLflow tracking of a run, when MLFLOW_TRACKING_URI names where: parameters, metrics per epoch, what was released."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.train import Config

log = logging.getLogger(__name__)

Note = Callable[[dict[str, Any]], None]
# Of a chosen artefact, as metrics.
FIGURES = ("p50_ms", "p95_ms", "throughput_per_s", "peak_mb", "bytes", "metric", "metric_drop", "agreement")


@contextmanager
def tracked(run: str, config: Config) -> Iterator[Note]:
    """A function that takes each epoch's figures, `epoch` among them. A resumed job goes on in its MLflow run.

    Without a tracking URI the figures go nowhere else than the job's log.
    """
    with _resumed(run) as mlflow:
        if mlflow is None:
            yield lambda figures: None
            return
        mlflow.log_params(asdict(config))
        yield lambda figures: _log(mlflow, figures)


def release(run: str, manifest: Mapping[str, Any], pictures: Mapping[str, str]) -> None:
    """Leaves a release in the MLflow run of its training: every candidate as a table, a picture by target as SVG.

    The chosen ones' figures become metrics such as `cloud-cpu.p50_ms`. Nothing happens without a tracking URI.
    """
    with _resumed(run) as mlflow:
        if mlflow is None:
            return
        mlflow.set_tag("version", manifest["version"])
        for row in manifest["artifacts"]:
            if row["chosen"]:
                mlflow.log_metrics({f"{row['target']}.{key}": float(row[key]) for key in FIGURES})
        files = {"candidates.csv": _csv(manifest["artifacts"])} | {f"{name}.svg": svg for name, svg in pictures.items()}
        try:
            for name, text in files.items():
                mlflow.log_text(text, f"release/{name}")
        except Exception as error:
            # A tracking server's files may lie in a bucket of its own, which this job's role may not write.
            log.warning("MLflow took no files of the release: %s; let the job's role write its artifact store", error)


@contextmanager
def _resumed(run: str) -> Iterator[Any]:
    """MLflow with the run active that bears this tag, a new one the first time; None without a tracking URI."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        yield None
        return
    # Read at import: no usage reports from a job, and no search for a git binary.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow

    _choose(mlflow, os.environ["MLFLOW_TRACKING_URI"], os.environ.get("MLFLOW_EXPERIMENT_NAME") or "lab")
    with mlflow.start_run(run_id=_started(mlflow, run), run_name=run or None, tags={"run": run} if run else None):
        yield mlflow


def _choose(mlflow: Any, store: str, experiment: str) -> None:
    """Makes an experiment the active one. A local database's files lie beside it, not where its first job ran."""
    path = store.removeprefix("sqlite:///")
    if path != store and mlflow.get_experiment_by_name(experiment) is None:
        mlflow.create_experiment(experiment, artifact_location=str(Path(path).resolve().parent / "mlruns"))
    mlflow.set_experiment(experiment)


def _started(mlflow: Any, run: str) -> str | None:
    """The MLflow run of an earlier job of the same run, None for a first start."""
    if not run:
        return None
    found = mlflow.search_runs(filter_string=f"tags.run = '{run}'", max_results=1, output_format="list")
    return str(found[0].info.run_id) if found else None


def _log(mlflow: Any, figures: dict[str, Any]) -> None:
    numbers = {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
    mlflow.log_metrics(numbers, step=int(numbers.pop("epoch", 0)))


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV, which MLflow shows as a table."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
