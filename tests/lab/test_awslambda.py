"""Lambda functions run for real, and fail as they do in AWS."""

import base64
import io
import json
import time
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.awslambda.models import LambdaFunction

from lab import awslambda
from lab.engine import Engine

Deploy = Callable[..., None]


@pytest.fixture
def deploy(desk: Engine, role: Callable[..., str], itself: Callable[..., None]) -> Deploy:
    """Creates function `f` from sources by path; the handler is pkg.main.handler unless named."""
    itself(LambdaFunction)
    awslambda.install(desk)
    arn = role("f-role", "lambda")

    def create(files: dict[str, str], handler: str = "pkg.main.handler", **more: Any) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as out:
            for path, source in files.items():
                out.writestr(path, source)
        s3 = desk.client("s3")
        s3.create_bucket(Bucket="code")
        s3.put_object(Bucket="code", Key="f.zip", Body=packed.getvalue())
        what = {"Runtime": "python3.11", "Role": arn, "Handler": handler, "Timeout": 5, **more}
        desk.client("lambda").create_function(FunctionName="f", Code={"S3Bucket": "code", "S3Key": "f.zip"}, **what)

    return create


def invoke(desk: Engine, event: object = None, **more: Any) -> tuple[Any, dict[str, Any]]:
    answer = desk.client("lambda").invoke(FunctionName="f", Payload=json.dumps(event or {}), LogType="Tail", **more)
    text = answer["Payload"].read()
    return json.loads(text) if text else None, answer


def main(body: str, top: str = "import boto3, os, time") -> dict[str, str]:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return {"pkg/__init__.py": "", "pkg/main.py": f"{top}\ndef handler(event, context):\n{lines}\n"}


def test_a_handler_gets_event_environment_context_and_its_roles_session(desk: Engine, deploy: Deploy) -> None:
    body = """print('saw', event['n'])
who = boto3.client('sts').get_caller_identity()['Arn']
left = context.get_remaining_time_in_millis()
return {'n': event['n'] + 1, 'word': os.environ['WORD'], 'who': who, 'left': 0 < left <= 5000,
        'name': context.function_name, 'id': len(context.aws_request_id)}"""
    deploy(main(body), Environment={"Variables": {"WORD": "ml"}})
    payload, answer = invoke(desk, {"n": 1})
    assert "FunctionError" not in answer
    assert payload == {
        "n": 2,
        "word": "ml",
        "who": "arn:aws:sts::123456789012:assumed-role/f-role/f",
        "left": True,
        "name": "f",
        "id": 36,
    }
    log = base64.b64decode(answer["LogResult"]).decode()
    assert log.startswith("START RequestId: ") and "saw 1" in log and "REPORT RequestId: " in log
    streams = desk.client("logs").describe_log_streams(logGroupName="/aws/lambda/f")["logStreams"]
    events = desk.client("logs").get_log_events(logGroupName="/aws/lambda/f", logStreamName=streams[0]["logStreamName"])
    assert "saw 1" in [event["message"] for event in events["events"]]
    assert "saw 1" in (desk.root / "jobs/lambda/f/log.txt").read_text()


def test_an_exception_reaches_the_caller_as_in_aws(desk: Engine, deploy: Deploy) -> None:
    deploy(main("raise ValueError('no such run')"))
    payload, answer = invoke(desk)
    assert answer["FunctionError"] == "Unhandled" and answer["StatusCode"] == 200
    assert (payload["errorType"], payload["errorMessage"]) == ("ValueError", "no such run")
    assert "in handler" in payload["stackTrace"][0] and len(payload["stackTrace"]) == 1


def test_a_file_that_the_bundle_lacks_is_an_import_error(desk: Engine, deploy: Deploy) -> None:
    deploy(main("pass", top="import models.gate"))
    payload, answer = invoke(desk)
    assert answer["FunctionError"] == "Unhandled"
    assert payload["errorType"] == "Runtime.ImportModuleError"
    assert payload["errorMessage"].startswith("Unable to import module 'pkg.main': the lambda runtime does not bring")


def test_a_handler_that_is_not_there_is_named(desk: Engine, deploy: Deploy) -> None:
    deploy(main("pass"), handler="pkg.main.other")
    payload, _ = invoke(desk)
    assert payload["errorMessage"] == "Handler 'other' missing on module 'pkg.main'"


def test_the_time_limit_is_enforced(desk: Engine, deploy: Deploy) -> None:
    deploy(main("time.sleep(30)"), Timeout=1)
    started = time.monotonic()
    payload, answer = invoke(desk)
    assert time.monotonic() - started < 10
    assert answer["FunctionError"] == "Unhandled"
    assert payload["errorMessage"].endswith("Task timed out after 1.00 seconds")


def test_a_process_that_dies_and_an_answer_that_is_no_json_are_errors(desk: Engine, deploy: Deploy) -> None:
    deploy(main("return object() if event.get('bad') else os._exit(9)"))
    assert invoke(desk)[0]["errorType"] == "Runtime.ExitError"
    assert invoke(desk, {"bad": 1})[0]["errorType"] == "Runtime.MarshalError"


def test_an_event_invocation_returns_at_once_and_is_tried_three_times(desk: Engine, deploy: Deploy) -> None:
    deploy(main("time.sleep(0.2); raise KeyError('x')"))
    _, answer = invoke(desk, InvocationType="Event")
    assert answer["StatusCode"] == 202
    log, deadline = desk.root / "jobs/lambda/f/log.txt", time.monotonic() + 20
    while (not log.exists() or log.read_text().count("REPORT") < 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert log.read_text().count("[ERROR] KeyError") == 3


def test_a_role_that_lambda_may_not_assume_is_refused(desk: Engine, deploy: Deploy, role: Callable[..., str]) -> None:
    deploy(main("pass"), Role=role("other", "glue"))
    with pytest.raises(ClientError, match="cannot be assumed by Lambda"):
        invoke(desk)


def test_another_language_is_refused_by_name(desk: Engine, deploy: Deploy) -> None:
    deploy(main("pass"), Runtime="nodejs22.x")
    with pytest.raises(ClientError, match=r"does not run the runtime nodejs22\.x"):
        invoke(desk)
