"""SageMaker's jobs and endpoints are real; what would run nothing is refused.

Covers: training jobs (training.py), tuning jobs (tuning.py), processing jobs (processing.py), transform jobs
(transform.py), models, endpoint configs and endpoints (endpoints.py), invocations (sagemakerruntime.py), model package
groups and packages (modelregistry.py): create, describe, list, stop, delete, tags.
Does not cover, and refuses with ValidationException: AutoML, compilation and labeling jobs, pipelines,
clusters, notebook instances, domains, feature groups, model cards, experiments, monitoring definitions.
"""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import underscores_to_camelcase
from moto.sagemaker.exceptions import ResourceInUseException, ValidationError
from moto.sagemaker.responses import SageMakerResponse

from lab import (
    child,
    endpoints,
    iam,
    identity,
    isolation,
    modelregistry,
    processing,
    runtimes,
    sagemakerruntime,
    training,
    transform,
    tuning,
)
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.engine import Engine

SERVICE = "sagemaker"
# What moto itself keeps faithfully: records that nothing runs behind.
KEPT = {
    "describe_model", "create_model", "delete_model", "list_models", "list_tags", "add_tags", "delete_tags",
    "describe_endpoint_config", "delete_endpoint_config", "list_endpoint_configs",
    "describe_endpoint", "list_endpoints",
    "describe_training_job", "list_training_jobs", "describe_processing_job", "list_processing_jobs",
    "describe_transform_job", "list_transform_jobs",
    "create_model_package_group", "describe_model_package_group", "list_model_package_groups",
    "describe_model_package", "list_model_packages", "search",
}  # fmt: skip

TUNING_JOBS = "hyper_parameter_tuning_jobs"
# What moto has never heard of, and an inventory asks for.
UNKNOWN = ("list_mlflow_tracking_servers",)


def install(engine: Engine) -> None:
    """Puts the desk's operations in the place of moto's, and a refusal in the place of all others."""
    _refuse_the_rest()
    _operation("create_training_job", lambda response: _create_training_job(engine, response))
    _operation("stop_training_job", _stop_training_job)
    _operation("delete_training_job", _delete_job("TrainingJob", "training_jobs", "training_job_status"))
    _operation("delete_hyper_parameter_tuning_job", _delete_job("HyperParameterTuningJob", TUNING_JOBS, "status"))
    _operation("delete_processing_job", _delete_job("ProcessingJob", "processing_jobs", "processing_job_status"))
    _operation("create_hyper_parameter_tuning_job", lambda response: _create_tuning_job(engine, response))
    _operation("describe_hyper_parameter_tuning_job", lambda response: ActionResult(_tuning_job(response).described()))
    _operation("list_hyper_parameter_tuning_jobs", _list_tuning_jobs)
    _operation("list_training_jobs_for_hyper_parameter_tuning_job", _list_trials)
    _operation("stop_hyper_parameter_tuning_job", _stop_tuning_job)
    _operation("create_processing_job", lambda response: _create_processing_job(engine, response))
    _operation("stop_processing_job", _stop_processing_job)
    _operation("create_transform_job", lambda response: _create_transform_job(engine, response))
    _operation("stop_transform_job", _stop_transform_job)
    endpoints.install(engine)
    sagemakerruntime.install(engine)
    modelregistry.install(engine)
    iam.install(engine)  # ModelTrainer asks the simulator before it uploads


def _operation(name: str, do: Callable[[SageMakerResponse], ActionResult]) -> None:
    # moto finds operations as plain functions on the class.
    def operation(self: SageMakerResponse) -> ActionResult:
        return do(self)

    setattr(SageMakerResponse, name, operation)


def _refuse_the_rest() -> None:
    """Every operation that moto has for SageMaker and the desk does not do answers with ValidationException."""
    for name, function in vars(SageMakerResponse).copy().items():
        if name.startswith("_") or name in KEPT or not inspect.isfunction(function):
            continue
        setattr(SageMakerResponse, name, _refused(name))
    for name in UNKNOWN:
        setattr(SageMakerResponse, name, _refused(name))


