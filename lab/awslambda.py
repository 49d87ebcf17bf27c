"""Lambda functions run for real, in a child that sees only its bundle and boto3.

Covers: zip code from S3 or the request, environment, context, time limit, AWS's error payloads and types, log tail,
CloudWatch Logs, the execution role's session, synchronous, dry-run and event invocations (two retries, at once), cold
and warm starts (sandbox.py).
Does not cover: memory limits, layers, images, VPC, destinations, dead-letter queues, other languages than Python (the
process runs the lab's own Python version).
"""

from __future__ import annotations

import base64
import io
import json
import logging
import shutil
import threading
import time
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.awslambda.exceptions import LambdaClientError
from moto.awslambda.models import LambdaFunction

from lab import access, child, identity, joblog, sandbox
from lab.needs import Need

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
SERVICE = "lambda"
RUNTIME = "lambda"
TAIL_BYTES = 4096
ATTEMPTS = 3


@dataclass(frozen=True)
class Answer:
    """What one invocation gave: the JSON payload, whether it is an error, and what it logged."""

    payload: str
    failed: bool
    log: str


def install(engine: Engine) -> None:
    """Lets every function of moto's Lambda run for real, whoever invokes it."""

    warm = sandbox.Sandboxes()

    def invoke(function: LambdaFunction, body: Any, request_headers: Any, response_headers: Any) -> str | bytes:
        return _invoke(engine, warm, function, body, request_headers, response_headers)

    LambdaFunction.invoke = invoke


def _invoke(
    engine: Engine, warm: sandbox.Sandboxes, function: LambdaFunction, body: Any, asked: Any, says: Any
) -> bytes:
    """Stands in for LambdaFunction.invoke: `asked` and `says` are the request's and the response's headers."""
    event = _event(body)
    _refuse_uncovered(function)
    try:
        identity.require(engine, function.role, SERVICE)
    except identity.RoleError:
        message = "The role defined for the function cannot be assumed by Lambda."
        raise LambdaClientError("InvalidParameterValueException", message) from None
    kind = (asked or {}).get("X-Amz-Invocation-Type") or "RequestResponse"
    says["x-amz-executed-version"] = "$LATEST" if str(function.version) == "1" else str(function.version)
    if kind == "DryRun":
        return b""
    if kind == "Event":
        threading.Thread(target=_invoke_until_done, args=(engine, warm, function, event), daemon=True).start()
        return b""
    answer = handle(engine, warm, function, event)
    if answer.failed:
        says["x-amz-function-error"] = "Unhandled"
    says["x-amz-log-result"] = base64.b64encode(answer.log.encode()[-TAIL_BYTES:]).decode()
    return answer.payload.encode()


def _event(body: Any) -> str:
    text = body.decode() if isinstance(body, bytes) else body if isinstance(body, str) else json.dumps(body or {})
    try:
        json.loads(text or "{}")
    except ValueError as error:
        message = f"Could not parse request body into json: {error}"
        raise LambdaClientError("InvalidRequestContentException", message) from None
    return text or "{}"


def _refuse_uncovered(function: LambdaFunction) -> None:
    what = None
    if function.package_type != "Zip":
        what = "functions from images"
    elif not str(function.run_time).startswith("python"):
        what = f"the runtime {function.run_time}"
    elif function.layers:
        what = "layers"
    if what:
        message = f"{function.function_name}: the desk engine does not run {what}; it runs Python functions from a zip"
        raise LambdaClientError("InvalidRuntimeException", message)


def _invoke_until_done(engine: Engine, warm: sandbox.Sandboxes, function: LambdaFunction, event: str) -> None:
    """An event invocation: AWS tries again twice when the handler fails."""
    for attempt in range(ATTEMPTS):
        try:
            if not handle(engine, warm, function, event).failed:
                return
        except Exception:
            LOG.exception("%s: attempt %d of an event invocation", function.function_name, attempt + 1)
            return
    LOG.error("%s failed %d times on an event; the event is dropped", function.function_name, ATTEMPTS)


def handle(engine: Engine, warm: sandbox.Sandboxes, function: LambdaFunction, event: str) -> Answer:
    """One invocation of `function` with the JSON text `event`, in a process of its own while it lasts."""
    request_id = str(uuid.uuid4())
    folder = child.job_folder(engine, SERVICE, function.function_name)
    key = _settings(function)

    def start() -> sandbox.Sandbox:
        _read_environment(engine, function)
        return sandbox.start(engine, _process(function, unpack(folder, function)), folder)

    process = warm.take(function.function_name, key, start)
    try:
        reply = process.invoke(request_id, event, float(function.timeout))
    finally:
        warm.give_back(function.function_name, key, process)
    payload = reply.payload if reply.payload is not None else _death(reply, request_id, float(function.timeout))
    said = _told(request_id, function, reply, payload)
    _keep(engine, function, process.running.child, reply, said)
    return Answer(payload, reply.failed, said)


