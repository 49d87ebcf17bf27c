"""Glue jobs run on real Spark, and `s3://` behaves for its readers and writers as in AWS."""

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.glue.models import FakeJob
from moto.glue.responses import GlueResponse

from lab import glue
from lab.engine import Engine

SCRIPT = """
import argparse, sys
import boto3
from pyspark.sql import SparkSession, functions as F
from words.count import length

parser = argparse.ArgumentParser()
for name in ("JOB_NAME", "bucket", "mode"):
    parser.add_argument(f"--{name}", required=True)
args, _ = parser.parse_known_args()
root = f"s3://{args.bucket}"
spark = SparkSession.builder.getOrCreate()
reader = spark.read.format("binaryFile").option("pathGlobFilter", "*.txt").option("recursiveFileLookup", "true")
raw = reader.load(f"{root}/raw/")
rows = raw.rdd.map(lambda row: (row.path, bytes(row.content).decode(), length(row.content)))
frame = spark.createDataFrame(rows.collect(), "path string, text string, size int")
if args.mode == "fail":
    raise ValueError("data check: two labels for one image")
if args.mode == "half":
    bad = F.udf(lambda text: 1 // (text != "two") and text)
    frame = frame.withColumn("text", bad("text"))
if args.mode == "session":
    import torch
frame.coalesce(1).write.mode("overwrite").partitionBy("size").parquet(f"{root}/curated/table")
back = spark.read.parquet(f"{root}/curated/table")
print("SCRATCH", spark._jvm.java.lang.System.getProperty("java.io.tmpdir"))
seen = str(sorted(row.path for row in back.collect()))
boto3.client("s3").put_object(Bucket=args.bucket, Key="curated/seen.json", Body=seen)
try:
    frame.write.csv(f"{root}/curated/table")
except Exception as error:
    print("REFUSED", type(error).__name__, str(error)[:21])
try:
    spark.read.json(f"{root}/nothing")
except Exception as error:
    print("REFUSED", type(error).__name__, str(error)[:16])
"""


@pytest.fixture
def aws(desk: Engine, itself: Callable[..., None]) -> Engine:
    itself(GlueResponse, FakeJob)
    glue.install(desk)
    return desk


@pytest.fixture
def job(aws: Engine, role: Callable[..., str], tmp_path: Path) -> Callable[..., None]:
    """Creates the job `etl` with its script, library and two raw objects in bucket `data`."""

    def create(script: str = SCRIPT, **more: Any) -> None:
        s3 = aws.client("s3")
        s3.create_bucket(Bucket="data")
        with zipfile.ZipFile(tmp_path / "lib.zip", "w") as out:
            out.writestr("words/__init__.py", "")
            out.writestr("words/count.py", "def length(data):\n    return len(data)\n")
        s3.upload_file(str(tmp_path / "lib.zip"), "data", "assets/lib.zip")
        s3.put_object(Bucket="data", Key="assets/etl.py", Body=script.encode())
        s3.put_object(Bucket="data", Key="raw/a/one.txt", Body=b"one")
        s3.put_object(Bucket="data", Key="raw/b/two.txt", Body=b"two")
        what: dict[str, Any] = {
            "Name": "etl",
            "Role": role("etl-role", "glue"),
            "Command": {"Name": "glueetl", "PythonVersion": "3", "ScriptLocation": "s3://data/assets/etl.py"},
            "GlueVersion": "5.1",
            "Timeout": 5,
            "DefaultArguments": {"--extra-py-files": "s3://data/assets/lib.zip", "--bucket": "data", "--mode": "whole"},
            **more,
        }
        aws.client("glue").create_job(**{key: value for key, value in what.items() if value is not None})

    return create


def finish(aws: Engine, **arguments: str) -> dict[str, Any]:
    client = aws.client("glue")
    given = {f"--{name}": value for name, value in arguments.items()}
    run_id = client.start_job_run(JobName="etl", Arguments=given)["JobRunId"]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        run: dict[str, Any] = client.get_job_run(JobName="etl", RunId=run_id)["JobRun"]
        if run["JobRunState"] not in ("STARTING", "RUNNING"):
            return run
        time.sleep(0.1)
    raise AssertionError("the job did not end")


def keys(aws: Engine, prefix: str) -> list[str]:
    found = aws.client("s3").list_objects_v2(Bucket="data", Prefix=prefix)
    return [item["Key"] for item in found.get("Contents", [])]