def _refused(name: str) -> Callable[[SageMakerResponse], ActionResult]:
    def operation(self: SageMakerResponse) -> ActionResult:
        action = underscores_to_camelcase(name)
        raise ValidationError(
            message=f"{action[0].upper()}{action[1:]} is not covered by the desk engine: nothing would run behind it "
            "(docs/fidelity.md lists what is covered)"
        )

    return operation


def body_of(response: SageMakerResponse) -> dict[str, Any]:
    """The request as the client sent it."""
    parsed: dict[str, Any] = json.loads(response.body)
    return parsed


def _admit(engine: Engine, request: Mapping[str, Any], image: str, refusal: str | None) -> None:
    """Raises ValidationError unless the desk can run the request as the role it names."""
    if refusal:
        raise ValidationError(message=refusal)
    try:
        runtimes.of_image(engine, image)
        identity.require(engine, request["RoleArn"], SERVICE)
        isolation.require(engine, (request.get("NetworkConfig") or request).get("VpcConfig"))
    except LabError as error:
        raise ValidationError(message=error.message) from None


def _start(run: Callable[[], None], name: str) -> None:
    threading.Thread(target=run, name=f"job-{name}", daemon=True).start()


def _create_training_job(engine: Engine, response: SageMakerResponse) -> ActionResult:
    request, backend = body_of(response), response.sagemaker_backend
    name = request["TrainingJobName"]
    if name in backend.training_jobs:
        raise ResourceInUseException(
            message=f"Training job names must be unique within an AWS account and region, or have different "
            f"creation times. The name {name} is taken."
        )
    image = request["AlgorithmSpecification"].get("TrainingImage", "")
    _admit(engine, request, image, training.refusal(request))
    job = backend.training_jobs[name] = training.TrainingJob(engine, request)
    _start(job.run, name)
    return ActionResult({"TrainingJobArn": job.arn})


def _create_tuning_job(engine: Engine, response: SageMakerResponse) -> ActionResult:
    request, backend = body_of(response), response.sagemaker_backend
    name = request["HyperParameterTuningJobName"]
    if name in backend.hyper_parameter_tuning_jobs:
        raise ResourceInUseException(
            message=f"Hyper Parameter Tuning Job names must be unique. The name {name} is taken."
        )
    reason = tuning.refusal(request)
    image = ((request.get("TrainingJobDefinition") or {}).get("AlgorithmSpecification") or {}).get("TrainingImage", "")
    _admit(engine, request.get("TrainingJobDefinition") or {}, image, reason)

    def start(training_request: dict[str, Any]) -> training.TrainingJob:
        made = training.TrainingJob(engine, training_request)
        backend.training_jobs[made.training_job_name] = made
        return made

    job = backend.hyper_parameter_tuning_jobs[name] = tuning.TuningJob(engine, request, start)
    _start(job.run, name)
    return ActionResult({"HyperParameterTuningJobArn": job.arn})


def _tuning_job(response: SageMakerResponse) -> tuning.TuningJob:
    name = body_of(response)["HyperParameterTuningJobName"]
    job: tuning.TuningJob | None = response.sagemaker_backend.hyper_parameter_tuning_jobs.get(name)
    if job is None:
        raise ValidationError(message="Requested resource not found.")
    return job


SUMMARY = (
    "HyperParameterTuningJobName", "HyperParameterTuningJobArn", "HyperParameterTuningJobStatus", "CreationTime",
    "TrainingJobStatusCounters", "ObjectiveStatusCounters",
)  # fmt: skip


def _list_tuning_jobs(response: SageMakerResponse) -> ActionResult:
    part = str(body_of(response).get("NameContains") or "")
    every = [job.described() for job in getattr(response.sagemaker_backend, TUNING_JOBS).values()]
    rows = [{**{key: job[key] for key in SUMMARY}, "Strategy": "Random"} for job in every]
    return ActionResult(
        {"HyperParameterTuningJobSummaries": [row for row in rows if part in row["HyperParameterTuningJobName"]]}
    )


