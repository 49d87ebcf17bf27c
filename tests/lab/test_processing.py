"""Processing jobs run for real: files in, code, files out, and the truth when it fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from jobs import IMAGE, finish

from lab import inventory, inventory_jobs
from lab.cloud import Cloud
from lab.engine import Engine
from lab.inventory import Scope


def processing(role_arn: str, code: str, **more: Any) -> dict[str, Any]:
    return {
        "ProcessingJobName": "r1-evaluate",
        "RoleArn": role_arn,
        "AppSpecification": {
            "ImageUri": IMAGE,
            "ContainerEntrypoint": ["python", "-m", "jobs.evaluate"],
            "ContainerArguments": ["--out", "/opt/ml/processing/report"],
        },
        "Environment": {"PYTHONPATH": "/opt/ml/processing/code/code.zip"},
        "ProcessingInputs": [
            {
                "InputName": name,
                "S3Input": {
                    "S3Uri": uri,
                    "LocalPath": f"/opt/ml/processing/{name}",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                },
            }
            for name, uri in (("code", code), ("curated", "s3://data/curated/r1/"))
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "report",
                    "S3Output": {
                        "S3Uri": "s3://data/runs/r1/evaluate/",
                        "LocalPath": "/opt/ml/processing/report",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **more,
    }


EVALUATE = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[2])
text = (out.parent / "curated" / "train" / "part-0.txt").read_text()
(out / "report.json").write_text(json.dumps({"text": text}))
if text == "bad":
    (out.parents[1] / "output" / "message").write_text("the data is bad")
    sys.exit("cannot evaluate: bad data")
"""


def code(s3: Any, tmp_path: Path) -> str:
    import zipfile

    with zipfile.ZipFile(tmp_path / "code.zip", "w") as out:
        out.writestr("jobs/__init__.py", "")
        out.writestr("jobs/evaluate.py", EVALUATE)
    s3.upload_file(str(tmp_path / "code.zip"), "data", "assets/code.zip")
    return "s3://data/assets/code.zip"


def test_a_processing_job_reads_inputs_and_uploads_outputs(
    aws: Engine, data: Any, role: Callable[..., str], tmp_path: Path
) -> None:
    client = aws.client("sagemaker")
    client.create_processing_job(**processing(role("job", "sagemaker"), code(data, tmp_path)))
    job = finish(client, "r1-evaluate", "processing")
    assert job["ProcessingJobStatus"] == "Completed", job
    report = data.get_object(Bucket="data", Key="runs/r1/evaluate/report.json")["Body"].read()
    assert json.loads(report) == {"text": "seven"}


def test_an_ended_job_with_a_labs_tag_is_found_and_goes_with_its_log(
    aws: Engine, data: Any, role: Callable[..., str], tmp_path: Path
) -> None:
    client, cloud = aws.client("sagemaker"), Cloud(aws.region, aws.account, "me", aws)
    tags = [{"Key": "lab", "Value": "t-lab"}]
    client.create_processing_job(**processing(role("job", "sagemaker"), code(data, tmp_path)), Tags=tags)
    finish(client, "r1-evaluate", "processing")
    found = inventory.survey(cloud, Scope("t-lab"), inventory_jobs.KINDS)
    assert found.not_asked == {}
    names = [str(one) for one in found.found]
    assert names[-1] == "job processing-job r1-evaluate"
    assert names[0].startswith("log stream of a job /aws/sagemaker/ProcessingJobs: r1-evaluate/")
    assert inventory.survey(cloud, Scope("t-other"), inventory_jobs.KINDS).found == []
    by_name = inventory.survey(cloud, Scope("r1"), inventory_jobs.KINDS).found
    assert [str(one) for one in by_name] == names
    for kind, one in zip(inventory_jobs.KINDS, found.found, strict=True):
        assert kind.remove is not None
        kind.remove(cloud, one)
    assert inventory.survey(cloud, Scope("t-lab"), inventory_jobs.KINDS).found == []
    with pytest.raises(ClientError, match="ResourceNotFound"):
        client.delete_processing_job(ProcessingJobName="r1-evaluate")


def test_a_processing_job_that_fails_uploads_nothing_and_says_why(
    aws: Engine, data: Any, role: Callable[..., str], tmp_path: Path
) -> None:
    data.put_object(Bucket="data", Key="curated/r1/train/part-0.txt", Body=b"bad")
    client = aws.client("sagemaker")
    client.create_processing_job(**processing(role("job", "sagemaker"), code(data, tmp_path)))
    job = finish(client, "r1-evaluate", "processing")
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["ExitMessage"] == "the data is bad"
    assert job["FailureReason"].endswith("cannot evaluate: bad data")
    assert "Contents" not in data.list_objects_v2(Bucket="data", Prefix="runs/")
