"""SageMaker training jobs run for real, by AWS's own training toolkit.

Covers: one host, File mode (FastFile reads the same files), channels by S3 prefix, hyperparameters, script mode,
ContainerEntrypoint and ContainerArguments, checkpoints, metric definitions, model and output archives, time limit,
StopTrainingJob, FailureReason, log stream.
Does not cover, and refuses by name: several hosts, Pipe mode, manifest files, compressed or RecordIO channels, file
systems, VPC and network isolation, Debugger, TensorBoard output, algorithms of the marketplace.
Spot training runs without interruptions. Checkpoints go to S3 when the job ends, however it ends. No state change
events go to EventBridge.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.core.utils import utcnow
from moto.sagemaker.models import FakeTrainingJob

from lab import child, identity, jobfiles, joblog, runtimes, scriptmode
from lab.errors import LabError
from lab.jobfiles import Files, Place

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
SERVICE = "sagemaker"
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
HOST = "localhost"
REASON_CHARACTERS = 1024
# SageMaker gives a container two minutes between SIGTERM and SIGKILL.
GRACE_SECONDS = 120.0
DAY = 86_400
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
REQUEST_KEYS = {
    "TrainingJobName", "HyperParameters", "AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig",
    "ResourceConfig", "StoppingCondition", "Tags", "EnableNetworkIsolation", "EnableManagedSpotTraining",
    "EnableInterContainerTrafficEncryption", "CheckpointConfig", "Environment", "ExperimentConfig", "RetryStrategy",
    "ProfilerConfig", "DebugHookConfig", "RemoteDebugConfig", "InfraCheckConfig", "SessionChainingConfig",
}  # fmt: skip


def refusal(request: Mapping[str, Any]) -> str | None:
    """Why the desk cannot run this request, naming the parameter; None when it can."""
    if not NAME.fullmatch(request["TrainingJobName"]):
        return f"TrainingJobName {request['TrainingJobName']!r} must match {NAME.pattern}"
    for key in sorted(set(request) - REQUEST_KEYS):
        if request[key]:
            return f"{key} is not covered by the desk engine"
    algorithm, resources = request["AlgorithmSpecification"], request["ResourceConfig"]
    if not algorithm.get("TrainingImage"):
        return "AlgorithmSpecification.AlgorithmName is not covered by the desk engine; name a TrainingImage"
    groups = resources.get("InstanceGroups") or []
    if resources.get("InstanceCount", 1) != 1 or len(groups) > 1 or any(g["InstanceCount"] != 1 for g in groups):
        return "ResourceConfig.InstanceCount: the desk engine runs one host"
    if request.get("EnableNetworkIsolation"):
        return "EnableNetworkIsolation is not covered by the desk engine: it cannot take the network from a child"
    if not (request.get("ProfilerConfig") or {}).get("DisableProfiler", True) or request.get("DebugHookConfig"):
        return "ProfilerConfig and DebugHookConfig are not covered by the desk engine"
    if (request.get("RemoteDebugConfig") or {}).get("EnableRemoteDebug"):
        return "RemoteDebugConfig is not covered by the desk engine"
    modes = [algorithm.get("TrainingInputMode"), *(c.get("InputMode") for c in request.get("InputDataConfig") or [])]
    if "Pipe" in modes:
        return "TrainingInputMode Pipe is not covered by the desk engine; use File"
    return next(filter(None, map(_refused_channel, request.get("InputDataConfig") or [])), None)


def _refused_channel(channel: Mapping[str, Any]) -> str | None:
    where = f"InputDataConfig[{channel['ChannelName']}]"
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        return f"{where}: only S3DataSource is covered by the desk engine"
    if source["S3DataType"] != "S3Prefix":
        return f"{where}.S3DataType {source['S3DataType']} is not covered by the desk engine; use S3Prefix"
    for key in ("CompressionType", "RecordWrapperType"):
        if channel.get(key, "None") != "None":
            return f"{where}.{key} {channel[key]} is not covered by the desk engine"
    return None


class TrainingJob(FakeTrainingJob):  # type: ignore[misc]
    """One job: the request as it came, and how far it got. moto's list and search see it as one of its own."""

    def __init__(self, engine: Engine, request: dict[str, Any]) -> None:
        self.engine, self.request = engine, request
        self.training_job_name = str(request["TrainingJobName"])
        self.arn = f"arn:aws:sagemaker:{engine.region}:{engine.account}:training-job/{self.training_job_name}"
        self.tags = request.get("Tags") or []
        self.creation_time = self.last_modified_time = utcnow()
        self.training_start_time: datetime.datetime | None = None
        self.training_end_time: datetime.datetime | None = None
        self.training_job_status, self.secondary_status = "InProgress", ""
        self.secondary_status_transitions: list[dict[str, Any]] = []
        self.failure_reason: str | None = None
        self.model_artifacts: dict[str, str] = {}
        self.final_metric_data_list: list[dict[str, Any]] = []
        self.folder = child.job_folder(engine, SERVICE, self.training_job_name)
        self.ml = self.folder / "ml"
        self.log = self.folder / "log.txt"
        self.stopping = threading.Event()
        self.running: child.Running | None = None
        self._enter("Starting", "Starting the training job")

    @property
    def response_object(self) -> dict[str, Any]:
        """What DescribeTrainingJob answers."""
        started, ended = self.training_start_time, self.training_end_time
        seconds = int(((ended or utcnow()) - started).total_seconds()) if started else None
        answer = {
            **{key: value for key, value in self.request.items() if key != "Tags"},
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self.training_job_status,
            "SecondaryStatus": self.secondary_status,
            "SecondaryStatusTransitions": self.secondary_status_transitions,
            "FailureReason": self.failure_reason,
            "ModelArtifacts": self.model_artifacts or {"S3ModelArtifacts": str(self._output("model.tar.gz"))},
            "CreationTime": self.creation_time,
            "TrainingStartTime": started,
            "TrainingEndTime": ended,
            "LastModifiedTime": self.last_modified_time,
            "TrainingTimeInSeconds": seconds,
            "BillableTimeInSeconds": seconds,
            "FinalMetricDataList": self.final_metric_data_list or None,
        }
        return {key: value for key, value in answer.items() if value is not None}

    def _enter(self, secondary: str, message: str) -> None:
        moment = utcnow()
        if self.secondary_status_transitions:
            self.secondary_status_transitions[-1].setdefault("EndTime", moment)
        self.secondary_status_transitions.append({"Status": secondary, "StartTime": moment, "StatusMessage": message})
        self.secondary_status, self.last_modified_time = secondary, moment

    def stop(self) -> None:
        """StopTrainingJob: the container gets SIGTERM, and what is in /opt/ml/model is kept."""
        self.training_job_status = "Stopping"
        self._enter("Stopping", "Stopping the training job")
        self.stopping.set()
        if self.running is not None:
            threading.Thread(target=self.running.stop, daemon=True).start()

    def run(self) -> None:
        """The whole job, in a thread of its own; ends in Completed, Failed or Stopped, whatever happens."""
        try:
            status, secondary = self._run()
        except LabError as error:
            status = secondary = "Failed"
            self.failure_reason = f"ClientError: {error.message}"[:REASON_CHARACTERS]
        except Exception as error:
            LOG.exception("training job %s", self.training_job_name)
            status = secondary = "Failed"
            self.failure_reason = f"InternalServerError: {type(error).__name__}: {error}"[:REASON_CHARACTERS]
        self._ship_log()
        self.training_end_time = utcnow()
        self._enter(secondary, {"Completed": "Training job completed"}.get(secondary, self.failure_reason or secondary))
        # Last, as it is what pollers wait for.
        self.training_job_status = status

    def _run(self) -> tuple[str, str]:
        shutil.rmtree(self.folder, ignore_errors=True)  # an earlier engine in this root may have had a job of this name
        session = identity.assume(self.engine, self.request["RoleArn"], self.training_job_name)
        files = Files(self.engine, session)
        self._enter("Downloading", "Downloading input data")
        checkpoints, local = self._prepare(files)
        if self.stopping.is_set():
            return "Stopped", "Stopped"
        self._enter("Training", "Training image download completed. Training in progress.")
        self.training_start_time = utcnow()
        try:
            self.running = child.start(self._child(), self.engine)
            result = self.running.wait()
        finally:
            if checkpoints is not None and local.is_dir():
                files.upload(local, checkpoints)
        assert result is not None
        self.final_metric_data_list = self._metrics()
        self._enter("Uploading", "Uploading generated training model")
        failed = result.rc != 0 and not result.timed_out and not self.stopping.is_set()
        self._upload(files, model=not failed)
        if failed:
            self.failure_reason = self._why(result.rc)
            return "Failed", "Failed"
        if result.timed_out:
            return "Stopped", "MaxRuntimeExceeded"
        return ("Stopped", "Stopped") if self.stopping.is_set() else ("Completed", "Completed")

    def _prepare(self, files: Files) -> tuple[Place | None, Path]:
        """Lays out /opt/ml and fetches channels and checkpoints; where checkpoints belong, in S3 and here."""
        for name in ("model", "input/config", "input/data", "output/data", "code", "checkpoints"):
            (self.ml / name).mkdir(parents=True, exist_ok=True)
        channels = {}
        for channel in self.request.get("InputDataConfig") or []:
            name = channel["ChannelName"]
            target = self.ml / "input" / "data" / name
            files.download(Place.parse(channel["DataSource"]["S3DataSource"]["S3Uri"]), target)
            if name == "sm_drivers":  # what the SageMaker SDK v3 sends along: scripts with /opt/ml written into them
                jobfiles.rewrite_scripts(target, self.ml)
            channels[name] = {
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            }
        hyperparameters = self.request.get("HyperParameters") or {}
        for name, content in (
            ("hyperparameters", hyperparameters),
            ("inputdataconfig", channels),
            ("resourceconfig", self._resources()),
        ):
            (self.ml / "input" / "config" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        config = self.request.get("CheckpointConfig")
        local = Path(jobfiles.place_of_ml((config or {}).get("LocalPath") or "/opt/ml/checkpoints", self.ml))
        if not config:
            return None, local
        place = Place.parse(config["S3Uri"])
        files.download(place, local, optional=True)
        return place, local

    def _resources(self) -> dict[str, Any]:
        kind = self.request["ResourceConfig"].get("InstanceType", "local")
        group = {"instance_group_name": "homogeneousCluster", "instance_type": kind, "hosts": [HOST]}
        return {
            "current_host": HOST,
            "current_instance_type": kind,
            "current_group_name": "homogeneousCluster",
            "hosts": [HOST],
            "instance_groups": [group],
            "network_interface_name": "lo",
        }

    def _child(self) -> child.Child:
        environment = jobfiles.rewritten_environment(self.request.get("Environment") or {}, self.ml)
        grants = tracking(self.engine, environment)
        argv, more = self._command()
        limit = (self.request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds", DAY)
        return child.Child(
            kind="job",
            service=SERVICE,
            name=self.training_job_name,
            argv=argv,
            cwd=self.ml / "code",
            env={
                "SAGEMAKER_BASE_DIR": str(self.ml),
                "SAGEMAKER_REGION": self.engine.region,
                "TRAINING_JOB_NAME": self.training_job_name,
                "TRAINING_JOB_ARN": self.arn,
                **more,
                **environment,
            },
            runtime=runtimes.of_image(self.engine, self.request["AlgorithmSpecification"]["TrainingImage"]),
            bundle_paths=[],
            role_arn=self.request["RoleArn"],
            timeout_s=float(limit),
            grace_s=GRACE_SECONDS,
            grants=grants,
        )

    def _command(self) -> tuple[list[str], dict[str, str]]:
        """What the container runs, and what its environment has beside the request's."""
        algorithm = self.request["AlgorithmSpecification"]
        entry = algorithm.get("ContainerEntrypoint") or []
        arguments = jobfiles.rewritten(algorithm.get("ContainerArguments") or [], self.ml)
        if entry:
            return [*jobfiles.rewritten(entry, self.ml), *arguments], {}
        if toolkit_installed():
            return ["python", "-P", "-m", "sagemaker_training.cli.train"], {}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as out:
            out.write("sagemaker-training is not installed: the lab runs the script itself, the way script mode does\n")
        session = identity.assume(self.engine, self.request["RoleArn"], self.training_job_name)
        return scriptmode.prepare(Files(self.engine, session), self.ml, HOST)

    def _upload(self, files: Files, *, model: bool) -> None:
        scratch = self.folder / "tmp"
        for name, folder, wanted in (
            ("output.tar.gz", self.ml / "output" / "data", any((self.ml / "output" / "data").iterdir())),
            ("model.tar.gz", self.ml / "model", model),
        ):
            if wanted:
                jobfiles.pack(folder, scratch / name)
                files.put(scratch / name, self._output(name))
                (scratch / name).unlink()
        if model:
            self.model_artifacts = {"S3ModelArtifacts": str(self._output("model.tar.gz"))}

    def _output(self, name: str) -> Place:
        return Place.parse(self.request["OutputDataConfig"]["S3OutputPath"]).below(
            f"{self.training_job_name}/output/{name}"
        )

    def _metrics(self) -> list[dict[str, Any]]:
        """The last value in the log of each metric that the request defines."""
        said = joblog.text(self.log)
        found = []
        for metric in self.request["AlgorithmSpecification"].get("MetricDefinitions") or []:
            values = re.findall(metric["Regex"], said)
            if values:
                last = values[-1] if isinstance(values[-1], str) else values[-1][0]
                found.append({"MetricName": metric["Name"], "Value": float(last), "Timestamp": utcnow()})
        return found

    def _why(self, rc: int) -> str:
        """FailureReason: what the container wrote to output/failure, and the last lines of its log."""
        failure = joblog.text(self.ml / "output" / "failure").strip()
        head = f"AlgorithmError: {failure[:400]}".rstrip() + f", exit code: {rc}\n"
        # The toolkit repeats what failed; the script's own last words stand above that.
        said = [line for line in joblog.text(self.log).splitlines() if line.strip()]
        own = [line for line in said if "sagemaker-training-toolkit" not in line and line.strip() not in failure]
        return head + "\n".join(own[-joblog.TAIL_LINES :])[-(REASON_CHARACTERS - len(head)) :]

    def _ship_log(self) -> None:
        stream = f"{self.training_job_name}/algo-1-{int(time.time())}"
        joblog.to_cloudwatch(self.engine, LOG_GROUP, stream, joblog.text(self.log).splitlines())


def toolkit_installed() -> bool:
    """Whether AWS's toolkit is there; it needs a C compiler to be built."""
    return importlib.util.find_spec("sagemaker_training") is not None


def tracking(engine: Engine, environment: dict[str, str]) -> tuple[str, ...]:
    """Gives a job the desk's MLflow store when its MLFLOW_TRACKING_URI is empty; the distributions that this takes."""
    if environment.get("MLFLOW_TRACKING_URI", "none given"):
        return ()
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{engine.root / 'mlflow.db'}"
    # Containers have mlflow-skinny; the sqlite store is in mlflow itself.
    return ("mlflow",)
