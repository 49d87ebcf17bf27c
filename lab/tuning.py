"""SageMaker tuning jobs: random search whose trials are real training jobs, one after the other.

Covers: strategy Random with RandomSeed, continuous (linear, logarithmic), integer and categorical ranges, one training
job definition, objective by metric definition, the limit of training jobs, stopping, the best training job, counters.
Does not cover, and refuses by name: Bayesian, Grid and Hyperband, warm start, autotune, early stopping, several
definitions, limits on time. Trials run one at a time, whatever MaxParallelTrainingJobs says.
"""

from __future__ import annotations

import datetime
import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from moto.core.utils import utcnow

from lab.training import TrainingJob
from lab.training import refusal as training_refusal

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
RANGES = ("ContinuousParameterRanges", "IntegerParameterRanges", "CategoricalParameterRanges")
REFUSED = ("TrainingJobDefinitions", "WarmStartConfig", "Autotune")
SCALES = ("Auto", "Linear", "Logarithmic")
Start = Callable[[dict[str, Any]], TrainingJob]


def refusal(request: Mapping[str, Any]) -> str | None:
    """Why the desk cannot run this request, naming the parameter; None when it can."""
    for key in REFUSED:
        if request.get(key):
            return f"{key} is not covered by the desk engine"
    config = request["HyperParameterTuningJobConfig"]
    if config["Strategy"] != "Random":
        return f"Strategy {config['Strategy']} is not covered by the desk engine; it samples at Random"
    if config.get("TrainingJobEarlyStoppingType", "Off") != "Off" or config.get("TuningJobCompletionCriteria"):
        return "early stopping of a tuning job is not covered by the desk engine"
    if "HyperParameterTuningJobObjective" not in config or "TrainingJobDefinition" not in request:
        return "HyperParameterTuningJobObjective and TrainingJobDefinition are needed"
    for kind, row in _ranges(config):
        if row.get("ScalingType", "Auto") not in SCALES:
            return f"{kind} {row['Name']}: ScalingType {row['ScalingType']} is not covered by the desk engine"
    return training_refusal(_training(request, "trial", {}))


