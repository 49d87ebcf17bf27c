"""Endpoints are real processes: they start, answer, change over without a gap, fail honestly and end."""

import base64
import io
import json
import re
import tarfile
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError
from moto.sagemaker.models import FakeEndpointConfig
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from lab import sagemaker
from lab.engine import Engine

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/lab-serve:t1"
DOCKERFILE = """FROM python
ENV GREETING=hello WORDS="a b"
WORKDIR /opt/program
ENTRYPOINT ["python", "-m", "program.serve"]
"""
SERVE = """
import http.server, os, pathlib, signal, sys
assert sys.argv[1:] == ["serve"], sys.argv
word = pathlib.Path(os.environ["SM_MODEL_DIR"], "word.txt").read_text()
if word == "broken":
    sys.exit("the package must not serve: digest")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, b"")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"bad":
            return self.answer(400, b'{"error": "no image"}')
        said = f"{os.environ['GREETING']} {word} {self.headers['Content-Type']} {self.headers['Accept']} {len(body)}"
        self.answer(200, said.encode())
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", f"model_version={word}")
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer((os.environ["BIND_HOST"], int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def aws(desk: Engine, itself: Callable[..., None], role: Callable[..., str]) -> Engine:
    """SageMaker with a built serve image, a role, and a model per word in bucket `data`."""
    itself(SageMakerResponse, SageMakerRuntimeResponse, FakeEndpointConfig)
    sagemaker.install(desk)
    role("serve", "sagemaker")
    built = desk.root / "images" / "lab-serve" / "t1"
    (built / "program").mkdir(parents=True)
    (built / "Dockerfile").write_text(DOCKERFILE)
    (built / "program" / "__init__.py").touch()
    (built / "program" / "serve.py").write_text(SERVE)
    desk.client("s3").create_bucket(Bucket="data")
    return desk


def model(aws: Engine, word: str, instance: dict[str, Any] | None = None, **network: Any) -> str:
    """A model and a config, both called `word`; `network` is the model's part on it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as out:
        entry = tarfile.TarInfo("word.txt")
        entry.size = len(word)
        out.addfile(entry, io.BytesIO(word.encode()))
    aws.client("s3").put_object(Bucket="data", Key=f"{word}/model.tar.gz", Body=packed.getvalue())
    client = aws.client("sagemaker")
    client.create_model(
        ModelName=word,
        ExecutionRoleArn="arn:aws:iam::123456789012:role/serve",
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": f"s3://data/{word}/model.tar.gz"},
        **network,
    )
    variant = {"VariantName": "main", "ModelName": word}
    variant |= instance or {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 2}}
    client.create_endpoint_config(EndpointConfigName=word, ProductionVariants=[variant])
    return word


def settled(aws: Engine, name: str = "e") -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found: dict[str, Any] = aws.client("sagemaker").describe_endpoint(EndpointName=name)
        if found["EndpointStatus"] not in ("Creating", "Updating"):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def ask(aws: Engine, body: bytes = b"\x89PNG\xff") -> tuple[str, dict[str, Any]]:
    answer = aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="e", ContentType="image/png", Accept="text/plain", Body=body
    )
    return answer["Body"].read().decode(), answer


def processes() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "program.serve" in p.cmdline()]


