"""SageMaker endpoints: a real serve process behind each, and InvokeEndpoint in front of it.

Covers: models of one container, configs of one variant (instances or serverless), create, update (blue/green: the
new process answers before the old one ends; a failed update leaves the old one), delete, InvokeEndpoint with
ContentType, Accept and CustomAttributes, ModelError with the container's own status.
Does not cover, and refuses by name: several variants or containers, shadow variants, asynchronous and streaming
invocations, data capture, auto scaling, VPC and network isolation. Instance types change nothing on the desk.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpoint, FakeEndpointConfig, Model
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from lab import identity, joblog, runtimes, serving
from lab.errors import LabError
from lab.jobfiles import Place
from lab.training import now

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
SERVICE = "sagemaker"
LOG_GROUP = "/aws/sagemaker/Endpoints"
REASON_CHARACTERS = 1024
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_INSTANCE_TYPE = re.compile(r"ml\.[a-z][a-z0-9-]*\.[a-z0-9-]+")


class Endpoint(FakeEndpoint):  # type: ignore[misc]
    """One endpoint: its state as DescribeEndpoint tells it, and the process that answers."""

    def __init__(self, engine: Engine, name: str, config: FakeEndpointConfig, tags: list[dict[str, str]]) -> None:
        super().__init__(
            engine.account, engine.region, name, config.endpoint_config_name, config.production_variants, {}, tags
        )
        self.data_capture_config = None
        self.engine = engine
        self.endpoint_status = "Creating"
        self.server: serving.Server | None = None
        self.gone = False
        self._turn = threading.Condition()
        self._asked: dict[serving.Server, int] = {}

    @property
    def response_object(self) -> dict[str, Any]:
        """What DescribeEndpoint answers."""
        answer = {
            "EndpointName": self.endpoint_name,
            "EndpointArn": self.arn,
            "EndpointConfigName": self.endpoint_config_name,
            "ProductionVariants": self.production_variants,
            "EndpointStatus": self.endpoint_status,
            "FailureReason": self.failure_reason,
            "CreationTime": self.creation_time,
            "LastModifiedTime": self.last_modified_time,
        }
        return {key: value for key, value in answer.items() if value is not None}

    def enter(self, status: str, reason: str | None = None) -> None:
        self.failure_reason = reason and reason[:REASON_CHARACTERS]
        self.last_modified_time = now()
        # Last, as it is what pollers wait for.
        self.endpoint_status = status

    def deploy(self, config: FakeEndpointConfig, model: Model) -> None:
        """Brings up a process for `model` and lets it take over, in a thread of its own."""
        old = self.server
        try:
            fresh = self._start(config, model)
        except Exception as error:
            if not isinstance(error, LabError):
                LOG.exception("endpoint %s", self.endpoint_name)
            reason = error.message if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
            self.enter("InService" if old else "Failed", reason)
            return
        with self._turn:
            self.server = fresh
        self.endpoint_config_name = config.endpoint_config_name
        self.production_variants = self._process_production_variants(config.production_variants)
        for variant in self.production_variants:
            variant["DeployedImages"] = [{"SpecifiedImage": model.primary_container["Image"]}]
        if self.gone:
            fresh.stop()
        self.enter("InService")
        if old is not None:
            self._end(old)

    def _start(self, config: FakeEndpointConfig, model: Model) -> serving.Server:
        container = model.primary_container
        name = f"{self.endpoint_name}/{int(time.time())}-{uuid.uuid4().hex[:6]}"
        return serving.start(
            self.engine,
            name,
            image=container["Image"],
            model_data=container.get("ModelDataUrl"),
            environment=container.get("Environment") or {},
            role_arn=model.execution_role_arn,
        )

    def remove(self) -> None:
        """DeleteEndpoint: the process ends."""
        self.gone = True
        if self.server is not None:
            self._end(self.server)

    @contextlib.contextmanager
    def lease(self) -> Iterator[serving.Server | None]:
        """The server in service, which does not end before the block does; None when there is none."""
        with self._turn:
            server = self.server
            if server is not None:
                self._asked[server] = self._asked.get(server, 0) + 1
        try:
            yield server
        finally:
            if server is not None:
                with self._turn:
                    self._asked[server] -= 1
                    self._turn.notify_all()

    def _end(self, server: serving.Server) -> None:
        with self._turn:
            self._turn.wait_for(lambda: not self._asked.get(server), timeout=serving.ANSWER_SECONDS)
        server.stop()
        variant = self.production_variants[0]["VariantName"]
        lines = joblog.text(server.running.log).splitlines()
        group = f"{LOG_GROUP}/{self.endpoint_name}"
        joblog.to_cloudwatch(self.engine, group, f"{variant}/{server.running.log.parent.name}", lines)


def install(engine: Engine) -> None:
    """Puts real endpoints in the place of moto's."""
    # moto keeps a list that lacks newer instance types; SageMaker's own grows monthly.
    FakeEndpointConfig.validate_instance_type = _check_instance_type
    # A body may be an image: it must not be decoded as text.
    SageMakerRuntimeResponse.use_raw_body = True
    SageMakerRuntimeResponse.invoke_endpoint = invoke_endpoint
    SageMakerRuntimeResponse.invoke_endpoint_async = _refuse_async

    def create_model(response: SageMakerResponse) -> ActionResult:
        return _create_model(engine, response)

    def create_endpoint(response: SageMakerResponse) -> ActionResult:
        return _create_endpoint(engine, response)

    operations: dict[str, Callable[[SageMakerResponse], ActionResult]] = {
        "create_model": create_model,
        "create_endpoint_config": _create_endpoint_config,
        "create_endpoint": create_endpoint,
        "update_endpoint": _update_endpoint,
        "delete_endpoint": _delete_endpoint,
    }
    for name, operation in operations.items():
        setattr(SageMakerResponse, name, operation)


