"""SageMaker training jobs run for real, by AWS's own training toolkit.

Covers: hosts as processes of this machine (hosts.py), File mode (FastFile reads the same files), channels by S3 prefix,
hyperparameters, script mode, torchrun, ContainerEntrypoint and ContainerArguments, checkpoints, metric definitions,
model and output archives, time limit, StopTrainingJob, FailureReason, a log stream for each host.
Of several hosts model.tar.gz is the first one's, output.tar.gz has a folder for each.
Does not cover, and refuses by name: MPI and AWS's own ways to start several hosts, several instance groups, Pipe mode,
manifest files, compressed or RecordIO channels, file systems, Debugger, TensorBoard output, algorithms of the
marketplace. isolation.py says what of VPC and network isolation holds; traffic between hosts is in the clear.
Spot training runs without interruptions. Checkpoints go to S3 when the job ends, however it ends. No state change
events go to EventBridge.
"""

from __future__ import annotations

import datetime
import importlib.util
import itertools
import logging
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.core.utils import utcnow
from moto.sagemaker.models import FakeTrainingJob

from lab import access, child, hosts, identity, jobfiles, joblog, onbehalf, runtimes, scriptmode
from lab.errors import EngineError, LabError
from lab.jobfiles import Files, Place

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
SERVICE = "sagemaker"
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
# What SageMaker does to a log beside writing it, with the role of the job or the endpoint.
SETS_UP_LOGS = ("CreateLogGroup", "DescribeLogStreams")
ML = "/opt/ml"
REASON_CHARACTERS = 1024
# SageMaker gives a container two minutes between SIGTERM and SIGKILL.
GRACE_SECONDS = 120.0
DAY = 86_400
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
REQUEST_KEYS = {
    "TrainingJobName", "HyperParameters", "AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig",
    "ResourceConfig", "StoppingCondition", "Tags", "EnableNetworkIsolation", "EnableManagedSpotTraining",
    "EnableInterContainerTrafficEncryption", "CheckpointConfig", "Environment", "ExperimentConfig", "RetryStrategy",
    "ProfilerConfig", "DebugHookConfig", "RemoteDebugConfig", "InfraCheckConfig", "SessionChainingConfig", "VpcConfig",
}  # fmt: skip


