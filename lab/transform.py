"""SageMaker batch transform runs for real: the model's own server answers for every object below a prefix.

Covers: S3 inputs by prefix or object, whole objects (SplitType None) as one request each, `<object>.out` in the output
prefix, Accept, ContentType, environment, MaxConcurrentTransforms, FailureReason, log stream, StopTransformJob. An
object that the model refuses fails the job, as in AWS; what was answered before stays.
Does not cover, and refuses by name: several instances, splitting and assembling records, MultiRecord, manifest files,
compressed inputs, DataProcessing, data capture, model client settings.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from moto.core.utils import utcnow
from moto.sagemaker.models import FakeTransformJob, Model

from lab import identity, joblog, serving
from lab.errors import LabError
from lab.jobfiles import Files, Place
from lab.training import NAME, REASON_CHARACTERS, SETS_UP_LOGS

if TYPE_CHECKING:
    import datetime

    from lab.engine import Engine

LOG = logging.getLogger(__name__)
LOG_GROUP = "/aws/sagemaker/TransformJobs"
REQUEST_KEYS = {
    "TransformJobName", "ModelName", "MaxConcurrentTransforms", "MaxPayloadInMB", "BatchStrategy", "Environment",
    "TransformInput", "TransformOutput", "TransformResources", "Tags",
}  # fmt: skip
MEGABYTE = 1 << 20
PAYLOAD_MB = 6


def refusal(request: Mapping[str, Any]) -> str | None:
    """Why the desk cannot run this request, naming the parameter; None when it can."""
    if not NAME.fullmatch(request["TransformJobName"]):
        return f"TransformJobName {request['TransformJobName']!r} must match {NAME.pattern}"
    for key in sorted(set(request) - REQUEST_KEYS):
        return f"{key} is not covered by the desk engine"
    if request["TransformResources"]["InstanceCount"] != 1:
        return "TransformResources.InstanceCount: the desk engine runs one instance"
    given, wanted = request["TransformInput"], request["TransformOutput"]
    found = {
        "BatchStrategy": request.get("BatchStrategy", "SingleRecord"),
        "TransformInput.DataSource.S3DataSource.S3DataType": given["DataSource"]["S3DataSource"]["S3DataType"],
        "TransformInput.SplitType": given.get("SplitType", "None"),
        "TransformInput.CompressionType": given.get("CompressionType", "None"),
        "TransformOutput.AssembleWith": wanted.get("AssembleWith", "None"),
    }
    for key, value in found.items():
        if value not in ("None", "SingleRecord", "S3Prefix"):
            return f"{key} {value} is not covered by the desk engine"
    return None


class TransformJob(FakeTransformJob):  # type: ignore[misc]
    """One job: the request as it came, and how far it got. moto's list sees it as one of its own."""

    def __init__(self, engine: Engine, request: dict[str, Any], model: Model) -> None:
        self.engine, self.request, self.model = engine, request, model
        self.transform_job_name = str(request["TransformJobName"])
        self.arn = f"arn:aws:sagemaker:{engine.region}:{engine.account}:transform-job/{self.transform_job_name}"
        self.transform_job_arn = self.arn
        self.tags = request.get("Tags") or []
        self.creation_time = self.last_modified_time = utcnow()
        self.transform_start_time: datetime.datetime | None = None
        self.transform_end_time: datetime.datetime | None = None
        self.transform_job_status = "InProgress"
        self.failure_reason: str | None = None
        self.stopping = threading.Event()

    @property
    def response_object(self) -> dict[str, Any]:
        """What DescribeTransformJob answers."""
        answer = {
            **{key: value for key, value in self.request.items() if key != "Tags"},
            "TransformJobArn": self.arn,
            "TransformJobStatus": self.transform_job_status,
            "FailureReason": self.failure_reason,
            "CreationTime": self.creation_time,
            "TransformStartTime": self.transform_start_time,
            "TransformEndTime": self.transform_end_time,
        }
        return {key: value for key, value in answer.items() if value is not None}

    def stop(self) -> None:
        """StopTransformJob: no further object is sent."""
        self.transform_job_status, self.last_modified_time = "Stopping", utcnow()
        self.stopping.set()

    def run(self) -> None:
        """The whole job, in a thread of its own; ends in Completed, Failed or Stopped, whatever happens."""
        try:
            self._run()
            status = "Stopped" if self.stopping.is_set() else "Completed"
        except LabError as error:
            status = "Failed"
            self.failure_reason = f"ClientError: {error.message}"[:REASON_CHARACTERS]
        except Exception as error:
            LOG.exception("transform job %s", self.transform_job_name)
            status = "Failed"
            self.failure_reason = f"InternalServerError: {type(error).__name__}: {error}"[:REASON_CHARACTERS]
        self.transform_end_time = self.last_modified_time = utcnow()
        # Last, as it is what pollers wait for.
        self.transform_job_status = status

    def _run(self) -> None:
        role, container = self.model.execution_role_arn, self.model.primary_container
        files = Files(self.engine, identity.assume(self.engine, role, self.transform_job_name))
        source = Place.parse(self.request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"])
        objects = list(files.objects(source))
        if not objects:
            raise LabError(f"No objects were found below {source}")
        server = serving.start(
            self.engine,
            f"transform/{self.transform_job_name}",
            image=container["Image"],
            model_data=container.get("ModelDataUrl"),
            environment={**(container.get("Environment") or {}), **(self.request.get("Environment") or {})},
            role_arn=role,
            isolated=self.model.enable_network_isolation,
        )
        try:
            self.transform_start_time = self.last_modified_time = utcnow()
            at_once = max(1, int(self.request.get("MaxConcurrentTransforms") or 1))
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(lambda item: self._answer(files, server, source.bucket, *item), objects))
        finally:
            server.stop()
            stream = f"{self.transform_job_name}/algo-1-{int(time.time())}"
            said = joblog.text(server.running.log).splitlines()
            joblog.to_cloudwatch(self.engine, role, LOG_GROUP, stream, said, more=SETS_UP_LOGS)

    def _answer(self, files: Files, server: serving.Server, bucket: str, key: str, below: str) -> None:
        """One object through the server, its answer beside the others."""
        if self.stopping.is_set():
            return
        body = files.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        most = int(self.request.get("MaxPayloadInMB") or PAYLOAD_MB)
        if most and len(body) > most * MEGABYTE:
            self._give_up(f"s3://{bucket}/{key} has {len(body)} bytes; MaxPayloadInMB is {most}")
        headers = {
            "Content-Type": self.request["TransformInput"].get("ContentType"),
            "Accept": self.request["TransformOutput"].get("Accept"),
        }
        answer = server.ask("POST", "/invocations", body, {name: value for name, value in headers.items() if value})
        if not 200 <= answer.status < 300:
            said = answer.body.decode("utf-8", errors="replace")
            self._give_up(f"s3://{bucket}/{key}: the model answered {answer.status}: {said}")
        place = Place.parse(self.request["TransformOutput"]["S3OutputPath"]).below(f"{below}.out")
        files.s3.put_object(Bucket=place.bucket, Key=place.key, Body=answer.body)

    def _give_up(self, why: str) -> None:
        """Sends no further object. Raises LabError with the reason."""
        self.stopping.set()
        raise LabError(why)
