"""SageMaker endpoints stand on real serve processes.

Covers: models of one container, configs of one variant (instances or serverless), data capture of instances, create,
update (blue/green: the new process answers before the old one ends; a failed update leaves the old one), describe,
list, delete.
Does not cover, and refuses by name: several variants or containers, shadow variants and asynchronous inference.
isolation.py says what of VPC and network isolation holds. Instance types change nothing on the desk, and one process
answers whatever a scaling policy says.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpointConfig, Model
from moto.sagemaker.responses import SageMakerResponse

from lab import capture, identity, isolation, runtimes
from lab.endpoint import Endpoint
from lab.errors import LabError
from lab.jobfiles import Place
from lab.training import NAME

if TYPE_CHECKING:
    from lab.engine import Engine

SERVICE = "sagemaker"
_INSTANCE_TYPE = re.compile(r"ml\.[a-z][a-z0-9-]*\.[a-z0-9-]+")


def install(engine: Engine) -> None:
    """Puts real endpoints in the place of moto's."""
    # moto keeps a list that lacks newer instance types; SageMaker's own grows monthly.
    FakeEndpointConfig.validate_instance_type = _check_instance_type

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
    for key in ("Containers", "InferenceExecutionConfig"):
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
        isolation.require(engine, request.get("VpcConfig"))
        _require_model_data(engine, container.get("ModelDataUrl"))
    except LabError as error:
        raise ValidationError(message=error.message) from None
    vpc = request.get("VpcConfig")
    model = backend.create_model(name, request["ExecutionRoleArn"], container, vpc, [], request.get("Tags"))
    model.enable_network_isolation = bool(request.get("EnableNetworkIsolation"))
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
    covered = {
        "EndpointConfigName", "ProductionVariants", "Tags", "KmsKeyId", "ExecutionRoleArn", "DataCaptureConfig",
    }  # fmt: skip
    for key in sorted(set(request) - covered):
        raise ValidationError(message=f"CreateEndpointConfig: {key} is not covered by the desk engine")
    refused = capture.refusal(request)
    if refused:
        raise ValidationError(message=f"CreateEndpointConfig: {refused}")
    if len(request["ProductionVariants"]) != 1:
        raise ValidationError(message="CreateEndpointConfig: the desk engine serves one production variant")
    variant = request["ProductionVariants"][0]
    model = backend._models.get(variant["ModelName"])
    if "ServerlessConfig" in variant and model is not None and (model.vpc_config or model.enable_network_isolation):
        raise ValidationError(
            message=f"CreateEndpointConfig: serverless endpoints take no model with VpcConfig or network isolation, "
            f"which {variant['ModelName']} has."
        )
    config = backend.create_endpoint_config(
        endpoint_config_name=name,
        production_variants=request["ProductionVariants"],
        data_capture_config={},
        async_inference_config={},
        tags=request.get("Tags") or [],
        kms_key_id=request.get("KmsKeyId"),
    )
    # moto gives back empty structures that the API's shapes do not allow.
    config.async_inference_config = None
    config.data_capture_config = request.get("DataCaptureConfig") or None
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
    if not NAME.fullmatch(name):
        raise ValidationError(message=f"EndpointName {name!r} must match {NAME.pattern}")
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
