"""SageMaker processing jobs run for real, inputs before and outputs after.

Covers: one instance, S3 inputs by prefix or object, EndOfJob outputs (only when the job succeeds), environment,
arguments, time limit, StopProcessingJob, ExitMessage and FailureReason, log stream.
Does not cover, and refuses by name: several instances, Pipe mode, manifest files, gzip inputs, Continuous uploads,
dataset definitions, feature store outputs. isolation.py says what of VPC and network isolation holds.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.core.utils import utcnow
from moto.sagemaker.models import FakeProcessingJob

from lab import access, child, identity, jobfiles, joblog, onbehalf, runtimes
from lab.errors import LabError
from lab.jobfiles import Files, Place
from lab.training import DAY, GRACE_SECONDS, NAME, REASON_CHARACTERS, SERVICE, SETS_UP_LOGS, tracking

if TYPE_CHECKING:
    import datetime

    from lab.engine import Engine

LOG = logging.getLogger(__name__)
LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
REQUEST_KEYS = {
    "ProcessingJobName", "ProcessingInputs", "ProcessingOutputConfig", "ProcessingResources", "StoppingCondition",
    "AppSpecification", "Environment", "NetworkConfig", "RoleArn", "Tags", "ExperimentConfig",
}  # fmt: skip


def refusal(request: Mapping[str, Any]) -> str | None:
    """Why the desk cannot run this request, naming the parameter; None when it can."""
    if not NAME.fullmatch(request["ProcessingJobName"]):
        return f"ProcessingJobName {request['ProcessingJobName']!r} must match {NAME.pattern}"
    for key in sorted(set(request) - REQUEST_KEYS):
        return f"{key} is not covered by the desk engine"
    if request["ProcessingResources"]["ClusterConfig"]["InstanceCount"] != 1:
        return "ProcessingResources.ClusterConfig.InstanceCount: the desk engine runs one instance"
    if not request["AppSpecification"].get("ContainerEntrypoint"):
        return "AppSpecification.ContainerEntrypoint: the desk engine needs it, as it has no image to read one from"
    for item in request.get("ProcessingInputs") or []:
        source = item.get("S3Input")
        if source is None or item.get("AppManaged"):
            return f"ProcessingInputs[{item['InputName']}]: only S3Input is covered by the desk engine"
        for key, wanted in (("S3DataType", "S3Prefix"), ("S3InputMode", "File"), ("S3CompressionType", "None")):
            if source.get(key, wanted) != wanted:
                return f"ProcessingInputs[{item['InputName']}].{key} {source[key]} is not covered by the desk engine"
    for item in (request.get("ProcessingOutputConfig") or {}).get("Outputs", []):
        target = item.get("S3Output")
        if target is None or item.get("AppManaged") or target.get("S3UploadMode") != "EndOfJob":
            return f"ProcessingOutputConfig[{item['OutputName']}]: only S3Output with EndOfJob is covered"
    return None


class ProcessingJob(FakeProcessingJob):  # type: ignore[misc]
    """One job: the request as it came, and how far it got. moto's list and search see it as one of its own."""

    def __init__(self, engine: Engine, request: dict[str, Any]) -> None:
        self.engine, self.request = engine, request
        self.processing_job_name = str(request["ProcessingJobName"])
        self.arn = f"arn:aws:sagemaker:{engine.region}:{engine.account}:processing-job/{self.processing_job_name}"
        self.tags = request.get("Tags") or []
        self.creation_time = self.last_modified_time = utcnow()
        self.processing_start_time: datetime.datetime | None = None
        self.processing_end_time: datetime.datetime | None = None
        self.processing_job_status = "InProgress"
        self.failure_reason: str | None = None
        self.exit_message: str | None = None
        self.folder = child.job_folder(engine, SERVICE, self.processing_job_name)
        self.ml = self.folder / "ml"
        self.log = self.folder / "log.txt"
        self.stopping = threading.Event()
        self.running: child.Running | None = None

    @property
    def response_object(self) -> dict[str, Any]:
        """What DescribeProcessingJob answers."""
        answer = {
            **{key: value for key, value in self.request.items() if key != "Tags"},
            "ProcessingJobArn": self.arn,
            "ProcessingJobStatus": self.processing_job_status,
            "FailureReason": self.failure_reason,
            "ExitMessage": self.exit_message,
            "CreationTime": self.creation_time,
            "LastModifiedTime": self.last_modified_time,
            "ProcessingStartTime": self.processing_start_time,
            "ProcessingEndTime": self.processing_end_time,
        }
        return {key: value for key, value in answer.items() if value is not None}

    def stop(self) -> None:
        """StopProcessingJob: SIGTERM to the container; nothing is uploaded."""
        self.processing_job_status, self.last_modified_time = "Stopping", utcnow()
        self.stopping.set()
        if self.running is not None:
            threading.Thread(target=self.running.stop, daemon=True).start()

    def run(self) -> None:
        """The whole job, in a thread of its own; ends in Completed, Failed or Stopped, whatever happens."""
        try:
            status = self._run()
        except LabError as error:
            status = "Failed"
            self.failure_reason = f"ClientError: {error.message}"[:REASON_CHARACTERS]
        except Exception as error:
            LOG.exception("processing job %s", self.processing_job_name)
            status = "Failed"
            self.failure_reason = f"InternalServerError: {type(error).__name__}: {error}"[:REASON_CHARACTERS]
        stream = f"{self.processing_job_name}/algo-1-{int(time.time())}"
        said = joblog.text(self.log).splitlines()
        joblog.to_cloudwatch(self.engine, self.request["RoleArn"], LOG_GROUP, stream, said, more=SETS_UP_LOGS)
        self.processing_end_time = self.last_modified_time = utcnow()
        # Last, as it is what pollers wait for.
        self.processing_job_status = status

    def _run(self) -> str:
        shutil.rmtree(self.folder, ignore_errors=True)  # an earlier engine in this root may have had a job of this name
        role, name = self.request["RoleArn"], self.processing_job_name
        image = self.request["AppSpecification"]["ImageUri"]
        disk = self.request["ProcessingResources"]["ClusterConfig"].get("VolumeKmsKeyId")
        access.require(self.engine, role, onbehalf.runs(self.engine, image, LOG_GROUP, disk), session=name)
        session = identity.assume(self.engine, role, name)
        files = Files(self.engine, session)
        self._prepare(files)
        if self.stopping.is_set():
            return "Stopped"
        self.processing_start_time = self.last_modified_time = utcnow()
        self.running = child.start(self._child(), self.engine)
        result = self.running.wait()
        assert result is not None
        self.exit_message = joblog.text(self.ml / "output" / "message").strip()[:REASON_CHARACTERS] or None
        if self.stopping.is_set() or result.timed_out:
            if result.timed_out:
                limit = self.request["StoppingCondition"]["MaxRuntimeInSeconds"]
                self.failure_reason = f"ClientError: the job ran longer than MaxRuntimeInSeconds, {limit} s"
            return "Stopped"
        if result.rc != 0:
            self.failure_reason = self._why(result.rc)
            return "Failed"
        for output in (self.request.get("ProcessingOutputConfig") or {}).get("Outputs", []):
            target = output["S3Output"]
            files.upload(self._local(target["LocalPath"]), Place.parse(target["S3Uri"]))
        return "Completed"

    def _prepare(self, files: Files) -> None:
        (self.ml / "output").mkdir(parents=True, exist_ok=True)
        (self.folder / "work").mkdir(exist_ok=True)
        for item in self.request.get("ProcessingInputs") or []:
            source = item["S3Input"]
            files.download(Place.parse(source["S3Uri"]), self._local(source["LocalPath"]))
        for item in (self.request.get("ProcessingOutputConfig") or {}).get("Outputs", []):
            self._local(item["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)
        config = self.ml / "config"
        config.mkdir(exist_ok=True)
        (config / "resourceconfig.json").write_text(
            json.dumps({"current_host": "localhost", "hosts": ["localhost"]}), "utf-8"
        )
        (config / "processingjobconfig.json").write_text(json.dumps(self.request, default=str), "utf-8")

    def _local(self, path: str) -> Path:
        return Path(jobfiles.place_of_ml(path, self.ml))

    def _child(self) -> child.Child:
        what = self.request["AppSpecification"]
        argv = [*what["ContainerEntrypoint"], *(what.get("ContainerArguments") or [])]
        environment = jobfiles.rewritten_environment(self.request.get("Environment") or {}, self.ml)
        grants = tracking(self.engine, environment)
        limit = (self.request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds", DAY)
        return child.Child(
            kind="job",
            service=SERVICE,
            name=self.processing_job_name,
            argv=jobfiles.rewritten(argv, self.ml),
            cwd=self.folder / "work",
            env={"PROCESSING_JOB_NAME": self.processing_job_name, **environment},
            runtime=runtimes.of_image(self.engine, what["ImageUri"]),
            bundle_paths=[],
            role_arn=self.request["RoleArn"],
            timeout_s=float(limit),
            grace_s=GRACE_SECONDS,
            grants=grants,
            isolated=bool((self.request.get("NetworkConfig") or {}).get("EnableNetworkIsolation")),
        )

    def _why(self, rc: int) -> str:
        head = f"AlgorithmError: See job logs for more information, exit code: {rc}\n"
        return head + joblog.tail(self.log, characters=REASON_CHARACTERS - len(head))
