"""The model registry numbers versions, waits for approval and tells EventBridge.

Covers: model packages in groups (version numbers never given twice, ClientToken, PendingManualApproval by default),
update, delete, a group's policy (kept and read back), and the EventBridge event "SageMaker Model Package State Change"
on creation, update and deletion.
Does not cover: validation jobs, marketplace packages, model cards of a version.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.exceptions import ConflictException, ValidationError
from moto.sagemaker.models import ModelPackage, SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

if TYPE_CHECKING:
    from lab.engine import Engine

SOURCE = "aws.sagemaker"
DETAIL_TYPE = "SageMaker Model Package State Change"
APPROVALS = ("Approved", "Rejected", "PendingManualApproval")
# What the event's detail holds, as DescribeModelPackage names it.
DETAIL = (
    "ModelPackageGroupName", "ModelPackageVersion", "ModelPackageArn", "ModelPackageDescription", "CreationTime",
    "InferenceSpecification", "ModelPackageStatus", "ModelPackageStatusDetails", "CertifyForMarketplace",
    "ModelApprovalStatus", "ApprovalDescription", "MetadataProperties", "ModelMetrics", "LastModifiedTime",
    "CustomerMetadataProperties",
)  # fmt: skip


def install(engine: Engine) -> None:
    """Puts the registry's writing operations in the place of moto's."""

    def create(response: SageMakerResponse) -> ActionResult:
        return _create(engine, response)

    def update(response: SageMakerResponse) -> ActionResult:
        return _update(engine, response)

    def delete(response: SageMakerResponse) -> ActionResult:
        return _delete(engine, response)

    operations: dict[str, Callable[[SageMakerResponse], ActionResult]] = {
        "create_model_package": create,
        "update_model_package": update,
        "delete_model_package": delete,
        "delete_model_package_group": _delete_group,
        "put_model_package_group_policy": _put_policy,
        "get_model_package_group_policy": _get_policy,
        "delete_model_package_group_policy": _delete_policy,
    }
    for name, operation in operations.items():
        setattr(SageMakerResponse, name, operation)


def _create(engine: Engine, response: SageMakerResponse) -> ActionResult:
    request: dict[str, Any] = json.loads(response.body)
    backend = response.sagemaker_backend
    group = request.get("ModelPackageGroupName", "").rpartition("/")[2]
    if not group:
        message = "CreateModelPackage without ModelPackageGroupName is not covered by the desk engine"
        raise ValidationError(message=message)
    if group not in backend.model_package_groups:
        raise ValidationError(message=f"Model Package Group {group} does not exist.")
    token = request.get("ClientToken")
    for package in _versions(backend, group):
        if token and package.client_token == token:
            return ActionResult({"ModelPackageArn": package.arn})
    status = request.get("ModelApprovalStatus", "PendingManualApproval")
    if status not in APPROVALS:
        raise ValidationError(message=f"ModelApprovalStatus {status!r} must be one of {', '.join(APPROVALS)}")
    package = _package(engine, request, group, _next_version(backend, group), status)
    backend.model_package_name_mapping[package.arn] = package.arn
    backend.model_packages[package.arn] = package
    _tell(engine, package)
    return ActionResult({"ModelPackageArn": package.arn})


def _versions(backend: SageMakerModelBackend, group: str) -> list[ModelPackage]:
    return [package for package in backend.model_packages.values() if package.model_package_group_name == group]


def _next_version(backend: SageMakerModelBackend, group: str) -> int:
    """One more than any version that this group ever had."""
    kept = backend.model_package_groups[group]
    last = max([getattr(kept, "last_version", 0), *(int(p.model_package_version) for p in _versions(backend, group))])
    kept.last_version = last + 1
    return last + 1


def _package(engine: Engine, request: dict[str, Any], group: str, version: int, status: str) -> ModelPackage:
    return ModelPackage(
        model_package_name=group,
        model_package_group_name=group,
        model_package_version=version,
        model_package_description=request.get("ModelPackageDescription"),
        inference_specification=request.get("InferenceSpecification"),
        source_algorithm_specification=request.get("SourceAlgorithmSpecification"),
        validation_specification=request.get("ValidationSpecification"),
        certify_for_marketplace=request.get("CertifyForMarketplace", False),
        model_approval_status=status,
        metadata_properties=request.get("MetadataProperties"),
        model_metrics=request.get("ModelMetrics"),
        approval_description=None,
        customer_metadata_properties=request.get("CustomerMetadataProperties"),
        drift_check_baselines=request.get("DriftCheckBaselines"),
        domain=request.get("Domain", ""),
        task=request.get("Task", ""),
        sample_payload_url=request.get("SamplePayloadUrl", ""),
        additional_inference_specifications=request.get("AdditionalInferenceSpecifications") or [],
        client_token=request.get("ClientToken", ""),
        region_name=engine.region,
        account_id=engine.account,
        model_package_type="Versioned",
        tags=request.get("Tags"),
    )


def _find(backend: SageMakerModelBackend, name: str) -> ModelPackage:
    package = backend.model_packages.get(name)
    if package is None:
        raise ValidationError(message=f"Model Package {name} does not exist.")
    return package


def _update(engine: Engine, response: SageMakerResponse) -> ActionResult:
    request: dict[str, Any] = json.loads(response.body)
    package = _find(response.sagemaker_backend, request["ModelPackageArn"])
    if "ModelApprovalStatus" in request:
        if request["ModelApprovalStatus"] not in APPROVALS:
            raise ValidationError(message=f"ModelApprovalStatus must be one of {', '.join(APPROVALS)}")
        package.set_model_approval_status(request["ModelApprovalStatus"])
    if "ApprovalDescription" in request:
        package.approval_description = request["ApprovalDescription"]
    if "CustomerMetadataProperties" in request:
        old = package.customer_metadata_properties or {}
        package.customer_metadata_properties = {**old, **request["CustomerMetadataProperties"]}
    for name in request.get("CustomerMetadataPropertiesToRemove", []):
        (package.customer_metadata_properties or {}).pop(name, None)
    if request.get("AdditionalInferenceSpecificationsToAdd"):
        package.add_additional_inference_specifications(request["AdditionalInferenceSpecificationsToAdd"])
    package.modifications_done()
    _tell(engine, package)
    return ActionResult({"ModelPackageArn": package.arn})


def _delete(engine: Engine, response: SageMakerResponse) -> ActionResult:
    backend = response.sagemaker_backend
    package = _find(backend, json.loads(response.body)["ModelPackageName"])
    del backend.model_packages[package.arn]
    package.model_package_status = "Deleting"
    _tell(engine, package)
    return EmptyResult()


def _delete_group(response: SageMakerResponse) -> ActionResult:
    backend = response.sagemaker_backend
    name = json.loads(response.body)["ModelPackageGroupName"].rpartition("/")[2]
    if name not in backend.model_package_groups:
        raise ValidationError(message=f"Model Package Group {name} does not exist.")
    if _versions(backend, name):
        raise ConflictException(f"Model Package Group {name} has model packages; delete them first")
    del backend.model_package_groups[name]
    return EmptyResult()


def _group_of(response: SageMakerResponse) -> tuple[Any, dict[str, Any]]:
    request: dict[str, Any] = json.loads(response.body)
    name = request["ModelPackageGroupName"].rpartition("/")[2]
    group = response.sagemaker_backend.model_package_groups.get(name)
    if group is None:
        raise ValidationError(message=f"Model Package Group {name} does not exist.")
    return group, request


def _put_policy(response: SageMakerResponse) -> ActionResult:
    group, request = _group_of(response)
    group.lab_policy = request["ResourcePolicy"]
    return ActionResult({"ModelPackageGroupArn": group.arn})


def _get_policy(response: SageMakerResponse) -> ActionResult:
    group, _ = _group_of(response)
    if not getattr(group, "lab_policy", None):
        raise ValidationError(message=f"Cannot find resource policy for {group.arn}.")
    return ActionResult({"ResourcePolicy": group.lab_policy})


def _delete_policy(response: SageMakerResponse) -> ActionResult:
    group, _ = _group_of(response)
    group.lab_policy = None
    return EmptyResult()


def event(package: ModelPackage) -> dict[str, Any]:
    """The event's entry for PutEvents, in the shape that SageMaker sends."""
    described = package.gen_response_object()
    described["ModelPackageArn"] = package.arn
    detail = {key: described[key] for key in DETAIL if described.get(key) is not None}
    detail["ModelPackageName"] = f"{package.model_package_group_name}/{package.model_package_version}"
    return {
        "Source": SOURCE,
        "DetailType": DETAIL_TYPE,
        "Resources": [package.arn],
        "Detail": json.dumps(detail, default=lambda moment: moment.isoformat()),
    }


def _tell(engine: Engine, package: ModelPackage) -> None:
    engine.client("events").put_events(Entries=[event(package)])