def test_an_endpoint_serves_updates_without_a_gap_and_ends(aws: Engine) -> None:
    client = aws.client("sagemaker")
    client.create_endpoint(EndpointName="e", EndpointConfigName=model(aws, "one"))
    assert client.describe_endpoint(EndpointName="e")["EndpointStatus"] == "Creating"
    assert settled(aws)["EndpointStatus"] == "InService"
    said, answer = ask(aws)
    assert said == "hello one image/png text/plain 5"
    assert (answer["CustomAttributes"], answer["InvokedProductionVariant"]) == ("model_version=one", "main")

    config = model(aws, "two", {"InstanceType": "ml.g6.xlarge", "InitialInstanceCount": 1})
    client.update_endpoint(EndpointName="e", EndpointConfigName=config)
    words = set()
    while client.describe_endpoint(EndpointName="e")["EndpointStatus"] == "Updating":
        words.add(ask(aws)[0].split()[1])
    assert words <= {"one", "two"}
    assert ask(aws)[0].startswith("hello two")
    assert settled(aws)["EndpointConfigName"] == "two"
    client.delete_endpoint(EndpointName="e")
    assert not processes()
    with pytest.raises(ClientError, match="Could not find endpoint"):
        client.describe_endpoint(EndpointName="e")
    rows = [json.loads(line) for line in (aws.root / "ledger.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["rc"]) for row in rows] == [("endpoint", 0), ("endpoint", 0)]


def test_a_failed_update_leaves_the_old_model_in_service(aws: Engine) -> None:
    client = aws.client("sagemaker")
    client.create_endpoint(EndpointName="e", EndpointConfigName=model(aws, "one"))
    settled(aws)
    client.update_endpoint(EndpointName="e", EndpointConfigName=model(aws, "broken"))
    found = settled(aws)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "one")
    assert "the package must not serve: digest" in found["FailureReason"]
    assert ask(aws)[0].startswith("hello one")


def test_an_endpoint_that_does_not_start_fails_with_its_last_words(aws: Engine) -> None:
    aws.client("sagemaker").create_endpoint(EndpointName="e", EndpointConfigName=model(aws, "broken"))
    found = settled(aws)
    assert found["EndpointStatus"] == "Failed"
    assert found["FailureReason"].endswith("the package must not serve: digest")


def test_an_error_of_the_model_reaches_the_caller_with_its_status(aws: Engine) -> None:
    aws.client("sagemaker").create_endpoint(EndpointName="e", EndpointConfigName=model(aws, "one"))
    settled(aws)
    with pytest.raises(ClientError) as caught:
        ask(aws, b"bad")
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("ModelError", 424)
    assert (answer["OriginalStatusCode"], answer["OriginalMessage"]) == (400, '{"error": "no image"}')
    with pytest.raises(ClientError, match="Endpoint other of account 123456789012 not found"):
        aws.client("sagemaker-runtime").invoke_endpoint(EndpointName="other", Body=b"x")


def test_what_is_asked_and_answered_is_captured_as_lines_in_s3(aws: Engine) -> None:
    client, name = aws.client("sagemaker"), model(aws, "one")
    capture = {
        "EnableCapture": True, "InitialSamplingPercentage": 100, "DestinationS3Uri": "s3://data/capture",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/plain"]},
    }  # fmt: skip
    variant = {"VariantName": "live", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    client.create_endpoint_config(
        EndpointConfigName="capturing", ProductionVariants=[variant], DataCaptureConfig=capture
    )
    client.create_endpoint(EndpointName="e", EndpointConfigName="capturing")
    assert settled(aws)["DataCaptureConfig"]["CurrentSamplingPercentage"] == 100
    said, _ = ask(aws, b"\x89PNG\xff")
    with pytest.raises(ClientError):
        ask(aws, b"bad")
    listed = aws.client("s3").list_objects_v2(Bucket="data", Prefix="capture/")["Contents"]
    (key,) = [each["Key"] for each in listed]  # what the model refused is not captured
    assert re.fullmatch(r"capture/e/live/\d{4}/\d\d/\d\d/\d\d/[\w-]+\.jsonl", key)
    line = json.loads(aws.client("s3").get_object(Bucket="data", Key=key)["Body"].read())
    assert line["captureData"] == {
        "endpointInput": {
            "observedContentType": "image/png", "mode": "INPUT", "encoding": "BASE64",
            "data": base64.b64encode(b"\x89PNG\xff").decode(),
        },
        "endpointOutput": {
            "observedContentType": "text/plain", "mode": "OUTPUT", "encoding": "CSV", "data": said,
        },
    }  # fmt: skip
    assert line["eventMetadata"]["customAttributes"] == ["model_version=one"]
    assert line["eventVersion"] == "0"


def test_a_sample_of_none_captures_nothing_and_a_serverless_endpoint_cannot(aws: Engine) -> None:
    client, name = aws.client("sagemaker"), model(aws, "one")
    capture = {
        "EnableCapture": True, "InitialSamplingPercentage": 0, "DestinationS3Uri": "s3://data/capture",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }  # fmt: skip
    variant = {"VariantName": "live", "ModelName": name}
    instance = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    serverless = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 2}}
    with pytest.raises(ClientError, match="serverless endpoints capture nothing"):
        client.create_endpoint_config(
            EndpointConfigName="c", ProductionVariants=[variant | serverless], DataCaptureConfig=capture
        )
    client.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[variant | instance], DataCaptureConfig=capture
    )
    client.create_endpoint(EndpointName="e", EndpointConfigName="c")
    settled(aws)
    ask(aws)
    assert "Contents" not in aws.client("s3").list_objects_v2(Bucket="data", Prefix="capture/")


