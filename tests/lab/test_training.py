"""Training jobs run for real: files in, script, files out, and the truth when it fails."""

import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from jobs import IMAGE, finish

import lab.training
from lab.engine import Engine

SCRIPT = """
import argparse, json, os, pathlib, sys
import helper.words
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--fail", default="")
args, _ = parser.parse_known_args()
data = pathlib.Path(os.environ["SM_CHANNEL_CURATED"], "train", "part-0.txt").read_text()
checkpoints = pathlib.Path(os.environ["CHECKPOINT_DIR"])
before = sorted(path.name for path in checkpoints.iterdir())
for epoch in range(args.epochs):
    print(f"epoch={epoch} train_loss={1 / (epoch + 1):.3f};")
(checkpoints / "last.txt").write_text(str(args.epochs))
if args.fail:
    raise ValueError(args.fail)
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(f"{data} {args.epochs} {helper.words.WORD} {before}")
pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "history.json").write_text("[]")
"""


def source(s3: Any, script: str = SCRIPT) -> str:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as out:
        for path, text in {"jobs/run.py": script, "helper/__init__.py": "", "helper/words.py": "WORD = 'ok'"}.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            out.addfile(entry, io.BytesIO(text.encode()))
    s3.put_object(Bucket="data", Key="code/source.tar.gz", Body=packed.getvalue())
    return "s3://data/code/source.tar.gz"


def training(role_arn: str, directory: str, name: str = "r1-train", **more: Any) -> dict[str, Any]:
    hyperparameters = more.pop("hyperparameters", {})
    return {
        "TrainingJobName": name,
        "RoleArn": role_arn,
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "train_loss", "Regex": "train_loss=([0-9.]+);"}],
        },
        "HyperParameters": {
            "sagemaker_program": "jobs/run.py",
            "sagemaker_submit_directory": directory,
            "epochs": "2",
            **hyperparameters,
        },
        "InputDataConfig": [
            {
                "ChannelName": "curated",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": "https://s3.us-east-1.amazonaws.com/data/curated/r1/",
                    }
                },
            }
        ],
        "OutputDataConfig": {"S3OutputPath": "s3://data/runs/r1/train/"},
        "CheckpointConfig": {"S3Uri": "s3://data/runs/r1/checkpoints/", "LocalPath": "/opt/ml/checkpoints"},
        "Environment": {"CHECKPOINT_DIR": "/opt/ml/checkpoints"},
        "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **more,
    }


def content(s3: Any, key: str) -> dict[str, str]:
    body = io.BytesIO(s3.get_object(Bucket="data", Key=key)["Body"].read())
    with tarfile.open(fileobj=body) as packed:
        files = [member for member in packed.getmembers() if member.isfile()]
        return {member.name: packed.extractfile(member).read().decode() for member in files}  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_training_job_runs_awss_toolkit_on_the_channels_and_uploads_the_model(
    aws: Engine, data: Any, role: Callable[..., str]
) -> None:
    data.put_object(Bucket="data", Key="runs/r1/checkpoints/epoch-1.txt", Body=b"1")
    client = aws.client("sagemaker")
    client.create_training_job(**training(role("job", "sagemaker"), source(data)))
    assert client.describe_training_job(TrainingJobName="r1-train")["TrainingJobStatus"] == "InProgress"
    job = finish(client, "r1-train")
    log = (aws.root / "jobs/sagemaker/r1-train/log.txt").read_text()
    assert job["TrainingJobStatus"] == "Completed", log
    assert "sagemaker-training-toolkit" in log
    uri = "s3://data/runs/r1/train/r1-train/output/model.tar.gz"
    assert job["ModelArtifacts"] == {"S3ModelArtifacts": uri}
    assert content(data, "runs/r1/train/r1-train/output/model.tar.gz") == {"model.txt": "seven 2 ok ['epoch-1.txt']"}
    assert content(data, "runs/r1/train/r1-train/output/output.tar.gz") == {"history.json": "[]"}
    assert data.get_object(Bucket="data", Key="runs/r1/checkpoints/last.txt")["Body"].read() == b"2"
    assert [(m["MetricName"], m["Value"]) for m in job["FinalMetricDataList"]] == [("train_loss", 0.5)]
    assert [step["Status"] for step in job["SecondaryStatusTransitions"]] == [
        "Starting", "Downloading", "Training", "Uploading", "Completed"
    ]  # fmt: skip
    listed = client.list_training_jobs(StatusEquals="Completed")["TrainingJobSummaries"]
    assert [item["TrainingJobName"] for item in listed] == ["r1-train"]
    streams = aws.client("logs").describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs")["logStreams"]
    assert streams[0]["logStreamName"].startswith("r1-train/algo-1-")
    with pytest.raises(ClientError, match="must be unique"):
        client.create_training_job(**training("arn:aws:iam::123456789012:role/job", "s3://data/code/source.tar.gz"))


