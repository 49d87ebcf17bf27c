"""Messages of a topic reach its functions; the budget's message deletes the endpoint of the lab's own stack."""

import io
import json
import tarfile
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.awslambda.models import LambdaFunction
from moto.sns.models import Subscription

from lab import assembly, awslambda, sns
from lab.cloud import Cloud
from lab.destroy import Destruction
from lab.engine import Engine

Until = Callable[[Callable[[], Any]], Any]
ECHO = """
import json, boto3
def handler(event, context):
    boto3.client("s3").put_object(Bucket="heard", Key="event.json", Body=json.dumps(event).encode())
"""
SERVE = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.HTTPServer((os.environ["BIND_HOST"], int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""
DOCKERFILE = 'FROM python\nWORKDIR /opt/program\nENTRYPOINT ["python", "-m", "program.serve"]\n'


def test_a_function_gets_the_event_that_aws_sends(
    desk: Engine, itself: Callable[..., None], role: Callable[..., str], until: Until
) -> None:
    itself(Subscription, LambdaFunction)
    sns.install(desk)
    awslambda.install(desk)
    desk.client("s3").create_bucket(Bucket="heard")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("echo.py", ECHO)
    function = desk.client("lambda").create_function(
        FunctionName="echo", Runtime="python3.13", Role=role("echo", "lambda"), Handler="echo.handler",
        Code={"ZipFile": packed.getvalue()},
    )  # fmt: skip
    client = desk.client("sns")
    topic = client.create_topic(Name="spent")["TopicArn"]
    may = {"Action": "lambda:InvokeFunction", "Principal": "sns.amazonaws.com", "SourceArn": topic}
    desk.client("lambda").add_permission(FunctionName="echo", StatementId="topic", **may)
    client.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function["FunctionArn"])
    colour = {"colour": {"DataType": "String", "StringValue": "red"}}
    sent = client.publish(TopicArn=topic, Message="all of it", Subject="Budget", MessageAttributes=colour)
    until(lambda: desk.client("s3").list_objects_v2(Bucket="heard")["KeyCount"])
    event = json.loads(desk.client("s3").get_object(Bucket="heard", Key="event.json")["Body"].read())
    [record] = event["Records"]
    assert record["EventSource"] == "aws:sns" and record["EventSubscriptionArn"].startswith(f"{topic}:")
    said = record["Sns"]
    assert (said["TopicArn"], said["Message"], said["Subject"]) == (topic, "all of it", "Budget")
    assert said["MessageId"] == sent["MessageId"] and said["Timestamp"].endswith("Z")
    assert said["MessageAttributes"] == {"colour": {"Type": "String", "Value": "red"}}


@pytest.fixture
def stack(engine: Engine, synthesized: Path) -> Iterator[str]:
    """The lab's own stack, deployed; gives its prefix."""
    loaded = assembly.load(synthesized)
    assembly.deploy(engine, loaded)
    yield str(loaded.settings["prefix"])
    cloud = Cloud(engine.region, engine.account, "test", engine)
    Destruction(cloud, loaded.stack, loaded.settings["prefix"], loaded.template, lambda text: None).run()
    (engine.root / "assembly.sha256").unlink(missing_ok=True)


def endpoint(engine: Engine, prefix: str, role: str) -> str:
    """An endpoint of the stack's name, on a serve process that only says that it is well."""
    lab = engine.settings()["images"]["serve"]
    built = engine.root / "images" / lab["repository"] / lab["tag"]
    (built / "program").mkdir(parents=True, exist_ok=True)
    (built / "Dockerfile").write_text(DOCKERFILE)
    (built / "program" / "__init__.py").touch()
    (built / "program" / "serve.py").write_text(SERVE)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    s3, name = engine.client("s3"), f"{prefix}-endpoint"
    bucket = f"t-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="model.tar.gz", Body=packed.getvalue())
    client = engine.client("sagemaker")
    image = f"{engine.account}.dkr.ecr.{engine.region}.amazonaws.com/{lab['repository']}:{lab['tag']}"
    container = {"Image": image, "ModelDataUrl": f"s3://{bucket}/model.tar.gz"}
    client.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {"VariantName": "live", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    client.create_endpoint(EndpointName=name, EndpointConfigName=name)
    return name


def test_when_the_budget_is_spent_the_endpoint_of_the_stack_is_deleted(
    engine: Engine, stack: str, trusting: Callable[[str], str], until: Until
) -> None:
    client = engine.client("sagemaker")
    name = endpoint(engine, stack, trusting("sagemaker"))
    until(lambda: client.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService")
    topic = f"arn:aws:sns:{engine.region}:{engine.account}:{stack}-spent"
    engine.client("sns").publish(TopicArn=topic, Message="AWS Budget Notification", Subject="AWS Budgets")
    until(lambda: not client.list_endpoints(NameContains=name)["Endpoints"])
