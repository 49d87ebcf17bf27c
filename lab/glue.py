"""Glue jobs run on real Apache Spark; what would run nothing is refused.

Covers: glueetl jobs of Glue 5.x (create, run, describe, stop), arguments, --extra-py-files,
--additional-python-modules (checked against what is installed, of a zip of wheels the list in it), --conf, Timeout,
MaxConcurrentRuns, run states with ErrorMessage, log streams (gluejob.py); `s3://` for Spark's readers and writers
(glue_spark.py). Connections of type NETWORK are taken and change nothing.
Does not cover, and refuses by name: other Glue versions, Python shell and Ray jobs, jars, bookmarks, retries, crawlers,
triggers, workflows, sessions, ML transforms. Workers are two local threads, whatever is asked.
The child's Python is the lab's own; Glue 5.1 has 3.11. Metrics and encryption settings are taken and change nothing.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import io
import json
import threading
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from moto.core.responses import ActionResult
from moto.core.utils import underscores_to_camelcase
from moto.glue.exceptions import (
    ConcurrentRunsExceededException,
    EntityNotFoundException,
    GlueClientError,
    JobRunNotFoundException,
)
from moto.glue.models import FakeConnection, FakeJob
from moto.glue.responses import GlueResponse
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from lab import identity, mirror
from lab.gluejob import SERVICE, JobRun, listed, role_arn
from lab.jobfiles import Files, Place

if TYPE_CHECKING:
    from lab.engine import Engine

DEFAULT_TIMEOUT_MINUTES = 480
REFUSED = {
    "--extra-jars", "--extra-files", "--user-jars-first", "--class", "--scriptLocation", "--enable-glue-datacatalog",
    "--datalake-formats", "--library-set",
}  # fmt: skip
# Metadata that moto keeps faithfully; nothing runs behind it.
KEPT_WORDS = (
    "database",
    "table",
    "partition",
    "registr",
    "schema",
    "security_configuration",
    "connection",
    "tag",
    "polic",
    "catalog",
)
KEPT = {"create_job", "get_job", "get_jobs", "list_jobs", "delete_job", "batch_get_jobs", "update_job"}
KEPT |= {"start_job_run", "get_job_run", "get_job_runs"}


class InvalidInput(GlueClientError):  # type: ignore[misc]
    """Glue's InvalidInputException."""

    def __init__(self, message: str) -> None:
        super().__init__("InvalidInputException", message)


def refusal(job: FakeJob, arguments: dict[str, str]) -> str | None:
    """Why the desk cannot run this job, naming the property or argument; None when it can."""
    command = job.command
    version = str(job.glue_version or "")
    if not version.startswith("5."):
        return f"GlueVersion {version or '(unset, which is 6.0 in AWS)'} is not covered by the desk engine; set 5.1"
    if command.get("Name") != "glueetl" or arguments.get("--job-language", "python") != "python":
        return f"Command {command.get('Name')} is not covered by the desk engine; use glueetl in Python"
    if job.max_retries:
        return "MaxRetries is not covered by the desk engine"
    for name in sorted(REFUSED & set(arguments)):
        return f"the argument {name} is not covered by the desk engine"
    if arguments.get("--job-bookmark-option", "job-bookmark-disable") != "job-bookmark-disable":
        return "--job-bookmark-option: job bookmarks are not covered by the desk engine"
    return None


def _wrong_modules(engine: Engine, job: FakeJob, arguments: dict[str, str]) -> str | None:
    """Why the modules that a job asks for are not what a child of the desk gets."""
    wanted = [
        line
        for item in listed(arguments.get("--additional-python-modules"))
        for line in _requirements(engine, job, item)
    ]
    return next(filter(None, map(_wrong_module, wanted)), None)


def _requirements(engine: Engine, job: FakeJob, module: str) -> list[str]:
    """What a zip of wheels, read as the job's role, lists in its `wheels/requirements.txt`; else the module itself."""
    if not module.endswith(".gluewheels.zip"):
        return [module]
    place = Place.parse(module)
    try:
        session = identity.assume(engine, role_arn(engine, job), job.name)
        body = Files(engine, session).s3.get_object(Bucket=place.bucket, Key=place.key)["Body"].read()
        with zipfile.ZipFile(io.BytesIO(body)) as wheels:
            return wheels.read("wheels/requirements.txt").decode().split()
    except (ClientError, zipfile.BadZipFile, KeyError) as error:
        raise InvalidInput(f"--additional-python-modules: {module} is no zip of wheels: {error}") from None