def _read_environment(engine: Engine, function: LambdaFunction) -> None:
    """Lambda decrypts a function's environment in the name of its role."""
    if not function.kms_key_arn:
        return
    about = {
        "kms:viaservice": [f"lambda.{engine.region}.amazonaws.com"],
        "kms:encryptioncontext:aws:lambda:functionarn": [str(function.function_arn)],
    }
    try:
        access.require(engine, function.role, [Need("kms:Decrypt", str(function.kms_key_arn), about, both=True)])
    except access.AccessDenied as error:
        raise LambdaClientError("KMSAccessDeniedException", error.message) from None


def _settings(function: LambdaFunction) -> object:
    """What a warm process was started with; another of these needs another process."""
    own = tuple(sorted((function.environment_vars or {}).items()))
    return (function.code_digest, function.handler, function.role, function.timeout, function.memory_size, own)


def _process(function: LambdaFunction, code: Path) -> child.Child:
    """The process of `function`, whose code lies in folder `code`; each has a log stream of its own."""
    stream = time.strftime("%Y/%m/%d/[$LATEST]", time.gmtime()) + uuid.uuid4().hex
    return child.Child(
        kind="function",
        service=SERVICE,
        name=function.function_name,
        argv=[],
        cwd=code,
        env=_environment(function, stream, code),
        runtime=RUNTIME,
        bundle_paths=[code],
        role_arn=function.role,
        grace_s=0.0,
        ledger=False,
    )


def _environment(function: LambdaFunction, stream: str, code: Path) -> dict[str, str]:
    own = {str(name): str(value) for name, value in (function.environment_vars or {}).items()}
    return {
        **own,
        "_HANDLER": str(function.handler),
        "TZ": ":UTC",
        "LAMBDA_TASK_ROOT": str(code),
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.run_time}",
        "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
        "AWS_LAMBDA_LOG_GROUP_NAME": function.logs_group_name,
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "LAB_FUNCTION_ARN": function.function_arn,
        "LAB_TIMEOUT_S": str(function.timeout),
    }


def unpack(folder: Path, function: LambdaFunction) -> Path:
    """The folder of the function's code, unpacked once per content."""
    code = folder / f"code-{function.code_digest.replace('sha256:', '')[:16]}"
    if code.is_dir():
        return code
    fresh = folder / f".{uuid.uuid4().hex}"
    fresh.mkdir(parents=True)
    try:
        with zipfile.ZipFile(io.BytesIO(function.code_bytes)) as archive:
            archive.extractall(fresh)
        try:
            fresh.rename(code)
        except OSError:
            # Another invocation of this moment was first.
            if not code.is_dir():
                raise
    except zipfile.BadZipFile:
        message = f"Could not unzip uploaded file of {function.function_name}. Please check your file, then try again."
        raise LambdaClientError("InvalidParameterValueException", message) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return code


def _death(reply: sandbox.Reply, request_id: str, limit: float) -> str:
    """The payload for a process that ended without an answer."""
    if reply.timed_out:
        message = f"RequestId: {request_id} Error: Task timed out after {limit:.2f} seconds"
        return json.dumps({"errorType": "Sandbox.Timedout", "errorMessage": message})
    how = f"signal: {-reply.rc}" if reply.rc < 0 else f"exit status {reply.rc}"
    message = f"RequestId: {request_id} Error: Runtime exited with error: {how}"
    return json.dumps({"errorType": "Runtime.ExitError", "errorMessage": message})


def _told(request_id: str, function: LambdaFunction, reply: sandbox.Reply, payload: str) -> str:
    """The invocation's log between the lines that AWS puts around it."""
    init = reply.init_seconds or 0.0
    spent = f"{(reply.ended - reply.started - init) * 1000:.2f} ms"
    report = [f"REPORT RequestId: {request_id}", f"Duration: {spent}", f"Memory Size: {function.memory_size} MB"]
    if reply.init_seconds is not None:
        report.append(f"Init Duration: {init * 1000:.2f} ms")
    lines = [f"START RequestId: {request_id} Version: $LATEST", *reply.said.splitlines()]
    if reply.timed_out:
        lines.append(json.loads(payload)["errorMessage"])
    return "\n".join([*lines, f"END RequestId: {request_id}", "\t".join(report)]) + "\n"


_keeping = threading.Lock()


def _keep(engine: Engine, function: LambdaFunction, process: child.Child, reply: sandbox.Reply, said: str) -> None:
    """A log per function on disk, a stream per process in CloudWatch Logs, a line per invocation in the ledger."""
    log = child.job_folder(engine, SERVICE, function.function_name) / "log.txt"
    with _keeping, log.open("a", encoding="utf-8") as whole:
        whole.write(said)
    child.note(engine, process, reply.started, reply.ended, reply.rc, log)
    stream = str(process.env["AWS_LAMBDA_LOG_STREAM_NAME"])
    joblog.to_cloudwatch(engine, function.role, function.logs_group_name, stream, said.splitlines())