def transformed(aws: Engine, **other: Any) -> dict[str, Any]:
    """A transform job over `in/`, once it has ended."""
    client = aws.client("sagemaker")
    client.create_transform_job(
        TransformJobName="t",
        ModelName=model(aws, "one"),
        MaxConcurrentTransforms=2,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}},
            "ContentType": "text/csv",
        },
        TransformOutput={"S3OutputPath": "s3://data/out", "Accept": "text/plain"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **other,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.describe_transform_job(TransformJobName="t")
        if found["TransformJobStatus"] != "InProgress":
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def test_a_batch_transform_answers_every_object_below_a_prefix_with_the_same_server(aws: Engine) -> None:
    s3 = aws.client("s3")
    for key, body in (("in/a.csv", b"1,2"), ("in/deep/b.csv", b"1,2,3"), ("other/c.csv", b"1")):
        s3.put_object(Bucket="data", Key=key, Body=body)
    found = transformed(aws)
    assert (found["TransformJobStatus"], found.get("FailureReason")) == ("Completed", None)
    listed = s3.list_objects_v2(Bucket="data", Prefix="out/")["Contents"]
    answers = {each["Key"]: s3.get_object(Bucket="data", Key=each["Key"])["Body"].read() for each in listed}
    assert answers == {
        "out/a.csv.out": b"hello one text/csv text/plain 3",
        "out/deep/b.csv.out": b"hello one text/csv text/plain 5",
    }
    assert not processes()


def test_a_batch_transform_fails_with_the_object_that_the_model_refuses(aws: Engine) -> None:
    aws.client("s3").put_object(Bucket="data", Key="in/a.csv", Body=b"bad")
    found = transformed(aws)
    assert found["TransformJobStatus"] == "Failed"
    assert 's3://data/in/a.csv: the model answered 400: {"error": "no image"}' in found["FailureReason"]
    assert not processes()


def test_a_batch_transform_that_the_desk_cannot_do_is_refused_by_name(aws: Engine) -> None:
    with pytest.raises(ClientError, match="BatchStrategy MultiRecord is not covered"):
        transformed(aws, BatchStrategy="MultiRecord")


def test_a_model_in_a_private_network_and_isolated_answers_from_an_instance_and_never_serverless(aws: Engine) -> None:
    ec2 = aws.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    vpc = {"Subnets": [subnet], "SecurityGroupIds": [group]}
    instance = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    model(aws, "one", instance, VpcConfig=vpc, EnableNetworkIsolation=True)
    client = aws.client("sagemaker")
    found = client.describe_model(ModelName="one")
    assert (found["VpcConfig"], found["EnableNetworkIsolation"]) == (vpc, True)
    client.create_endpoint(EndpointName="e", EndpointConfigName="one")
    assert settled(aws)["EndpointStatus"] == "InService"
    assert ask(aws)[0].startswith("hello one")
    (process,) = processes()
    environment = process.environ()
    assert "LAB_ISOLATED" in environment and not {"AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL"} & set(environment)
    with pytest.raises(ClientError, match="serverless endpoints take no model with VpcConfig or network isolation"):
        model(aws, "two", EnableNetworkIsolation=True)
    with pytest.raises(ClientError, match="the subnet subnet-1 does not exist"):
        model(aws, "three", instance, VpcConfig={"Subnets": ["subnet-1"], "SecurityGroupIds": [group]})


def test_a_model_without_its_archive_role_or_image_is_refused(aws: Engine) -> None:
    client = aws.client("sagemaker")
    role, data = "arn:aws:iam::123456789012:role/serve", "s3://data/none/model.tar.gz"
    with pytest.raises(ClientError, match="Could not find model data at s3://data/none"):
        client.create_model(
            ModelName="m", ExecutionRoleArn=role, PrimaryContainer={"Image": IMAGE, "ModelDataUrl": data}
        )
    with pytest.raises(ClientError, match="Could not assume role"):
        client.create_model(ModelName="m", ExecutionRoleArn=role + "x", PrimaryContainer={"Image": IMAGE})
    with pytest.raises(ClientError, match="cannot run the image"):
        client.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer={"Image": "x.dkr.ecr.y/z:1"})
