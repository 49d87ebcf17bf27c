"""Kinds that no template removes: what the flow, its devices and its clients make, each with how it is found and ended.

In this order: what keeps others alive goes first. What is in the stack is left to the stack (destroy.py sees to that).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lab import inventory_jobs
from lab.cloud import Cloud
from lab.inventory import Found, Kind, Scope

EXECUTION, ENDPOINT, LOGGING, OBJECTS, LOGS = "running execution", "endpoint", "access logging", "objects", "log group"
OF_BUCKETS = (LOGGING, OBJECTS)
BATCH = 1000


def _executions(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for machine in cloud.rows("stepfunctions", "list_state_machines", "stateMachines"):
        if whose.owns(str(machine["name"])):
            given = {"stateMachineArn": machine["stateMachineArn"], "statusFilter": "RUNNING"}
            for row in cloud.rows("stepfunctions", "list_executions", "executions", **given):
                yield Found(EXECUTION, str(row["name"]), str(row["executionArn"]))


def _stop(cloud: Cloud, one: Found) -> None:
    cloud.client("stepfunctions").stop_execution(executionArn=one.id, cause="lab destroy")


def _targets(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    listed = ("describe_scalable_targets", "ScalableTargets")
    for row in cloud.rows("application-autoscaling", *listed, ServiceNamespace="sagemaker"):
        if whose.owns(str(row["ResourceId"])):
            yield Found("scaling target", str(row["ResourceId"]), (row["ResourceId"], row["ScalableDimension"]))


def _deregister(cloud: Cloud, one: Found) -> None:
    cloud.client("application-autoscaling").deregister_scalable_target(
        ServiceNamespace="sagemaker", ResourceId=one.id[0], ScalableDimension=one.id[1]
    )


def _sagemaker(kind: str, operation: str, key: str, field: str) -> Callable[[Cloud, Scope], Iterator[Found]]:
    def find(cloud: Cloud, whose: Scope) -> Iterator[Found]:
        for row in cloud.rows("sagemaker", operation, key):
            if whose.owns(str(row[field])):
                yield Found(kind, str(row[field]), str(row[field]))

    return find


def _delete(service: str, operation: str, parameter: str) -> Callable[[Cloud, Found], None]:
    def remove(cloud: Cloud, one: Found) -> None:
        getattr(cloud.client(service), operation)(**{parameter: one.id})

    return remove


def _groups(cloud: Cloud, whose: Scope) -> Iterator[str]:
    for row in cloud.rows("sagemaker", "list_model_package_groups", "ModelPackageGroupSummaryList"):
        if whose.owns(str(row["ModelPackageGroupName"])):
            yield str(row["ModelPackageGroupName"])


def _packages(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for group in _groups(cloud, whose):
        rows = cloud.rows("sagemaker", "list_model_packages", "ModelPackageSummaryList", ModelPackageGroupName=group)
        for row in rows:
            arn = str(row["ModelPackageArn"])
            yield Found("model package", arn.rpartition("model-package/")[2], arn)


def _package_groups(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for group in _groups(cloud, whose):
        yield Found("model package group", group, group)


def _deployments(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for row in cloud.rows("greengrassv2", "list_deployments", "deployments", historyFilter="ALL"):
        if whose.owns(str(row["targetArn"]).rpartition("/")[2]):
            name = f"{row['deploymentId']} to {str(row['targetArn']).rpartition('/')[2]}"
            yield Found("Greengrass deployment", name, (row["deploymentId"], row["deploymentStatus"]))


def _delete_deployment(cloud: Cloud, one: Found) -> None:
    client = cloud.client("greengrassv2")
    if one.id[1] == "ACTIVE":
        client.cancel_deployment(deploymentId=one.id[0])
    client.delete_deployment(deploymentId=one.id[0])


def _components(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for component in cloud.rows("greengrassv2", "list_components", "components", scope="PRIVATE"):
        if whose.owns(str(component["componentName"])):
            given = {"arn": component["arn"]}
            for row in cloud.rows("greengrassv2", "list_component_versions", "componentVersions", **given):
                name = f"{row['componentName']} {row['componentVersion']}"
                yield Found("Greengrass component", name, str(row["arn"]))


def _cores(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for row in cloud.rows("greengrassv2", "list_core_devices", "coreDevices"):
        if whose.owns(str(row["coreDeviceThingName"])):
            yield Found("Greengrass core device", str(row["coreDeviceThingName"]), str(row["coreDeviceThingName"]))


def _things(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for row in cloud.rows("iot", "list_things", "things"):
        if whose.owns(str(row["thingName"])):
            yield Found("IoT thing", str(row["thingName"]), str(row["thingName"]))


def _certificates(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    """Those of the lab's things, and those that carry one of its policies (a claim has no thing)."""
    arns: set[str] = set()
    for thing in _things(cloud, whose):
        arns |= set(cloud.rows("iot", "list_thing_principals", "principals", thingName=thing.id))
    for policy in cloud.rows("iot", "list_policies", "policies"):
        if whose.owns(str(policy["policyName"])):
            arns |= set(cloud.rows("iot", "list_targets_for_policy", "targets", policyName=policy["policyName"]))
    for arn in sorted(arns):
        if ":cert/" in arn:
            yield Found("IoT certificate", arn.rpartition("/")[2], arn)


