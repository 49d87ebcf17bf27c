"""A function's process is cold once, warm while it is fresh, and gone when it is not."""

import json
import re
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
from moto.awslambda.models import LambdaFunction

from lab import awslambda, ledger
from lab.engine import Engine

COUNT = """
import os, time
calls = 0
def handler(event, context):
    global calls
    calls += 1
    time.sleep(event.get('wait', 0))
    print('call', calls)
    if event.get('do') == 'raise':
        raise ValueError('no')
    if event.get('do') == 'die':
        os._exit(3)
    left = context.get_remaining_time_in_millis()
    return {'pid': os.getpid(), 'calls': calls, 'id': context.aws_request_id, 'left': left}
"""


@pytest.fixture
def call(desk: Engine, role: Callable[..., str], itself: Callable[..., None]) -> Callable[..., Any]:
    """Invokes function `f`, whose globals count its calls, and gives the answer."""
    itself(LambdaFunction)
    awslambda.install(desk)
    client = desk.client("lambda")
    how = {"Runtime": "python3.11", "Role": role("f-role", "lambda"), "Handler": "main.handler", "Timeout": 2}
    client.create_function(FunctionName="f", Code={"ZipFile": packed(COUNT)}, **how)

    def invoke(**event: Any) -> Any:
        return json.loads(client.invoke(FunctionName="f", Payload=json.dumps(event))["Payload"].read())

    return invoke


def packed(source: str) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("main.py", source)
    return out.getvalue()


def test_globals_live_on_in_a_warm_process_and_the_context_is_new(call: Callable[..., Any]) -> None:
    first, second = call(), call()
    assert second["pid"] == first["pid"] and (first["calls"], second["calls"]) == (1, 2)
    assert first["id"] != second["id"] and second["left"] > 1500


def test_what_runs_at_the_same_time_runs_in_processes_of_its_own(call: Callable[..., Any]) -> None:
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda _: call(wait=1.0), range(3)))
    pids = {answer["pid"] for answer in together}
    assert len(pids) == 3 and call()["pid"] in pids


def test_an_exception_leaves_the_process_warm_beyond_its_time_limit(call: Callable[..., Any]) -> None:
    first = call()
    assert call(do="raise")["errorMessage"] == "no"
    time.sleep(2.2)
    third = call()
    assert (third["pid"], third["calls"]) == (first["pid"], 3)


def test_a_crash_and_a_time_out_cost_the_process(call: Callable[..., Any]) -> None:
    first = call()
    assert call(do="die")["errorMessage"].endswith("exit status 3")
    second = call()
    assert call(wait=5)["errorMessage"].endswith("Task timed out after 2.00 seconds")
    third = call()
    assert len({first["pid"], second["pid"], third["pid"]}) == 3 and third["calls"] == 1


def test_new_code_and_new_settings_start_a_new_process(desk: Engine, call: Callable[..., Any]) -> None:
    client = desk.client("lambda")
    first = call()
    client.update_function_configuration(FunctionName="f", Environment={"Variables": {"WORD": "b"}})
    second = call()
    client.update_function_code(FunctionName="f", ZipFile=packed(COUNT + "# new"))
    third = call()
    assert len({first["pid"], second["pid"], third["pid"]}) == 3


def test_a_start_that_fails_is_tried_anew_each_time(desk: Engine, call: Callable[..., Any]) -> None:
    desk.client("lambda").update_function_code(FunctionName="f", ZipFile=packed("import nowhere"))
    for _ in range(2):
        assert call()["errorType"] == "Runtime.ImportModuleError"
    assert not list((desk.root / "jobs/lambda/f").glob("*.json"))


def test_log_and_ledger_tell_each_invocation_apart(desk: Engine, call: Callable[..., Any]) -> None:
    call()
    call(do="raise")
    log = (desk.root / "jobs/lambda/f/log.txt").read_text()
    told = [re.findall(r"call \d", part) for part in log.split("START ")[1:]]
    assert told == [["call 1"], ["call 2"]]
    reports = re.findall(r"REPORT .*", log)
    assert "Init Duration: " in reports[0] and "Init Duration: " not in reports[1]
    noted = [entry for entry in ledger.read(desk.root) if entry.name == "f"]
    assert [entry.kind for entry in noted] == ["function"] * 2 and noted[0].end <= noted[1].start
    streams = desk.client("logs").describe_log_streams(logGroupName="/aws/lambda/f")["logStreams"]
    assert len(streams) == 1