@functools.cache
def _wrong_module(text: str) -> str | None:
    """Why a requirement of --additional-python-modules is not what a child of the desk gets."""
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return f"--additional-python-modules: {text} is not covered by the desk engine; name a package and its version"
    try:
        installed = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return f"--additional-python-modules: {wanted.name} is not installed here; add it to the 'glue' extra"
    if not wanted.specifier.contains(Version(installed).public, prereleases=True):
        return f"--additional-python-modules: {text} is wanted, {installed} is installed here"
    return None


def install(engine: Engine) -> None:
    """Lets moto's Glue jobs run for real, and refuses by name what would run nothing."""

    def start_job_run(job: FakeJob, *_: Any, **asked: Any) -> str:
        return _start(engine, job, asked)

    FakeJob.start_job_run = start_job_run
    stock = FakeConnection.as_dict
    # moto shows only a part of what a connection was made with.
    FakeConnection.as_dict = lambda self, *rest, **more: {**self.connection_input, **stock(self, *rest, **more)}
    for name, function in vars(GlueResponse).copy().items():
        kept = name in KEPT or any(word in name for word in KEPT_WORDS)
        if inspect.isfunction(function) and not name.startswith("_") and not kept:
            setattr(GlueResponse, name, _refused(name))
    GlueResponse.batch_stop_job_run = _batch_stop
    GlueResponse.delete_connection = _delete_connection
    mirror.install(engine)


def _refused(name: str) -> Callable[[GlueResponse], ActionResult]:
    def operation(self: GlueResponse) -> ActionResult:
        action = underscores_to_camelcase(name)
        raise InvalidInput(
            f"{action[0].upper()}{action[1:]} is not covered by the desk engine: nothing would run behind it "
            "(docs/fidelity.md lists what is covered)"
        )

    return operation


def _start(engine: Engine, job: FakeJob, asked: dict[str, Any]) -> str:
    """StartJobRun; `asked` are moto's keyword arguments of it."""
    arguments = {**job.default_arguments, **(asked.get("arguments") or {}), **(job.non_overridable_arguments or {})}
    why = refusal(job, arguments) or _wrong_modules(engine, job, arguments)
    if why:
        raise InvalidInput(f"{job.name}: {why}")
    try:
        identity.require(engine, role_arn(engine, job), SERVICE)
    except identity.RoleError as error:
        raise InvalidInput(error.message) from None
    active = [run for run in job.job_runs if run.status in ("STARTING", "RUNNING", "STOPPING")]
    if len(active) >= int((job.execution_property or {}).get("MaxConcurrentRuns", 1)):
        raise ConcurrentRunsExceededException(f"Concurrent runs exceeded for {job.name}")
    timeout = int(asked.get("timeout") or job.timeout or DEFAULT_TIMEOUT_MINUTES)
    run = JobRun(engine, job, arguments, timeout)
    job.job_runs.append(run)
    threading.Thread(target=run.run, name=f"job-{run.name}", daemon=True).start()
    return run.job_run_id


def _delete_connection(response: GlueResponse) -> ActionResult:
    """moto has none."""
    name = json.loads(response.body)["ConnectionName"]
    if response.glue_backend.connections.pop(name, None) is None:
        raise EntityNotFoundException(f"Connection {name} not found")
    return ActionResult({})


def _batch_stop(response: GlueResponse) -> ActionResult:
    request: dict[str, Any] = json.loads(response.body)
    job = response.glue_backend.get_job(request["JobName"])
    stopped, errors = [], []
    for run_id in request["JobRunIds"]:
        found = [run for run in job.job_runs if run.job_run_id == run_id]
        if not found:
            message = str(JobRunNotFoundException(run_id).message)
            detail = {"ErrorCode": "EntityNotFoundException", "ErrorMessage": message}
            errors.append({"JobName": job.name, "JobRunId": run_id, "ErrorDetail": detail})
            continue
        if found[0].status in ("STARTING", "RUNNING"):
            found[0].stop()
        stopped.append({"JobName": job.name, "JobRunId": run_id})
    return ActionResult({"SuccessfulSubmissions": stopped, "Errors": errors})
