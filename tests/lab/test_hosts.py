"""Several hosts of a training job: names, channels, torchrun between them, and one end for all."""

import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from lab import hosts, sagemaker
from lab.engine import Engine

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/lab-job:t1"
SCRIPT = """
import json, os, pathlib, socket
me, names = os.environ["SM_CURRENT_HOST"], json.loads(os.environ["SM_HOSTS"])
resolved = [socket.gethostbyname(name) for name in names]
channel = pathlib.Path(os.environ["SM_CHANNEL_CURATED"])
seen = {"me": me, "names": names, "resolved": resolved, "files": sorted(path.name for path in channel.iterdir())}
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "seen.json").write_text(json.dumps(seen))
pathlib.Path(os.environ["SM_MODEL_DIR"], "whose.txt").write_text(me)
print("this is", me)
"""
RANKS = """
import os, pathlib, sys
import torch
from torch import distributed
distributed.init_process_group("gloo")
rank, world = distributed.get_rank(), distributed.get_world_size()
total = torch.tensor([float(rank + 1)])
distributed.all_reduce(total)
print(f"rank {rank} of {world}: {total.item():.0f} on {torch.get_num_threads()} threads")
if "--fail" in sys.argv and rank == 1:
    raise ValueError("rank 1 has had enough")
distributed.barrier()
if rank == 0:
    pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(f"{total.item():.0f}")
"""


@pytest.fixture
def aws(desk: Engine, itself: Callable[..., None]) -> Engine:
    itself(SageMakerResponse, SageMakerRuntimeResponse)
    sagemaker.install(desk)
    s3 = desk.client("s3")
    s3.create_bucket(Bucket="data")
    for number in range(5):
        s3.put_object(Bucket="data", Key=f"curated/part-{number}", Body=b"x")
    return desk


@pytest.fixture
def ran(aws: Engine, role: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Runs a script on two hosts to its end; what DescribeTrainingJob says then."""

    def run(script: str, distribution: str = "FullyReplicated", **hyperparameters: str) -> dict[str, Any]:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as out:
            entry = tarfile.TarInfo("run.py")
            entry.size = len(script)
            out.addfile(entry, io.BytesIO(script.encode()))
        aws.client("s3").put_object(Bucket="data", Key="source.tar.gz", Body=packed.getvalue())
        client = aws.client("sagemaker")
        client.create_training_job(
            TrainingJobName="two",
            RoleArn=role("job", "sagemaker"),
            AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            HyperParameters={
                "sagemaker_program": "run.py",
                "sagemaker_submit_directory": "s3://data/source.tar.gz",
                **hyperparameters,
            },
            InputDataConfig=[
                {
                    "ChannelName": "curated",
                    "DataSource": {
                        "S3DataSource": {
                            "S3DataType": "S3Prefix",
                            "S3Uri": "s3://data/curated/",
                            "S3DataDistributionType": distribution,
                        }
                    },
                }
            ],
            OutputDataConfig={"S3OutputPath": "s3://data/out/"},
            ResourceConfig={"InstanceCount": 2, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10},
            StoppingCondition={"MaxRuntimeInSeconds": 120},
        )
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline:
            job: dict[str, Any] = client.describe_training_job(TrainingJobName="two")
            if job["TrainingJobStatus"] != "InProgress":
                return job
            time.sleep(0.1)
        raise AssertionError("the job did not end")

    return run


def content(aws: Engine, name: str) -> dict[str, str]:
    body = io.BytesIO(aws.client("s3").get_object(Bucket="data", Key=f"out/two/output/{name}")["Body"].read())
    with tarfile.open(fileobj=body) as packed:
        files = [member for member in packed.getmembers() if member.isfile()]
        return {member.name: packed.extractfile(member).read().decode() for member in files}  # type: ignore[union-attr]


def log(aws: Engine) -> str:
    return (aws.root / "jobs/sagemaker/two/log.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distribution", "first", "second"),
    [("FullyReplicated", "01234", "01234"), ("ShardedByS3Key", "024", "13")],
)
def test_each_host_has_its_name_resolves_all_names_and_receives_its_channel(
    aws: Engine, ran: Callable[..., dict[str, Any]], distribution: str, first: str, second: str
) -> None:
    job = ran(SCRIPT, distribution)
    assert job["TrainingJobStatus"] == "Completed", log(aws)
    said = {name: json.loads(text) for name, text in content(aws, "output.tar.gz").items()}
    for name, files in (("algo-1", first), ("algo-2", second)):
        assert said[f"{name}/seen.json"] == {
            "me": name,
            "names": ["algo-1", "algo-2"],
            "resolved": ["127.0.0.1", "127.0.0.1"],
            "files": [f"part-{number}" for number in files],
        }
    assert content(aws, "model.tar.gz") == {"whose.txt": "algo-1"}
    assert "algo-2 | this is algo-2" in log(aws)
    streams = aws.client("logs").describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs")["logStreams"]
    assert sorted(stream["logStreamName"].rpartition("-")[0] for stream in streams) == ["two/algo-1", "two/algo-2"]


@pytest.mark.slow
def test_torchrun_makes_a_rank_of_each_host(aws: Engine, ran: Callable[..., dict[str, Any]]) -> None:
    job = ran(RANKS, sagemaker_torch_distributed_enabled="true")
    said = log(aws)
    assert job["TrainingJobStatus"] == "Completed", said
    assert "torchrun --nnodes 2 --nproc_per_node 1" in said
    assert "rank 0 of 2: 3 on" in said
    assert "rank 1 of 2: 3 on" in said
    assert content(aws, "model.tar.gz") == {"model.txt": "3"}


@pytest.mark.slow
def test_a_host_that_fails_fails_the_job_with_its_own_words(aws: Engine, ran: Callable[..., dict[str, Any]]) -> None:
    job = ran(RANKS, sagemaker_torch_distributed_enabled="true", fail="1")
    assert job["TrainingJobStatus"] == "Failed"
    assert "algo-2" in job["FailureReason"] and "rank 1 has had enough" in job["FailureReason"]
    assert len(job["FailureReason"]) <= 1024


@pytest.mark.parametrize(
    ("request_of", "said"),
    [
        ({"ResourceConfig": {"InstanceCount": 2}}, None),
        ({"ResourceConfig": {"InstanceGroups": [{"InstanceCount": 2}]}}, None),
        (
            {"ResourceConfig": {"InstanceGroups": [{"InstanceCount": 1}] * 2}},
            "InstanceGroups: the desk engine runs one",
        ),
        ({"ResourceConfig": {"InstanceCount": 9}}, "InstanceCount 9: the desk engine runs 1 to 8 hosts"),
        (
            {"ResourceConfig": {"InstanceCount": 2}, "HyperParameters": {"sagemaker_mpi_enabled": "true"}},
            "sagemaker_mpi_enabled is not covered",
        ),
    ],
)
def test_what_hosts_cannot_do_here_is_refused_by_name(request_of: dict[str, Any], said: str | None) -> None:
    found = hosts.refusal(request_of)
    assert found is None if said is None else said in str(found)


def test_a_hosts_log_and_folder_lie_below_the_jobs(tmp_path: Path) -> None:
    first, second = hosts.hosts({"ResourceConfig": {"InstanceCount": 2}}, tmp_path)
    assert (first.log, second.log) == (tmp_path / "log.txt", tmp_path / "algo-2" / "log.txt")
    assert first.ml == tmp_path / "ml" and second.ml.is_relative_to(tmp_path / "algo-2")