def _check_instance_type(config: FakeEndpointConfig, instance_type: str) -> None:
    if not _INSTANCE_TYPE.fullmatch(instance_type):
        message = f"Value '{instance_type}' at 'instanceType' failed to satisfy constraint: ml.<family>.<size>"
        raise ValidationError(message=message)


def _create_model(engine: Engine, response: SageMakerResponse) -> ActionResult:
    request: dict[str, Any] = json.loads(response.body)
    container = request.get("PrimaryContainer") or {}
    for key in ("Containers", "VpcConfig", "EnableNetworkIsolation", "InferenceExecutionConfig"):
        if request.get(key):
            raise ValidationError(message=f"CreateModel: {key} is not covered by the desk engine")
    for key in set(container) - {"Image", "ModelDataUrl", "Environment", "Mode", "ContainerHostname"}:
        raise ValidationError(message=f"CreateModel: PrimaryContainer.{key} is not covered by the desk engine")
    name = request["ModelName"]
    backend = response.sagemaker_backend
    if name in backend._models:
        raise ValidationError(message=f"Cannot create already existing model {name}.")
    try:
        runtimes.of_image(engine, container.get("Image", ""))
        identity.require(engine, request["ExecutionRoleArn"], SERVICE)
        _require_model_data(engine, container.get("ModelDataUrl"))
    except LabError as error:
        raise ValidationError(message=error.message) from None
    model = backend.create_model(name, request["ExecutionRoleArn"], container, None, [], request.get("Tags"))
    return ActionResult({"ModelArn": model.arn})


def _require_model_data(engine: Engine, uri: str | None) -> None:
    if uri:
        place = Place.parse(uri)
        found = engine.client("s3").list_objects_v2(Bucket=place.bucket, Prefix=place.key, MaxKeys=1)
        if not any(item["Key"] == place.key for item in found.get("Contents", [])):
            raise LabError(f"Could not find model data at {uri}.")


