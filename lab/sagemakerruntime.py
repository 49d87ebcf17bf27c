"""InvokeEndpoint reaches the endpoint's own process.

Covers: InvokeEndpoint with Body, ContentType, Accept and CustomAttributes; ModelError (424) with the container's own
status and message; no answer is cut off when an endpoint is updated; data capture, when the config asks for it.
Does not cover: InvokeEndpointAsync (refused), response streams, target variants and models, inference components.
"""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

from moto.sagemaker.models import sagemaker_backends
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from lab import serving
from lab.endpoint import LOG_GROUP, REASON_CHARACTERS, Endpoint

if TYPE_CHECKING:
    from lab.engine import Engine

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
Reply = tuple[int, dict[str, str], str | bytes]


def install(engine: Engine) -> None:
    """Puts the real invocation in the place of moto's canned one."""
    # A body may be an image: it must not be decoded as text.
    SageMakerRuntimeResponse.use_raw_body = True
    SageMakerRuntimeResponse.invoke_endpoint = _invoke
    SageMakerRuntimeResponse.invoke_endpoint_async = _refuse_async


def _invoke(response: SageMakerRuntimeResponse) -> Reply:
    """InvokeEndpoint: the body goes to /invocations of the endpoint's process, its answer comes back."""
    name = response.path.split("/")[2]
    endpoint = sagemaker_backends[response.current_account][response.region].endpoints.get(name)
    if not isinstance(endpoint, Endpoint):
        return _error(400, "ValidationError", f"Endpoint {name} of account {response.current_account} not found.")
    with endpoint.lease() as server:
        if server is None:
            return _error(400, "ValidationError", f"Endpoint {name} is {endpoint.endpoint_status}, not InService.")
        return _ask(endpoint, server, response)


def _ask(endpoint: Endpoint, server: serving.Server, response: SageMakerRuntimeResponse) -> Reply:
    given = {key: response.headers.get(key) for key in ("Content-Type", "Accept", ATTRIBUTES)}
    try:
        headers = {key: value for key, value in given.items() if value}
        answer = server.ask("POST", "/invocations", response.raw_body, headers)
    except (OSError, http.client.HTTPException) as error:
        message = f"The model's process did not answer: {type(error).__name__}: {error}"
        return _model_error(endpoint, 500, message)
    if not 200 <= answer.status < 300:
        return _model_error(endpoint, answer.status, answer.body.decode("utf-8", errors="replace"))
    variant = endpoint.production_variants[0]["VariantName"]
    told = {"Content-Type": answer.headers.get("content-type", "application/octet-stream")}
    told["x-Amzn-Invoked-Production-Variant"] = variant
    if ATTRIBUTES.lower() in answer.headers:
        told[ATTRIBUTES] = answer.headers[ATTRIBUTES.lower()]
    if endpoint.capture is not None:
        asked = (given["Content-Type"] or "application/octet-stream", response.raw_body)
        endpoint.capture.keep(asked, (told["Content-Type"], answer.body), told.get(ATTRIBUTES, ""))
    return 200, told, answer.body


def _error(status: int, code: str, message: str, **more: Any) -> Reply:
    # moto takes the status from a header of that name.
    headers = {"Content-Type": "application/json", "x-amzn-errortype": code, "status": str(status)}
    return status, headers, json.dumps({"Message": message, **more})


def _model_error(endpoint: Endpoint, status: int, body: str) -> Reply:
    """424 ModelError, as SageMaker wraps what a container answers."""
    side = "client" if 400 <= status < 500 else "server"
    message = f'Received {side} error ({status}) from primary with message "{body[:REASON_CHARACTERS]}".'
    group = f"arn:aws:logs:{endpoint.engine.region}:{endpoint.engine.account}:log-group:{LOG_GROUP}"
    return _error(
        424,
        "ModelError",
        message,
        OriginalStatusCode=status,
        OriginalMessage=body,
        LogStreamArn=f"{group}/{endpoint.endpoint_name}",
    )


def _refuse_async(response: SageMakerRuntimeResponse) -> Reply:
    return _error(400, "ValidationError", "InvokeEndpointAsync is not covered by the desk engine")