def _list_trials(response: SageMakerResponse) -> ActionResult:
    job = _tuning_job(response)
    return ActionResult({"TrainingJobSummaries": [job.summary_of(trial) for trial in job.trials]})


def _stop_tuning_job(response: SageMakerResponse) -> ActionResult:
    job = _tuning_job(response)
    if job.status != "InProgress":
        raise ValidationError(message=f"The request was rejected because the tuning job is in status {job.status}.")
    job.stop()
    return EmptyResult()


def _stop_training_job(response: SageMakerResponse) -> ActionResult:
    name = body_of(response)["TrainingJobName"]
    job = response.sagemaker_backend.training_jobs.get(name)
    if job is None:
        raise ValidationError(message="Requested resource not found.")
    if job.training_job_status != "InProgress":
        raise ValidationError(
            message=f"The request was rejected because the training job is in status {job.training_job_status}."
        )
    job.stop()
    return EmptyResult()


def _delete_job(word: str, jobs: str, status: str) -> Callable[[SageMakerResponse], ActionResult]:
    """DeleteTrainingJob and its like: of `<word>Name` in the backend's `jobs`, whose state is in the field `status`."""

    def delete(response: SageMakerResponse) -> ActionResult:
        name, there = body_of(response)[f"{word}Name"], getattr(response.sagemaker_backend, jobs)
        if name not in there:
            raise JsonRESTError("ResourceNotFound", f"{word} {name} does not exist.")
        if getattr(there[name], status) in ("InProgress", "Stopping"):
            raise JsonRESTError("ResourceInUse", f"{word} {name} is {getattr(there[name], status)}.")
        del there[name]
        return EmptyResult()

    return delete


def _create_processing_job(engine: Engine, response: SageMakerResponse) -> ActionResult:
    request, backend = body_of(response), response.sagemaker_backend
    name = request["ProcessingJobName"]
    if name in backend.processing_jobs:
        raise ResourceInUseException(
            message=f"Processing job names must be unique within an AWS account and region. The name {name} is taken."
        )
    _admit(engine, request, request["AppSpecification"]["ImageUri"], processing.refusal(request))
    job = backend.processing_jobs[name] = processing.ProcessingJob(engine, request)
    _start(job.run, name)
    return ActionResult({"ProcessingJobArn": job.arn})


def _stop_processing_job(response: SageMakerResponse) -> ActionResult:
    name = body_of(response)["ProcessingJobName"]
    job = response.sagemaker_backend.processing_jobs.get(name)
    if job is None:
        raise ValidationError(message=f"Could not find requested job with name: {name}")
    if job.processing_job_status == "InProgress":
        job.stop()
    return EmptyResult()


def _create_transform_job(engine: Engine, response: SageMakerResponse) -> ActionResult:
    request, backend = body_of(response), response.sagemaker_backend
    name = request["TransformJobName"]
    if name in backend.transform_jobs:
        raise ResourceInUseException(
            message=f"Transform job names must be unique within an AWS account and region. The name {name} is taken."
        )
    refused, model = transform.refusal(request), backend._models.get(request["ModelName"])
    if refused or model is None:
        raise ValidationError(message=refused or f"Could not find model {request['ModelName']!r}.")
    job = backend.transform_jobs[name] = transform.TransformJob(engine, request, model)
    _start(job.run, name)
    return ActionResult({"TransformJobArn": job.arn})


def _stop_transform_job(response: SageMakerResponse) -> ActionResult:
    name = body_of(response)["TransformJobName"]
    job = response.sagemaker_backend.transform_jobs.get(name)
    if job is None:
        raise ValidationError(message=f"Could not find requested job with name: {name}")
    if job.transform_job_status == "InProgress":
        job.stop()
    return EmptyResult()


def stop_all() -> None:
    """Ends every job and endpoint of this engine."""
    child.stop_all()
