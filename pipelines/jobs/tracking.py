"""MLflow tracking of a training run, when MLFLOW_TRACKING_URI names where: parameters, metrics per epoch, a tag."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from models.train import Config

Note = Callable[[dict[str, Any]], None]


@contextmanager
def tracked(run: str, config: Config) -> Iterator[Note]:
    """A function that takes each epoch's figures, `epoch` among them. A resumed job goes on in its MLflow run.

    Without a tracking URI the figures go nowhere else than the job's log.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        yield lambda figures: None
        return
    # Read at import: no usage reports from a training job, and no search for a git binary.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow

    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "lab")
    with mlflow.start_run(run_id=_started(mlflow, run), run_name=run or None, tags={"run": run} if run else None):
        mlflow.log_params(asdict(config))
        yield lambda figures: _log(mlflow, figures)


def _started(mlflow: Any, run: str) -> str | None:
    """The MLflow run of a job that was interrupted, None for a first start."""
    if not run:
        return None
    found = mlflow.search_runs(filter_string=f"tags.run = '{run}'", max_results=1, output_format="list")
    return str(found[0].info.run_id) if found else None


def _log(mlflow: Any, figures: dict[str, Any]) -> None:
    numbers = {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
    mlflow.log_metrics(numbers, step=int(numbers.pop("epoch", 0)))