def _delete_certificate(cloud: Cloud, one: Found) -> None:
    """Off its things and policies, then inactive, then gone, as IoT asks."""
    client, which = cloud.client("iot"), str(one.id).rpartition("/")[2]
    for thing in list(cloud.rows("iot", "list_principal_things", "things", principal=one.id)):
        client.detach_thing_principal(thingName=thing, principal=one.id)
    for policy in list(cloud.rows("iot", "list_attached_policies", "policies", target=one.id)):
        client.detach_policy(policyName=policy["policyName"], target=one.id)
    client.update_certificate(certificateId=which, newStatus="INACTIVE")
    client.delete_certificate(certificateId=which, forceDelete=True)


def _iot_jobs(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    """The job behind each deployment, by the group that it targets."""
    for row in cloud.rows("iot", "list_jobs", "jobs"):
        job = cloud.client("iot").describe_job(jobId=row["jobId"])["job"]
        if any(whose.owns(str(target).rpartition("/")[2]) for target in job.get("targets") or []):
            yield Found("IoT job", str(row["jobId"]), str(row["jobId"]))


def _delete_job(cloud: Cloud, one: Found) -> None:
    cloud.client("iot").delete_job(jobId=one.id, force=True)


def _logging(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    """Emptying a bucket is logged, too: while it is, the bucket of the logs is never empty."""
    for row in cloud.rows("s3", "list_buckets", "Buckets"):
        name = str(row["Name"])
        if whose.owns(name) and cloud.client("s3").get_bucket_logging(Bucket=name).get("LoggingEnabled"):
            yield Found(LOGGING, f"of bucket {name}", name)


def _stop_logging(cloud: Cloud, one: Found) -> None:
    cloud.client("s3").put_bucket_logging(Bucket=one.id, BucketLoggingStatus={})


def _objects(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for row in cloud.rows("s3", "list_buckets", "Buckets"):
        if whose.owns(str(row["Name"])):
            answer = cloud.client("s3").list_object_versions(Bucket=row["Name"], MaxKeys=1)
            begun = any(True for _ in cloud.rows("s3", "list_multipart_uploads", "Uploads", Bucket=row["Name"]))
            if answer.get("Versions") or answer.get("DeleteMarkers") or begun:
                yield Found(OBJECTS, f"in bucket {row['Name']}", str(row["Name"]))


def empty(cloud: Cloud, one: Found) -> None:
    """Every version of every object, every delete marker, every upload that never ended."""
    s3, bucket = cloud.client("s3"), one.id
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        rows = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        keys = [{"Key": row["Key"], "VersionId": row["VersionId"]} for row in rows]
        for start in range(0, len(keys), BATCH):
            done = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys[start : start + BATCH], "Quiet": True})
            for error in done.get("Errors", [])[:1]:
                raise ValueError(f"{bucket}/{error.get('Key')}: {error.get('Code')} {error.get('Message')}")
    for upload in list(cloud.rows("s3", "list_multipart_uploads", "Uploads", Bucket=bucket)):
        s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def _images(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for row in cloud.rows("ecr", "describe_repositories", "repositories"):
        name = str(row["repositoryName"])
        if whose.owns(name):
            for image in cloud.rows("ecr", "list_images", "imageIds", repositoryName=name):
                which = tuple(sorted(image.items()))
                label = image.get("imageTag") or image.get("imageDigest")
                yield Found("container image", f"{name}:{label}", (name, which))


def _delete_image(cloud: Cloud, one: Found) -> None:
    repository, which = one.id
    cloud.client("ecr").batch_delete_image(repositoryName=repository, imageIds=[dict(which)])


def _log_groups(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for row in cloud.rows("logs", "describe_log_groups", "logGroups"):
        if whose.owns(str(row["logGroupName"])):
            yield Found(LOGS, str(row["logGroupName"]), str(row["logGroupName"]))


SAGEMAKER = (
    (ENDPOINT, "list_endpoints", "Endpoints", "EndpointName", "delete_endpoint"),
    (
        "endpoint configuration",
        "list_endpoint_configs",
        "EndpointConfigs",
        "EndpointConfigName",
        "delete_endpoint_config",
    ),
    ("model", "list_models", "Models", "ModelName", "delete_model"),
)
KINDS = (
    Kind(EXECUTION, _executions, _stop),
    Kind("scaling target", _targets, _deregister),
    *(
        Kind(name, _sagemaker(name, listing, key, field), _delete("sagemaker", deletion, field))
        for name, listing, key, field, deletion in SAGEMAKER
    ),
    Kind("model package", _packages, _delete("sagemaker", "delete_model_package", "ModelPackageName")),
    Kind(
        "model package group",
        _package_groups,
        _delete("sagemaker", "delete_model_package_group", "ModelPackageGroupName"),
        "AWS::SageMaker::ModelPackageGroup",
    ),
    Kind("Greengrass deployment", _deployments, _delete_deployment, "AWS::GreengrassV2::Deployment"),
    Kind("IoT job", _iot_jobs, _delete_job, late=True),
    Kind(
        "Greengrass component",
        _components,
        _delete("greengrassv2", "delete_component", "arn"),
        "AWS::GreengrassV2::ComponentVersion",
    ),
    Kind("Greengrass core device", _cores, _delete("greengrassv2", "delete_core_device", "coreDeviceThingName")),
    Kind("IoT certificate", _certificates, _delete_certificate),
    Kind("IoT thing", _things, _delete("iot", "delete_thing", "thingName")),
    Kind(LOGGING, _logging, _stop_logging),
    Kind(OBJECTS, _objects, empty),
    Kind("container image", _images, _delete_image),
    *inventory_jobs.KINDS,
    Kind(LOGS, _log_groups, _delete("logs", "delete_log_group", "logGroupName"), "AWS::Logs::LogGroup", late=True),
)
