"""A tuning job samples as it was told, runs real trainings, and knows which was best."""

import io
import tarfile
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from lab import sagemaker, tuning
from lab.engine import Engine

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/lab-job:t1"
# The closer to 0.3, the better; above 0.8 it falls over.
SCRIPT = """
import argparse, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float)
parser.add_argument("--depth", type=int)
args, _ = parser.parse_known_args()
if args.rate > 0.8:
    raise ValueError("too fast")
print(f"best_val_loss={abs(args.rate - 0.3):.6f};")
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(str(args.rate))
"""


@pytest.fixture
def aws(desk: Engine, itself: Callable[..., None]) -> Engine:
    itself(SageMakerResponse, SageMakerRuntimeResponse)
    sagemaker.install(desk)
    s3 = desk.client("s3")
    s3.create_bucket(Bucket="data")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as out:
        entry = tarfile.TarInfo("run.py")
        entry.size = len(SCRIPT)
        out.addfile(entry, io.BytesIO(SCRIPT.encode()))
    s3.put_object(Bucket="data", Key="code/source.tar.gz", Body=packed.getvalue())
    return desk


def config(trials: int, **changes: Any) -> dict[str, Any]:
    return {
        "Strategy": "Random",
        "RandomSeed": 7,
        "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "best_val_loss"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": trials, "MaxParallelTrainingJobs": 1},
        "ParameterRanges": {
            "ContinuousParameterRanges": [{"Name": "rate", "MinValue": "0.1", "MaxValue": "0.7"}],
            "IntegerParameterRanges": [{"Name": "depth", "MinValue": "2", "MaxValue": "5"}],
        },
        **changes,
    }


def request(role: str, name: str = "tune-1", trials: int = 3, **changes: Any) -> dict[str, Any]:
    definition = {
        "StaticHyperParameters": {
            "sagemaker_program": "run.py",
            "sagemaker_submit_directory": "s3://data/code/source.tar.gz",
        },
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "best_val_loss", "Regex": "best_val_loss=([0-9.]+)"}],
        },
        "RoleArn": role,
        "OutputDataConfig": {"S3OutputPath": "s3://data/runs/r1/train"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    told = config(trials, **changes)
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": told,
        "TrainingJobDefinition": definition,
    }


def ended(client: Any, name: str = "tune-1") -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if found["HyperParameterTuningJobStatus"] not in ("InProgress", "Stopping"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{name} did not end")


@pytest.mark.slow
def test_each_trial_is_a_real_training_and_the_best_one_is_named(aws: Engine, role: Any) -> None:
    client = aws.client("sagemaker")
    client.create_hyper_parameter_tuning_job(**request(role("job", "sagemaker")))
    found = ended(client)
    assert found["HyperParameterTuningJobStatus"] == "Completed"
    assert found["TrainingJobStatusCounters"]["Completed"] == 3
    trials = client.list_training_jobs_for_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-1")
    losses = {
        row["TrainingJobName"]: row["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
        for row in trials["TrainingJobSummaries"]
    }
    best = found["BestTrainingJob"]
    assert best["TrainingJobName"] == min(losses, key=losses.__getitem__)
    rate = float(best["TunedHyperParameters"]["rate"])
    assert min(losses.values()) == pytest.approx(abs(rate - 0.3), abs=1e-5)
    key = f"runs/r1/train/{best['TrainingJobName']}/output/model.tar.gz"
    assert aws.client("s3").head_object(Bucket="data", Key=key)["ContentLength"] > 0


@pytest.mark.slow
def test_a_search_without_a_good_trial_fails_and_says_why(aws: Engine, role: Any) -> None:
    ranges = {"ContinuousParameterRanges": [{"Name": "rate", "MinValue": "0.9", "MaxValue": "0.95"}]}
    client = aws.client("sagemaker")
    client.create_hyper_parameter_tuning_job(**request(role("job", "sagemaker"), trials=1, ParameterRanges=ranges))
    found = ended(client)
    assert found["HyperParameterTuningJobStatus"] == "Failed"
    assert "too fast" in found["FailureReason"]
    assert "BestTrainingJob" not in found


@pytest.mark.slow
def test_an_ended_search_is_listed_by_a_part_of_its_name_and_can_be_deleted(aws: Engine, role: Any) -> None:
    client = aws.client("sagemaker")
    client.create_hyper_parameter_tuning_job(**request(role("job", "sagemaker"), trials=1))
    with pytest.raises(ClientError, match="ResourceInUse"):
        client.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-1")
    ended(client)
    assert client.list_hyper_parameter_tuning_jobs(NameContains="une-9")["HyperParameterTuningJobSummaries"] == []
    [row] = client.list_hyper_parameter_tuning_jobs(NameContains="une-1")["HyperParameterTuningJobSummaries"]
    assert (row["HyperParameterTuningJobName"], row["Strategy"]) == ("tune-1", "Random")
    client.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune-1")
    assert client.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Strategy": "Bayesian"}, "Strategy Bayesian is not covered"),
        ({"TrainingJobEarlyStoppingType": "Auto"}, "early stopping of a tuning job is not covered"),
    ],
)
def test_what_would_not_be_done_is_refused(aws: Engine, role: Any, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientError, match=said):
        aws.client("sagemaker").create_hyper_parameter_tuning_job(**request(role("job", "sagemaker"), **change))


@given(st.integers(1, 50), st.integers(0, 1000))
def test_samples_lie_in_their_ranges_and_repeat_with_the_seed(trial: int, seed: int) -> None:
    ranges = {
        "ContinuousParameterRanges": [
            {"Name": "rate", "MinValue": "0.0001", "MaxValue": "0.1", "ScalingType": "Logarithmic"}
        ],
        "IntegerParameterRanges": [{"Name": "depth", "MinValue": "2", "MaxValue": "5"}],
        "CategoricalParameterRanges": [{"Name": "kind", "Values": ["a", "b"]}],
    }
    told = config(1, RandomSeed=seed, ParameterRanges=ranges)
    found = tuning.drawn(told, trial)
    assert found == tuning.drawn(told, trial)
    assert 0.0001 <= float(found["rate"]) <= 0.1
    assert found["depth"] in {"2", "3", "4", "5"}
    assert found["kind"] in {"a", "b"}