def _ranges(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    given = config.get("ParameterRanges") or {}
    return ((kind, row) for kind in RANGES for row in given.get(kind) or [])


def _training(request: Mapping[str, Any], name: str, drawn: Mapping[str, str]) -> dict[str, Any]:
    """The training job of one trial, as CreateTrainingJob takes it."""
    definition = dict(request["TrainingJobDefinition"])
    fixed = definition.pop("StaticHyperParameters", {})
    definition.pop("DefinitionName", None)
    return {**definition, "TrainingJobName": name, "HyperParameters": {**fixed, **drawn}}


def drawn(config: Mapping[str, Any], trial: int) -> dict[str, str]:
    """The hyperparameters of trial number `trial`, as text; the same for the same RandomSeed."""
    rng = random.Random(f"{config.get('RandomSeed', 0)}/{trial}")
    return {str(row["Name"]): _value(kind, row, rng) for kind, row in _ranges(config)}


def _value(kind: str, row: Mapping[str, Any], rng: random.Random) -> str:
    if kind == "CategoricalParameterRanges":
        return str(rng.choice(row["Values"]))
    low, high = float(row["MinValue"]), float(row["MaxValue"])
    scale = row.get("ScalingType", "Auto")
    # Auto takes a logarithm where the range spans more than two decades, and the range is above zero.
    logarithmic = scale == "Logarithmic" or (scale == "Auto" and low > 0 and high / low > 100)
    value = math.exp(rng.uniform(math.log(low), math.log(high))) if logarithmic else rng.uniform(low, high)
    return str(round(value)) if kind == "IntegerParameterRanges" else f"{value:.6g}"


class TuningJob:
    """One search. `start` makes a training job of a request, as CreateTrainingJob does."""

    def __init__(self, engine: Engine, request: dict[str, Any], start: Start) -> None:
        self.request, self._start = request, start
        self.name = str(request["HyperParameterTuningJobName"])
        self.config: dict[str, Any] = request["HyperParameterTuningJobConfig"]
        self.arn = f"arn:aws:sagemaker:{engine.region}:{engine.account}:hyper-parameter-tuning-job/{self.name}"
        self.status = "InProgress"
        self.reason: str | None = None
        self.created = self.modified = utcnow()
        self.ended: datetime.datetime | None = None
        self.trials: list[TrainingJob] = []
        self._stopping = False

    def run(self) -> None:
        """Every trial in turn; ends in Completed, Failed or Stopped, whatever happens."""
        try:
            status = self._run()
        except Exception as error:
            LOG.exception("tuning job %s", self.name)
            status, self.reason = "Failed", f"InternalServerError: {type(error).__name__}: {error}"
        self.ended = self.modified = utcnow()
        self.status = status  # last, as it is what pollers wait for

    def _run(self) -> str:
        count = int(self.config["ResourceLimits"]["MaxNumberOfTrainingJobs"])
        for number in range(1, count + 1):
            if self._stopping:
                return "Stopped"
            values = drawn(self.config, number)
            job = self._start(_training(self.request, f"{self.name[:54]}-{number:03}", values))
            self.trials.append(job)
            job.run()
            self.modified = utcnow()
        if self._stopping:
            return "Stopped"
        if self.best() is None:
            self.reason = next((job.failure_reason for job in reversed(self.trials) if job.failure_reason), None)
            self.reason = f"No training job succeeded. {self.reason or 'None emitted the objective metric.'}"
            return "Failed"
        return "Completed"

    def stop(self) -> None:
        """StopHyperParameterTuningJob: the running trial is stopped, no other starts."""
        self._stopping, self.status = True, "Stopping"
        for job in self.trials:
            if job.training_job_status == "InProgress":
                job.stop()

    def best(self) -> TrainingJob | None:
        """The completed trial whose objective is best."""
        measured = [(value, job) for job in self.trials if (value := self._objective(job)) is not None]
        sign = -1 if self.config["HyperParameterTuningJobObjective"]["Type"] == "Minimize" else 1
        return max(measured, key=lambda pair: sign * pair[0])[1] if measured else None

    def _objective(self, job: TrainingJob) -> float | None:
        name = self.config["HyperParameterTuningJobObjective"]["MetricName"]
        if job.training_job_status != "Completed":
            return None
        found = [float(row["Value"]) for row in job.final_metric_data_list if row["MetricName"] == name]
        return found[-1] if found and math.isfinite(found[-1]) else None

    def summary_of(self, job: TrainingJob) -> dict[str, Any]:
        """A trial as DescribeHyperParameterTuningJob and ListTrainingJobsForHyperParameterTuningJob show it."""
        value = self._objective(job)
        fixed = self.request["TrainingJobDefinition"].get("StaticHyperParameters", {})
        tuned = {key: text for key, text in job.request["HyperParameters"].items() if key not in fixed}
        said: dict[str, Any] = {
            "TrainingJobName": job.training_job_name,
            "TrainingJobArn": job.arn,
            "TuningJobName": self.name,
            "CreationTime": job.creation_time,
            "TrainingStartTime": job.training_start_time,
            "TrainingEndTime": job.training_end_time,
            "TrainingJobStatus": job.training_job_status,
            "TunedHyperParameters": tuned,
            "FailureReason": job.failure_reason,
            "ObjectiveStatus": "Pending" if job.training_job_status == "InProgress" else "Failed",
        }
        if value is not None:
            objective = self.config["HyperParameterTuningJobObjective"]
            said |= {
                "ObjectiveStatus": "Succeeded",
                "FinalHyperParameterTuningJobObjectiveMetric": {**objective, "Value": value},
            }
        return {key: value for key, value in said.items() if value is not None}

    def described(self) -> dict[str, Any]:
        """What DescribeHyperParameterTuningJob answers."""
        states = [job.training_job_status for job in self.trials]
        scored = [self._objective(job) is not None for job in self.trials]
        running = states.count("InProgress")
        best = self.best()
        said: dict[str, Any] = {
            "HyperParameterTuningJobName": self.name,
            "HyperParameterTuningJobArn": self.arn,
            "HyperParameterTuningJobConfig": self.config,
            "TrainingJobDefinition": self.request["TrainingJobDefinition"],
            "HyperParameterTuningJobStatus": self.status,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "HyperParameterTuningEndTime": self.ended,
            "FailureReason": self.reason,
            "TrainingJobStatusCounters": {
                "Completed": states.count("Completed"),
                "InProgress": running,
                "RetryableError": 0,
                "NonRetryableError": states.count("Failed"),
                "Stopped": states.count("Stopped"),
            },
            "ObjectiveStatusCounters": {
                "Succeeded": sum(scored),
                "Pending": running,
                "Failed": len(scored) - sum(scored) - running,
            },
            "BestTrainingJob": self.summary_of(best) if best else None,
        }
        return {key: value for key, value in said.items() if value is not None}