def test_without_the_toolkit_the_lab_runs_the_script_itself_and_says_so(
    aws: Engine, data: Any, role: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab.training, "toolkit_installed", lambda: False)
    client = aws.client("sagemaker")
    client.create_training_job(**training(role("job", "sagemaker"), source(data)))
    job = finish(client, "r1-train")
    log = (aws.root / "jobs/sagemaker/r1-train/log.txt").read_text()
    assert job["TrainingJobStatus"] == "Completed", log
    assert log.startswith("sagemaker-training is not installed: the lab runs the script itself")
    assert content(data, "runs/r1/train/r1-train/output/model.tar.gz") == {"model.txt": "seven 2 ok []"}


@pytest.mark.slow
def test_a_script_that_raises_fails_the_job_with_its_own_last_words(
    aws: Engine, data: Any, role: Callable[..., str]
) -> None:
    client = aws.client("sagemaker")
    client.create_training_job(
        **training(role("job", "sagemaker"), source(data), hyperparameters={"fail": "loss is not a number"})
    )
    job = finish(client, "r1-train")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ") and "exit code: 1" in job["FailureReason"]
    assert job["FailureReason"].endswith("ValueError: loss is not a number")
    keys = [item["Key"] for item in data.list_objects_v2(Bucket="data", Prefix="runs/")["Contents"]]
    assert keys == ["runs/r1/checkpoints/last.txt"]


@pytest.mark.slow
def test_last_words_that_the_command_line_holds_too_are_kept(aws: Engine, data: Any, role: Callable[..., str]) -> None:
    script = "import sys\nprint('no epochs in', file=sys.stderr)\nprint('jobs/run.py', file=sys.stderr)\nsys.exit(1)"
    client = aws.client("sagemaker")
    client.create_training_job(**training(role("job", "sagemaker"), source(data, script)))
    assert finish(client, "r1-train")["FailureReason"].endswith("no epochs in\njobs/run.py")


@pytest.mark.slow
def test_an_import_that_the_runtime_does_not_bring_fails_the_job_by_name(
    aws: Engine, data: Any, role: Callable[..., str]
) -> None:
    client = aws.client("sagemaker")
    client.create_training_job(**training(role("job", "sagemaker"), source(data, "import aws_cdk")))
    reason = finish(client, "r1-train")["FailureReason"]
    assert "the job runtime does not bring 'aws_cdk'; add it to the 'job' extra in pyproject.toml" in reason


@pytest.mark.slow
def test_the_time_limit_stops_the_job_and_keeps_the_model_so_far(
    aws: Engine, data: Any, role: Callable[..., str]
) -> None:
    script = "import os, time\nopen(os.environ['SM_MODEL_DIR'] + '/half.txt', 'w').write('1')\ntime.sleep(60)"
    request = training(role("job", "sagemaker"), source(data, script))
    request["StoppingCondition"] = {"MaxRuntimeInSeconds": 15}  # the script's first line comes long before
    client = aws.client("sagemaker")
    client.create_training_job(**request)
    job = finish(client, "r1-train")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert content(data, "runs/r1/train/r1-train/output/model.tar.gz") == {"half.txt": "1"}


def test_a_channel_without_objects_fails_the_job(aws: Engine, data: Any, role: Callable[..., str]) -> None:
    request = training(role("job", "sagemaker"), "s3://data/none.tar.gz")
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] = "s3://data/nothing/here/"
    client = aws.client("sagemaker")
    client.create_training_job(**request)
    reason = finish(client, "r1-train")["FailureReason"]
    assert reason.startswith("ClientError: No S3 objects found under S3 URL 's3://data/nothing/here/'")


