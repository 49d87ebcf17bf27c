"""The hosts of one training job: a process each on this machine, with an /opt/ml and names of its own.

Covers: `resourceconfig.json` with hosts algo-1 to algo-N, whose names every Python process of the job resolves to
loopback; channels FullyReplicated (each host all objects) and ShardedByS3Key (each host its share of them); torchrun as
AWS's PyTorch container starts it (guard/pytorch_container.py); a share of the cores for each; the end of all when one
fails.
Does not cover: a network between them, so no bandwidth and no loss; names that C code resolves; GPUs. torch's own
store, by which ranks find each other, listens on every interface of this machine while such a job runs.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import child, jobfiles, serving
from lab.jobfiles import Files, Place

# The hyperparameter by which the PyTorch container starts a script through torchrun on every host.
TORCHRUN = "sagemaker_torch_distributed_enabled"
# Other ways to start a script on several hosts: each wants MPI, or a library of AWS that is on no package index.
REFUSED = (
    "sagemaker_mpi_enabled", "sagemaker_distributed_dataparallel_enabled", "sagemaker_parameter_server_enabled",
    "sagemaker_pytorch_ddp_enabled", "sagemaker_pytorch_xla_multi_worker_enabled",
    "sagemaker_multi_worker_mirrored_strategy_enabled",
)  # fmt: skip
MOST = 8
# When one host has failed, the others see it and say so; then they are stopped.
LAST_WORDS_SECONDS = 15.0
GROUP = "homogeneousCluster"


def refusal(request: Mapping[str, Any]) -> str | None:
    """Why the desk cannot run this request's hosts, naming the parameter; None when it can."""
    resources = request["ResourceConfig"]
    if len(resources.get("InstanceGroups") or []) > 1:
        return "ResourceConfig.InstanceGroups: the desk engine runs one group"
    if not 1 <= count(request) <= MOST:
        return f"ResourceConfig.InstanceCount {count(request)}: the desk engine runs 1 to {MOST} hosts"
    for name in REFUSED:
        if told(request, name):
            return f"HyperParameters {name} is not covered by the desk engine; {TORCHRUN} is"
    return None


def count(request: Mapping[str, Any]) -> int:
    """How many hosts a training job asks for."""
    resources = request["ResourceConfig"]
    groups = resources.get("InstanceGroups") or [resources]
    return int(groups[0].get("InstanceCount", 1))


def told(request: Mapping[str, Any], name: str) -> bool:
    """Whether a hyperparameter of the container is switched on."""
    return str((request.get("HyperParameters") or {}).get(name, "false")).strip('"').lower() == "true"


@dataclass(frozen=True)
class Host:
    """Host number `place` of `count`; its /opt/ml is `ml`."""

    place: int
    count: int
    folder: Path

    @property
    def name(self) -> str:
        return f"algo-{self.place + 1}"

    @property
    def ml(self) -> Path:
        return self.folder / "ml" if self.place == 0 else self.folder / self.name / "ml"

    @property
    def log(self) -> Path:
        """The first one's is the job's."""
        return self.folder / "log.txt" if self.place == 0 else self.folder / self.name / "log.txt"

    def prepare(self, request: Mapping[str, Any], files: Files) -> None:
        """Lays out /opt/ml: folders, channels, and what the container is told."""
        for name in ("model", "input/config", "input/data", "output/data", "code", "checkpoints"):
            (self.ml / name).mkdir(parents=True, exist_ok=True)
        channels = {}
        for channel in request.get("InputDataConfig") or []:
            name, source = channel["ChannelName"], channel["DataSource"]["S3DataSource"]
            distribution = source.get("S3DataDistributionType", "FullyReplicated")
            target = self.ml / "input" / "data" / name
            share = (self.place, self.count) if distribution == "ShardedByS3Key" else (0, 1)
            files.download(Place.parse(source["S3Uri"]), target, share=share)
            if name == "sm_drivers":  # what the SageMaker SDK v3 sends along: scripts with /opt/ml written into them
                jobfiles.rewrite_scripts(target, self.ml)
            channels[name] = {
                "TrainingInputMode": "File",
                "S3DistributionType": distribution,
                "RecordWrapperType": "None",
            }
        for name, content in (
            ("hyperparameters", jobfiles.rewritten_environment(request.get("HyperParameters") or {}, self.ml)),
            ("inputdataconfig", channels),
            ("resourceconfig", self._resources(request["ResourceConfig"].get("InstanceType", "local"))),
        ):
            (self.ml / "input" / "config" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")

    def _resources(self, kind: str) -> dict[str, Any]:
        names = [Host(place, self.count, self.folder).name for place in range(self.count)]
        return {
            "current_host": self.name,
            "current_instance_type": kind,
            "current_group_name": GROUP,
            "hosts": names,
            "instance_groups": [{"instance_group_name": GROUP, "instance_type": kind, "hosts": names}],
            "network_interface_name": interface(),
        }

    def environment(self, port: int) -> dict[str, str]:
        """What its processes need so that they find each other on one machine, and leave each other cores."""
        names = self._resources("")["hosts"]
        found = {"LAB_HOSTS": json.dumps(names)}
        if self.count > 1:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            found |= {
                "OMP_NUM_THREADS": str(max(1, cores // self.count)),
                "GLOO_SOCKET_IFNAME": interface(),
                "LAB_MASTER_PORT": str(port),
            }
        return found


def hosts(request: Mapping[str, Any], folder: Path) -> list[Host]:
    """The hosts that a request asks for, in the job's folder."""
    number = count(request)
    return [Host(place, number, folder) for place in range(number)]


def interface() -> str:
    """The loopback's name."""
    return "lo" if sys.platform == "linux" else "lo0"


def free_port() -> int:
    """A port by which torchrun's processes meet; in a container it is always 7777, which only one job could have."""
    return serving.free_port()


class Group:
    """The running hosts of one job."""

    def __init__(self, running: Sequence[child.Running]) -> None:
        self.running = list(running)

    def wait(self) -> list[child.Result]:
        """Waits for all; when one has failed the others get a while, then SIGTERM. Results in the hosts' order."""
        limit = None
        while not all(each.poll() for each in self.running):
            next(each for each in self.running if not each.poll()).wait(0.2)
            if limit is None and any(result.rc for result in map(child.Running.poll, self.running) if result):
                limit = time.monotonic() + LAST_WORDS_SECONDS
            if limit is not None and time.monotonic() > limit:
                self.stop()
        return [result for result in map(child.Running.poll, self.running) if result]

    def stop(self) -> None:
        """SIGTERM to all at once; returns when all are gone."""
        stopping = [threading.Thread(target=each.stop, daemon=True) for each in self.running if not each.poll()]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
