"""Lambda functions run for real, in a child that sees only its bundle and boto3.

Covers: zip code from S3 or the request, environment, context, time limit, AWS's error payloads and types, log tail,
CloudWatch Logs, the execution role's session, synchronous, dry-run and event invocations (two retries, at once).
Does not cover: warm starts (each invocation is a new process), memory limits, layers, images, VPC, destinations,
dead-letter queues, other languages than Python (the process runs the lab's own Python version).
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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.awslambda.exceptions import LambdaClientError
from moto.awslambda.models import LambdaFunction

from lab import child, identity, joblog, runtimes

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
SERVICE = "lambda"
RUNTIME = "lambda"
TAIL_BYTES = 4096
INIT_SECONDS = 10.0
ATTEMPTS = 3


@dataclass(frozen=True)
class Answer:
    """What one invocation gave: the JSON payload, whether it is an error, and what it logged."""

    payload: str
    failed: bool
    log: str


def install(engine: Engine) -> None:
    """Lets every function of moto's Lambda run for real, whoever invokes it."""

    def invoke(function: LambdaFunction, body: Any, request_headers: Any, response_headers: Any) -> str | bytes:
        return _invoke(engine, function, body, request_headers, response_headers)

    LambdaFunction.invoke = invoke


def _invoke(engine: Engine, function: LambdaFunction, body: Any, asked: Any, says: Any) -> bytes:
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
        threading.Thread(target=_invoke_until_done, args=(engine, function, event), daemon=True).start()
        return b""
    answer = handle(engine, function, event)
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


def _invoke_until_done(engine: Engine, function: LambdaFunction, event: str) -> None:
    """An event invocation: AWS tries again twice when the handler fails."""
    for attempt in range(ATTEMPTS):
        try:
            if not handle(engine, function, event).failed:
                return
        except Exception:
            LOG.exception("%s: attempt %d of an event invocation", function.function_name, attempt + 1)
            return
    LOG.error("%s failed %d times on an event; the event is dropped", function.function_name, ATTEMPTS)


def handle(engine: Engine, function: LambdaFunction, event: str) -> Answer:
    """One invocation of `function` with the JSON text `event`, in a child of its own."""
    request_id = str(uuid.uuid4())
    folder = child.job_folder(engine, SERVICE, function.function_name)
    code = unpack(folder, function)
    answer, log = folder / f"{request_id}.json", folder / f"{request_id}.log"
    stream = time.strftime("%Y/%m/%d/[$LATEST]", time.gmtime()) + uuid.uuid4().hex
    bootstrap = runtimes.guard_folder() / "lambda_bootstrap.py"
    limit = float(function.timeout)
    what = child.Child(
        kind="function",
        service=SERVICE,
        name=function.function_name,
        argv=["python", str(bootstrap), str(answer)],
        cwd=code,
        env=_environment(function, request_id, stream, code),
        runtime=RUNTIME,
        bundle_paths=[code],
        role_arn=function.role,
        timeout_s=INIT_SECONDS + limit,
        grace_s=0.0,
        stdin=event.encode(),
        log=log,
        noted_log=folder / "log.txt",
    )
    result = child.run(what, engine)
    payload, failed = _outcome(answer, result, request_id, limit)
    said = _told(request_id, result, joblog.text(log), payload if failed else "")
    _keep(engine, function, stream, said, log)
    answer.unlink(missing_ok=True)
    return Answer(payload, failed, said)


def _environment(function: LambdaFunction, request_id: str, stream: str, code: Path) -> dict[str, str]:
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
        "LAB_REQUEST_ID": request_id,
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


def _outcome(answer: Path, result: child.Result, request_id: str, limit: float) -> tuple[str, bool]:
    """The payload and whether it is an error."""
    if result.timed_out or result.rc == child.TIMED_OUT:
        message = f"RequestId: {request_id} Error: Task timed out after {limit:.2f} seconds"
        return json.dumps({"errorType": "Sandbox.Timedout", "errorMessage": message}), True
    if not answer.is_file():
        how = f"signal: {-result.rc}" if result.rc < 0 else f"exit status {result.rc}"
        message = f"RequestId: {request_id} Error: Runtime exited with error: {how}"
        return json.dumps({"errorType": "Runtime.ExitError", "errorMessage": message}), True
    said: Mapping[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return str(said["payload"]), bool(said["error"])


def _told(request_id: str, result: child.Result, body: str, error: str) -> str:
    """The invocation's log between the lines that AWS puts around it."""
    spent = f"{result.seconds * 1000:.2f} ms"
    lines = [f"START RequestId: {request_id} Version: $LATEST", *body.splitlines()]
    if error and "Task timed out" in error:
        lines.append(json.loads(error)["errorMessage"])
    lines += [f"END RequestId: {request_id}", f"REPORT RequestId: {request_id}\tDuration: {spent}"]
    return "\n".join(lines) + "\n"


_keeping = threading.Lock()


def _keep(engine: Engine, function: LambdaFunction, stream: str, said: str, log: Path) -> None:
    """One log per function on disk, one stream per invocation in CloudWatch Logs."""
    with _keeping, (log.parent / "log.txt").open("a", encoding="utf-8") as whole:
        whole.write(said)
    log.unlink()
    joblog.to_cloudwatch(engine, function.logs_group_name, stream, said.splitlines())