def _create_endpoint_config(response: SageMakerResponse) -> ActionResult:
    request: dict[str, Any] = json.loads(response.body)
    name, backend = request["EndpointConfigName"], response.sagemaker_backend
    if name in backend.endpoint_configs:
        raise ValidationError(message=f"Cannot create already existing endpoint configuration {name!r}.")
    covered = {"EndpointConfigName", "ProductionVariants", "Tags", "KmsKeyId", "ExecutionRoleArn"}
    for key in sorted(set(request) - covered):
        if key != "DataCaptureConfig" or request[key].get("EnableCapture"):
            raise ValidationError(message=f"CreateEndpointConfig: {key} is not covered by the desk engine")
    if len(request["ProductionVariants"]) != 1:
        raise ValidationError(message="CreateEndpointConfig: the desk engine serves one production variant")
    config = backend.create_endpoint_config(
        endpoint_config_name=name,
        production_variants=request["ProductionVariants"],
        data_capture_config={},
        async_inference_config={},
        tags=request.get("Tags") or [],
        kms_key_id=request.get("KmsKeyId"),
    )
    # moto gives back empty structures that the API's shapes do not allow.
    config.async_inference_config = config.data_capture_config = None
    return ActionResult({"EndpointConfigArn": config.endpoint_config_arn})


def _config_and_model(response: SageMakerResponse, name: str) -> tuple[FakeEndpointConfig, Model]:
    backend = response.sagemaker_backend
    config = backend.endpoint_configs.get(name)
    if config is None:
        raise ValidationError(message=f"Could not find endpoint configuration {name!r}.")
    wanted = config.production_variants[0]["ModelName"]
    model = backend._models.get(wanted)
    if model is None:
        raise ValidationError(message=f"Could not find model {wanted!r}.")
    return config, model


def _deploy(endpoint: Endpoint, config: FakeEndpointConfig, model: Model) -> None:
    target = f"endpoint-{endpoint.endpoint_name}"
    threading.Thread(target=endpoint.deploy, args=(config, model), name=target, daemon=True).start()


def _create_endpoint(engine: Engine, response: SageMakerResponse) -> ActionResult:
    request: dict[str, Any] = json.loads(response.body)
    name, backend = request["EndpointName"], response.sagemaker_backend
    if name in backend.endpoints:
        raise ValidationError(message=f"Cannot create already existing endpoint {name!r}.")
    config, model = _config_and_model(response, request["EndpointConfigName"])
    endpoint = backend.endpoints[name] = Endpoint(engine, name, config, request.get("Tags") or [])
    _deploy(endpoint, config, model)
    return ActionResult({"EndpointArn": endpoint.arn})


def _found(response: SageMakerResponse, name: str) -> Endpoint:
    endpoint = response.sagemaker_backend.endpoints.get(name)
    if not isinstance(endpoint, Endpoint):
        raise ValidationError(message=f"Could not find endpoint {name!r}.")
    return endpoint


def _update_endpoint(response: SageMakerResponse) -> ActionResult:
    request: dict[str, Any] = json.loads(response.body)
    endpoint = _found(response, request["EndpointName"])
    if endpoint.endpoint_status != "InService":
        raise ValidationError(message=f"Cannot update in-progress endpoint: {endpoint.endpoint_status}.")
    config, model = _config_and_model(response, request["EndpointConfigName"])
    endpoint.enter("Updating")
    _deploy(endpoint, config, model)
    return ActionResult({"EndpointArn": endpoint.arn})


def _delete_endpoint(response: SageMakerResponse) -> ActionResult:
    endpoint = _found(response, json.loads(response.body)["EndpointName"])
    endpoint.enter("Deleting")
    del response.sagemaker_backend.endpoints[endpoint.endpoint_name]
    endpoint.remove()
    return EmptyResult()


Reply = tuple[int, dict[str, str], str | bytes]


def invoke_endpoint(response: SageMakerRuntimeResponse) -> Reply:
    """InvokeEndpoint: the body goes to /invocations of the endpoint's process, its answer comes back."""
    from moto.sagemaker.models import sagemaker_backends

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