CALLS = """
import os, pathlib, socket
said = []
engine = os.environ.get("LAB_ISOLATED", os.environ.get("AWS_ENDPOINT_URL")).rpartition(":")[2]
for address in (("127.0.0.1", int(engine)), ("10.83.0.1", 443)):
    try:
        socket.create_connection(address, timeout=0.2).close()
        said.append("reached")
    except PermissionError as error:
        said.append(str(error).partition(":")[0])
    except OSError:
        said.append("tried")
peer = socket.create_server(("127.0.0.1", 0))
socket.create_connection(peer.getsockname()).close()
said.append("a peer answers")
said.append(os.environ.get("AWS_ACCESS_KEY_ID", "no credentials"))
pathlib.Path(os.environ["SM_MODEL_DIR"], "said.txt").write_text("; ".join(said))
"""


@pytest.mark.slow
def test_an_isolated_job_gets_its_code_by_a_channel_and_may_call_no_one(
    aws: Engine, data: Any, role: Callable[..., str]
) -> None:
    packed = source(data, CALLS)
    request = training(role("job", "sagemaker"), "/opt/ml/input/data/code/source.tar.gz", EnableNetworkIsolation=True)
    request["InputDataConfig"].append(
        {"ChannelName": "code", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": packed}}}
    )
    client = aws.client("sagemaker")
    client.create_training_job(**request)
    job = finish(client, "r1-train")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    said = content(data, "runs/r1/train/r1-train/output/model.tar.gz")["said.txt"].split("; ")
    assert said == ["EnableNetworkIsolation", "EnableNetworkIsolation", "a peer answers", "no credentials"]


@pytest.mark.slow
def test_a_job_that_is_not_isolated_reaches_the_engine_with_its_role(
    aws: Engine, data: Any, role: Callable[..., str]
) -> None:
    subnet = aws.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    group = aws.client("ec2").describe_security_groups()["SecurityGroups"][0]["GroupId"]
    request = training(role("job", "sagemaker"), source(data, CALLS))
    request["VpcConfig"] = {"Subnets": [subnet], "SecurityGroupIds": [group]}
    client = aws.client("sagemaker")
    client.create_training_job(**request)
    job = finish(client, "r1-train")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    said = content(data, "runs/r1/train/r1-train/output/model.tar.gz")["said.txt"].split("; ")
    assert said[0] == "reached" and said[-1] != "no credentials"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"ResourceConfig": {"InstanceCount": 9, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}},
            "ResourceConfig.InstanceCount 9: the desk engine runs 1 to 8 hosts",
        ),
        ({"VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}}, "the subnet subnet-1 does not exist"),
        (
            {
                "AlgorithmSpecification": {
                    "TrainingImage": "1.dkr.ecr.us-east-1.amazonaws.com/mine:1",
                    "TrainingInputMode": "File",
                }
            },
            "cannot run the image",
        ),
        ({"RoleArn": "arn:aws:iam::123456789012:role/nobody"}, "Could not assume role"),
    ],
)
def test_what_the_desk_cannot_run_is_refused_before_it_runs(
    aws: Engine, role: Callable[..., str], change: dict[str, Any], said: str
) -> None:
    request = {**training(role("job", "sagemaker"), "s3://data/code/source.tar.gz"), **change}
    with pytest.raises(ClientError, match=said) as caught:
        aws.client("sagemaker").create_training_job(**request)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert not aws.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]


def test_what_stock_moto_only_pretends_is_refused_by_name(aws: Engine) -> None:
    client = aws.client("sagemaker")
    with pytest.raises(ClientError, match="CreateModelCard is not covered by the desk engine"):
        client.create_model_card(ModelCardName="c", Content="{}", ModelCardStatus="Draft")
    with pytest.raises(ClientError, match="CreatePipeline is not covered"):
        client.create_pipeline(PipelineName="p", ClientRequestToken="t" * 32, RoleArn="arn:aws:iam::1:role/abcdefgh")