@pytest.mark.slow
def test_a_job_reads_and_writes_s3_through_spark(aws: Engine, job: Callable[..., None]) -> None:
    job()
    aws.client("s3").put_object(Bucket="data", Key="curated/table/part-old.parquet", Body=b"old")
    run = finish(aws)
    (folder,) = (aws.root / "jobs/glue").glob("etl-*")
    log = (folder / "log.txt").read_text()
    assert run["JobRunState"] == "SUCCEEDED", log
    assert f"SCRATCH {folder / 'tmp'}\n" in log, "Java's temporary files would pile up outside of the job's folder"
    assert "Apache Spark 3.5" in log and "Spark application local-" in log
    assert "REFUSED AnalysisException [PATH_ALREADY_EXISTS]" in log
    assert "REFUSED AnalysisException [PATH_NOT_FOUND]" in log
    table = keys(aws, "curated/table/")
    assert table[0] == "curated/table/_SUCCESS" and len(table) == 2
    assert table[1].startswith("curated/table/size=3/part-") and table[1].endswith(".parquet")
    seen = aws.client("s3").get_object(Bucket="data", Key="curated/seen.json")["Body"].read().decode()
    assert json.loads(seen.replace("'", '"')) == ["s3://data/raw/a/one.txt", "s3://data/raw/b/two.txt"]
    streams = aws.client("logs").describe_log_streams(logGroupName="/aws-glue/jobs/output")["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == [run["Id"]]


@pytest.mark.slow
def test_a_job_that_fails_while_it_writes_leaves_nothing_that_looks_whole(
    aws: Engine, job: Callable[..., None]
) -> None:
    job()
    run = finish(aws, mode="half")
    assert run["JobRunState"] == "FAILED" and "ZeroDivisionError" in run["ErrorMessage"]
    assert keys(aws, "curated/") == []


@pytest.mark.slow
def test_a_script_that_raises_fails_the_run_with_its_last_words(aws: Engine, job: Callable[..., None]) -> None:
    job()
    run = finish(aws, mode="fail")
    assert run["JobRunState"] == "FAILED"
    assert run["ErrorMessage"].endswith("ValueError: data check: two labels for one image")


@pytest.mark.slow
def test_an_import_that_glue_does_not_bring_fails_the_run_by_name(aws: Engine, job: Callable[..., None]) -> None:
    job()
    run = finish(aws, mode="session")
    assert "the glue runtime does not bring 'torch'" in run["ErrorMessage"]


def test_a_script_that_is_not_there_fails_the_run(aws: Engine, job: Callable[..., None]) -> None:
    job(Command={"Name": "glueetl", "ScriptLocation": "s3://data/assets/none.py"})
    assert "s3://data/assets/none.py cannot be read: The specified key does not exist" in finish(aws)["ErrorMessage"]


def test_the_time_limit_and_a_second_run_are_enforced(aws: Engine, job: Callable[..., None]) -> None:
    job("import time; time.sleep(60)")
    client = aws.client("glue")
    run_id = client.start_job_run(JobName="etl")["JobRunId"]
    with pytest.raises(ClientError) as caught:
        client.start_job_run(JobName="etl")
    assert caught.value.response["Error"]["Code"] == "ConcurrentRunsExceededException"
    assert client.batch_stop_job_run(JobName="etl", JobRunIds=[run_id])["SuccessfulSubmissions"]
    deadline = time.monotonic() + 20
    while client.get_job_run(JobName="etl", RunId=run_id)["JobRun"]["JobRunState"] != "STOPPED":
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"GlueVersion": "4.0"}, "GlueVersion 4.0 is not covered"),
        ({"GlueVersion": None}, "unset, which is 6.0 in AWS"),
        ({"MaxRetries": 2}, "MaxRetries is not covered"),
        ({"DefaultArguments": {"--additional-python-modules": "pandas==1.0.0"}}, "pandas==1.0.0 is wanted, "),
        ({"DefaultArguments": {"--extra-jars": "s3://data/x.jar"}}, "--extra-jars is not covered"),
        ({"Role": "arn:aws:iam::123456789012:role/nobody"}, "Could not assume role"),
    ],
)
def test_what_the_desk_cannot_run_is_refused_before_it_runs(
    aws: Engine, job: Callable[..., None], change: dict[str, Any], said: str
) -> None:
    job(**change)
    with pytest.raises(ClientError, match=said):
        aws.client("glue").start_job_run(JobName="etl")


def test_what_would_run_nothing_is_refused_by_name(aws: Engine) -> None:
    with pytest.raises(ClientError, match="StartCrawler is not covered by the desk engine"):
        aws.client("glue").start_crawler(Name="c")
