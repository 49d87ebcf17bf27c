"""Calls a Lambda handler inside the child, in the words and formats of AWS's runtime.

    python lambda_bootstrap.py PIPE IDLE      descriptor of the pipe to the engine; seconds after which disuse ends it

    it says       b"ready"                               once, when the handler is imported
    it is told    {"id": request, "event": JSON text}    an invocation; the pipe's end ends the process
    it answers    {"error": bool, "payload": JSON text, "last": whether it ends with this}

Messages, error types and log format are those of AWS's runtime interface client (awslambdaric).
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

TIMED_OUT = 124


class Fault(Exception):
    """A failure of the runtime, not of the handler's own code."""

    def __init__(self, kind: str, message: str, trace: list[str] | None = None) -> None:
        super().__init__(message)
        self.payload = {"errorMessage": message, "errorType": kind, "requestId": "", "stackTrace": trace or []}


class Identity:
    """`context.identity`: filled by mobile SDKs only."""

    cognito_identity_id = None
    cognito_identity_pool_id = None


class Context:
    """The handler's second argument."""

    def __init__(self, environ: Mapping[str, str], request_id: str) -> None:
        self.aws_request_id = request_id
        self.function_name = environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.invoked_function_arn = environ["LAB_FUNCTION_ARN"]
        self.memory_limit_in_mb = environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.identity = Identity()
        self.client_context = None
        self._deadline = time.monotonic() + float(environ["LAB_TIMEOUT_S"])

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.monotonic()) * 1000))

    def log(self, message: object) -> None:
        sys.stdout.write(str(message))


def find_handler(name: str) -> Callable[[Any, Context], Any]:
    """The function that `module.function` names; Fault in AWS's words."""
    module_name, dot, function = name.rpartition(".")
    if not dot:
        why = "not enough values to unpack (expected 2, got 1)"
        raise Fault("Runtime.MalformedHandlerName", f"Bad handler '{name}': {why}")
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}") from None
    except SyntaxError as error:
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        message = f"Syntax error in module '{module_name}': {error}"
        raise Fault("Runtime.UserCodeSyntaxError", message, trace) from None
    try:
        handler: Callable[[Any, Context], Any] = getattr(module, function)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", f"Handler '{function}' missing on module '{module_name}'") from None
    return handler


def call(handler: Callable[[Any, Context], Any], event: Any, context: Context) -> str:
    """The handler's answer as JSON text."""
    timer = threading.Timer(float(os.environ["LAB_TIMEOUT_S"]), os._exit, [TIMED_OUT])
    timer.daemon = True
    timer.start()
    try:
        answer = handler(event, context)
    finally:
        timer.cancel()
    try:
        return json.dumps(answer)
    except (TypeError, ValueError) as error:
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None


def described(error: BaseException, request_id: str) -> dict[str, Any]:
    """What AWS returns for an exception that leaves the handler; the frames of this file are left out."""
    # Frames of the import system stand between this file and a module that fails while it is imported.
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "requestId": request_id,
        "stackTrace": traceback.format_list(frames),
    }


class Formatter(logging.Formatter):
    """Lambda's line: level, time, id of the request that is being handled, message."""

    converter = staticmethod(time.gmtime)
    request_id = ""

    def format(self, record: logging.LogRecord) -> str:
        record.aws_request_id = self.request_id
        return super().format(record)


def set_up_logging() -> Formatter:
    """The root logger as in Lambda: WARNING and above, on standard output."""
    form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
    formatter = Formatter(form, "%Y-%m-%dT%H:%M:%S")
    out = logging.StreamHandler(sys.stdout)
    out.setFormatter(formatter)
    logging.getLogger().addHandler(out)
    return formatter


def answered(handler: Callable[[Any, Context], Any] | Exception, event: Any, request_id: str) -> dict[str, Any]:
    """The answer to one event; `handler` is what kept it from being found, if something did."""
    try:
        if isinstance(handler, Exception):
            raise handler
        return {"error": False, "payload": call(handler, event, Context(os.environ, request_id))}
    except Fault as fault:
        sys.stdout.write(f"[ERROR] {fault.payload['errorType']}: {fault}\n")
        return {"error": True, "payload": json.dumps(fault.payload)}
    except Exception as error:
        said = described(error, request_id)
        where = "Traceback (most recent call last):\n" + "".join(said["stackTrace"])
        sys.stdout.write(f"[ERROR] {said['errorType']}: {said['errorMessage']}\n{where}")
        return {"error": True, "payload": json.dumps(said)}


def main(descriptor: int, idle_seconds: float) -> int:
    """Handles events until the pipe ends or none comes for `idle_seconds`."""
    os.set_inheritable(descriptor, False)
    formatter = set_up_logging()
    handler: Callable[[Any, Context], Any] | Exception
    try:
        handler = find_handler(os.environ["_HANDLER"])
    except Exception as error:
        handler = error
    with Connection(descriptor) as pipe:
        pipe.send_bytes(b"ready")
        while pipe.poll(idle_seconds):
            try:
                told = json.loads(pipe.recv_bytes())
            except EOFError:
                break
            formatter.request_id = told["id"]
            answer = answered(handler, json.loads(told["event"]), told["id"])
            last = isinstance(handler, Exception)  # AWS starts anew after a start that failed
            sys.stdout.flush()
            pipe.send_bytes(json.dumps({**answer, "last": last}).encode())
            if last:
                break
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2])))
