"""Calls a Lambda handler inside the child, in the words and formats of AWS's runtime.

    python lambda_bootstrap.py ANSWER      event: JSON on stdin; answer: {"error": bool, "payload": …} in file ANSWER

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
from collections.abc import Callable
from pathlib import Path
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

    def __init__(self, environ: dict[str, str]) -> None:
        self.aws_request_id = environ["LAB_REQUEST_ID"]
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
    answer = handler(event, context)
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


def set_up_logging(request_id: str) -> None:
    """The root logger as in Lambda: WARNING and above, level, time and request id on each line."""
    form = f"[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t{request_id}\t%(message)s"
    formatter = logging.Formatter(form, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    out = logging.StreamHandler(sys.stdout)
    out.setFormatter(formatter)
    logging.getLogger().addHandler(out)


def main() -> int:
    """Handles one event."""
    event = json.load(sys.stdin)
    request_id = os.environ["LAB_REQUEST_ID"]
    set_up_logging(request_id)
    failed = True
    try:
        handler = find_handler(os.environ["_HANDLER"])
        payload = call(handler, event, Context(dict(os.environ)))
        failed = False
    except Fault as fault:
        payload = json.dumps(fault.payload)
        sys.stdout.write(f"[ERROR] {fault.payload['errorType']}: {fault}\n")
    except Exception as error:
        said = described(error, request_id)
        payload = json.dumps(said)
        where = "Traceback (most recent call last):\n" + "".join(said["stackTrace"])
        sys.stdout.write(f"[ERROR] {said['errorType']}: {said['errorMessage']}\n{where}")
    half = Path(sys.argv[1] + ".half")
    half.write_text(json.dumps({"error": failed, "payload": payload}), encoding="utf-8")
    half.replace(sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