def refusal(request: Mapping[str, Any]) -> str | None:
    """Why the desk cannot run this request, naming the parameter; None when it can."""
    if not NAME.fullmatch(request["TrainingJobName"]):
        return f"TrainingJobName {request['TrainingJobName']!r} must match {NAME.pattern}"
    for key in sorted(set(request) - REQUEST_KEYS):
        if request[key]:
            return f"{key} is not covered by the desk engine"
    algorithm = request["AlgorithmSpecification"]
    if not algorithm.get("TrainingImage"):
        return "AlgorithmSpecification.AlgorithmName is not covered by the desk engine; name a TrainingImage"
    if refused := hosts.refusal(request):
        return refused
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
    distribution = source.get("S3DataDistributionType", "FullyReplicated")
    if distribution not in ("FullyReplicated", "ShardedByS3Key"):
        return f"{where}.S3DataDistributionType {distribution} is not covered by the desk engine"
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
        self.hosts = hosts.hosts(request, self.folder)
        self.stopping = threading.Event()
        self.running: hosts.Group | None = None
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
        role, image = self.request["RoleArn"], self.request["AlgorithmSpecification"]["TrainingImage"]
        disk = self.request["ResourceConfig"].get("VolumeKmsKeyId")
        wanted = onbehalf.runs(self.engine, image, LOG_GROUP, disk)
        access.require(self.engine, role, wanted, session=self.training_job_name)
        session = identity.assume(self.engine, role, self.training_job_name)
        files = Files(self.engine, session)
        self._enter("Downloading", "Downloading input data")
        for host in self.hosts:
            host.prepare(self.request, files)
        checkpoints, local = self._checkpoints(files)
        if self.stopping.is_set():
            return "Stopped", "Stopped"
        self._enter("Training", "Training image download completed. Training in progress.")
        self.training_start_time = utcnow()
        port = hosts.free_port()
        try:
            self.running = hosts.Group([child.start(self._child(host, port), self.engine) for host in self.hosts])
            results = self.running.wait()
        finally:
            # The first host last: it is the one that writes.
            for folder in reversed(local):
                if checkpoints is not None and folder.is_dir():
                    files.upload(folder, checkpoints)
        self._gather_logs()
        self.final_metric_data_list = self._metrics()
        self._enter("Uploading", "Uploading generated training model")
        timed_out = any(result.timed_out for result in results)
        failed = any(result.rc for result in results) and not timed_out and not self.stopping.is_set()
        self._upload(files, model=not failed)
        if failed:
            self.failure_reason = self._why(results)
            return "Failed", "Failed"
        if timed_out:
            return "Stopped", "MaxRuntimeExceeded"
        return ("Stopped", "Stopped") if self.stopping.is_set() else ("Completed", "Completed")

    def _checkpoints(self, files: Files) -> tuple[Place | None, list[Path]]:
        """Where checkpoints belong, in S3 and on each host, which receives those that are there."""
        config = self.request.get("CheckpointConfig") or {}
        path = config.get("LocalPath") or f"{ML}/checkpoints"
        local = [Path(jobfiles.place_of_ml(path, host.ml)) for host in self.hosts]
        if not config:
            return None, local
        place = Place.parse(config["S3Uri"])
        for folder in local:
            files.download(place, folder, optional=True)
        return place, local

    def _child(self, host: hosts.Host, port: int) -> child.Child:
        environment = jobfiles.rewritten_environment(self.request.get("Environment") or {}, host.ml)
        grants = tracking(self.engine, environment)
        argv, more = self._command(host)
        limit = (self.request.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds", DAY)
        return child.Child(
            kind="job",
            service=SERVICE,
            name=self.training_job_name,
            argv=argv,
            cwd=host.ml / "code",
            env={
                "SAGEMAKER_BASE_DIR": str(host.ml),
                "SAGEMAKER_REGION": self.engine.region,
                "TRAINING_JOB_NAME": self.training_job_name,
                "TRAINING_JOB_ARN": self.arn,
                **host.environment(port),
                **more,
                **environment,
            },
            runtime=runtimes.of_image(self.engine, self.request["AlgorithmSpecification"]["TrainingImage"]),
            bundle_paths=[],
            role_arn=self.request["RoleArn"],
            timeout_s=float(limit),
            grace_s=GRACE_SECONDS,
            grants=grants,
            log=host.log,
            isolated=bool(self.request.get("EnableNetworkIsolation")),
            ledger=host.place == 0,  # the hosts run side by side: their time counts once
        )

    def _command(self, host: hosts.Host) -> tuple[list[str], dict[str, str]]:
        """What the container runs, and what its environment has beside the request's."""
        algorithm = self.request["AlgorithmSpecification"]
        entry = algorithm.get("ContainerEntrypoint") or []
        arguments = jobfiles.rewritten(algorithm.get("ContainerArguments") or [], host.ml)
        if entry:
            return [*jobfiles.rewritten(entry, host.ml), *arguments], {}
        torchrun = hosts.told(self.request, hosts.TORCHRUN)
        if toolkit_installed():
            return ["python", "-P", "-m", "sagemaker_training.cli.train"], (
                {"SAGEMAKER_TRAINING_MODULE": "pytorch_container:main"} if torchrun else {}
            )
        if torchrun or host.count > 1:
            raise EngineError(
                "sagemaker-training is not installed, and without it the lab starts scripts on one host alone",
                "install a C compiler and run make demo again, or set instances = 1",
            )
        host.log.parent.mkdir(parents=True, exist_ok=True)
        with host.log.open("a", encoding="utf-8") as out:
            out.write("sagemaker-training is not installed: the lab runs the script itself, the way script mode does\n")
        session = identity.assume(self.engine, self.request["RoleArn"], self.training_job_name)
        return scriptmode.prepare(Files(self.engine, session), host.ml, host.name)

    def _upload(self, files: Files, *, model: bool) -> None:
        output = self.ml / "output" / "data"
        if len(self.hosts) > 1:
            output = self.folder / "output"
            for host in self.hosts:
                if any((host.ml / "output" / "data").iterdir()):
                    shutil.copytree(host.ml / "output" / "data", output / host.name)
        scratch = self.folder / "tmp"
        for name, folder, wanted in (
            ("output.tar.gz", output, output.is_dir() and any(output.iterdir())),
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

    def _why(self, results: Sequence[child.Result]) -> str:
        """FailureReason: what each container that failed wrote to output/failure, and the last lines of its log.

        The one that ended first comes first: the others may have failed for want of it.
        """
        failed = [(result, host) for result, host in zip(results, self.hosts, strict=True) if result.rc]
        failed.sort(key=lambda pair: pair[0].seconds)
        room = REASON_CHARACTERS // len(failed)
        return "\n".join(_words(result, host, self._said(host), room - 1) for result, host in failed)

    def _gather_logs(self) -> None:
        """Adds the log of each further host to the job's, line by line with the host's name."""
        for host in self.hosts[1:]:
            with self.log.open("a", encoding="utf-8") as out:
                out.writelines(f"{host.name} | {line}\n" for line in joblog.text(host.log).splitlines())

    def _ship_log(self) -> None:
        for host in reversed(self.hosts):
            stream = f"{self.training_job_name}/{host.name}-{int(time.time())}"
            role = self.request["RoleArn"]
            joblog.to_cloudwatch(self.engine, role, LOG_GROUP, stream, self._said(host), more=SETS_UP_LOGS)

    def _said(self, host: hosts.Host) -> list[str]:
        """A host's own lines; the first one's log holds the others' too by now."""
        others = tuple(f"{other.name} | " for other in self.hosts[1:])
        return [line for line in joblog.text(host.log).splitlines() if not (others and line.startswith(others))]


def _words(result: child.Result, host: hosts.Host, said: list[str], room: int) -> str:
    failure = joblog.text(host.ml / "output" / "failure").strip()
    where = f" ({host.name})" if host.count > 1 else ""
    head = f"AlgorithmError{where}: {failure[: 2 * room // 5]}".rstrip() + f", exit code: {result.rc}\n"
    # The toolkit repeats what failed; the script's own last words stand above that.
    said = list(itertools.takewhile(lambda line: "Reporting training FAILURE" not in line, said))
    own = [line for line in said if line.strip() and "sagemaker-training-toolkit" not in line]
    return head + "\n".join(own[-joblog.TAIL_LINES :])[-max(1, room - len(head)) :]


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
