"""What AWS asks of a caller for each operation: actions, resources and condition keys.

Covers: the operations that jobs, functions, state machines, endpoints and devices of a lab call. An operation that is
not here is refused by name when a role calls it. Source: the "Actions, resources, and condition keys" pages of AWS's
Service Authorization Reference, and the role pages of the services that act with a role passed to them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab.wire import Call

if TYPE_CHECKING:
    from lab.engine import Engine

Given = Mapping[str, Any]


@dataclass(frozen=True)
class Need:
    """One permission; `context` has condition keys in lower case. `both`: the resource's policy must allow it too."""

    action: str
    resource: str
    context: Mapping[str, list[str]] = field(default_factory=dict)
    both: bool = False


class Unknown(Exception):
    """The table does not have the operation."""


# Service by botocore's name: what its actions begin with, and the resource of each operation whose action is its name.
PLAIN: dict[str, tuple[str, dict[str, str]]] = {
    "dynamodb": (
        "dynamodb",
        dict.fromkeys(
            ("PutItem", "UpdateItem", "GetItem", "DeleteItem", "Scan", "Query"), "dynamodb:table/{TableName|last}"
        ),
    ),
    "sagemaker": (
        "sagemaker",
        {
            "DescribeTrainingJob": "sagemaker:training-job/{TrainingJobName}",
            "DescribeProcessingJob": "sagemaker:processing-job/{ProcessingJobName}",
            "DescribeHyperParameterTuningJob": ("sagemaker:hyper-parameter-tuning-job/{HyperParameterTuningJobName}"),
            "StopTrainingJob": "sagemaker:training-job/{TrainingJobName}",
            "StopProcessingJob": "sagemaker:processing-job/{ProcessingJobName}",
            "DescribeEndpoint": "sagemaker:endpoint/{EndpointName}",
            "DeleteEndpoint": "sagemaker:endpoint/{EndpointName}",
            "DescribeEndpointConfig": "sagemaker:endpoint-config/{EndpointConfigName}",
            "ListEndpoints": "*",
            "DescribeModelPackage": "{ModelPackageName}",
            "UpdateModelPackage": "{ModelPackageArn}",
            "ListModelPackages": "sagemaker:model-package/{ModelPackageGroupName|last}/*",
        },
    ),
    "sagemaker-runtime": ("sagemaker", {"InvokeEndpoint": "sagemaker:endpoint/{EndpointName}"}),
    "lambda": ("lambda", {"Invoke": "lambda:function:{FunctionName|function}"}),
    "glue": (
        "glue",
        {
            **dict.fromkeys(("StartJobRun", "GetJobRun", "GetJobRuns", "BatchStopJobRun"), "glue:job/{JobName}"),
            "GetDatabase": "glue:database/{Name}",
        },
    ),
    "codebuild": ("codebuild", {"StartBuild": "codebuild:project/{projectName|last}"}),
    "ecr": (
        "ecr",
        {"DescribeImages": "ecr:repository/{repositoryName}", "GetAuthorizationToken": "*"},
    ),
    "events": (
        "events",
        {"PutEvents": "events:event-bus/default", "DescribeRule": "events:rule/{Name}"},
    ),
    "stepfunctions": ("states", {"StartExecution": "{stateMachineArn}"}),
    "greengrassv2": (
        "greengrass",
        {
            "DescribeComponent": "{arn}",
        },
    ),
    "iot": (
        "iot",
        {
            "DescribeJob": "iot:job/{jobId}",
            "GetJobDocument": "iot:job/{jobId}",
            "DescribeThingGroup": "iot:thinggroup/{thingGroupName}",
            "ListThingsInThingGroup": "iot:thinggroup/{thingGroupName}",
            "ListThingGroupsForThing": "iot:thing/{thingName}",
            "ListThingPrincipals": "iot:thing/{thingName}",
        },
    ),
    "iot-data": ("iot", {"Publish": "iot:topic/{topic}"}),
    "sns": ("sns", {"Publish": "{TopicArn}"}),
    "sts": ("sts", {"GetCallerIdentity": ""}),
    "logs": (
        "logs",
        dict.fromkeys(("CreateLogStream", "PutLogEvents"), "logs:log-group:{logGroupName}:log-stream:{logStreamName}"),
    ),
}


def of(engine: Engine, call: Call) -> list[Need]:
    """What a caller needs for one call. Raises Unknown, which names the operation."""
    name = f"{call.service}:{call.operation}"
    special = SPECIAL.get(name)
    if special is not None:
        return list(special(engine, call.parameters))
    prefix, known = PLAIN.get(call.service, ("", {}))
    resource = known.get(call.operation)
    if resource is None:
        raise Unknown(
            f"the desk engine does not know which permissions {name} needs (lab/needs.py), so no role may call it"
        )
    if not resource:
        return []  # AWS lets everyone
    action = "lambda:InvokeFunction" if name == "lambda:Invoke" else f"{prefix}:{call.operation}"
    return [Need(action, _filled(engine, resource, call.parameters))]


def _filled(engine: Engine, template: str, given: Given) -> str:
    """An ARN from `service:resource` or a bare `{Parameter}`."""
    word = template
    while "{" in word:
        before, _, rest = word.partition("{")
        name, _, after = rest.partition("}")
        name, _, how = name.partition("|")
        value = str(given.get(name, "*"))
        if how == "last" and value.startswith("arn:"):
            value = value.rpartition("/")[2]
        elif how == "function":
            value = value.rpartition("function:")[2].partition(":")[0]
        word = f"{before}{value}{after}"
    if word == "*" or word.startswith("arn:"):
        return word
    service, _, resource = word.partition(":")
    return f"arn:aws:{service}:{engine.region}:{engine.account}:{resource}"


def passes(role: str, service: str) -> Need:
    """Handing a role to a service."""
    return Need("iam:PassRole", role, {"iam:passedtoservice": [f"{service}.amazonaws.com"]})


def _job(kind: str, word: str) -> Callable[[Engine, Given], Iterator[Need]]:
    """CreateTrainingJob and its like: the job, its tags, the role that it gets."""

    def needed(engine: Engine, given: Given) -> Iterator[Need]:
        resource = _filled(engine, f"sagemaker:{kind}-job/{{{word}JobName}}", given)
        yield Need(f"sagemaker:Create{word}Job", resource)
        if given.get("Tags"):
            yield Need("sagemaker:AddTags", resource)
        definition = given.get("TrainingJobDefinition") or {}
        role = given.get("RoleArn") or definition.get("RoleArn")
        if role:
            yield passes(role, "sagemaker")

    return needed


def _create(kind: str, name: str, action: str) -> Callable[[Engine, Given], Iterator[Need]]:
    """CreateModel and its like."""

    def needed(engine: Engine, given: Given) -> Iterator[Need]:
        resource = _filled(engine, f"sagemaker:{kind}/{{{name}}}", given)
        yield Need(action, resource)
        if given.get("EndpointConfigName") and kind == "endpoint":
            yield Need(action, _filled(engine, "sagemaker:endpoint-config/{EndpointConfigName}", given))
        if given.get("Tags"):
            yield Need("sagemaker:AddTags", resource)
        if given.get("ExecutionRoleArn"):
            yield passes(given["ExecutionRoleArn"], "sagemaker")

    return needed


def _model_package(engine: Engine, given: Given) -> Iterator[Need]:
    group = str(given.get("ModelPackageGroupName") or "").rpartition("/")[2]
    package = f"arn:aws:sagemaker:{engine.region}:{engine.account}:model-package/{group}/*"
    yield Need("sagemaker:CreateModelPackage", _filled(engine, f"sagemaker:model-package-group/{group}", given))
    yield Need("sagemaker:CreateModelPackage", package)
    if given.get("Tags"):
        yield Need("sagemaker:AddTags", package)
    # SageMaker looks at image and archive in the caller's name.
    for container in (given.get("InferenceSpecification") or {}).get("Containers") or []:
        yield from pulls(engine, str(container.get("Image", "")))
        bucket, _, key = str(container.get("ModelDataUrl", "")).removeprefix("s3://").partition("/")
        if key:
            yield from _s3("GetObject", "Decrypt")(engine, {"Bucket": bucket, "Key": key})


def _builds(engine: Engine, given: Given) -> Iterator[Need]:
    for build in given.get("ids") or ["*"]:
        yield Need("codebuild:BatchGetBuilds", _filled(engine, f"codebuild:project/{build.partition(':')[0]}", given))


def _component(engine: Engine, given: Given) -> Iterator[Need]:
    recipe = given.get("inlineRecipe") or b"{}"
    about = json.loads(base64.b64decode(recipe) if isinstance(recipe, str) else recipe)
    name = about.get("ComponentName", "*")
    yield Need("greengrass:CreateComponentVersion", _filled(engine, f"greengrass:components:{name}", given))
    # Greengrass hashes the artefacts in the caller's name.
    for manifest in about.get("Manifests") or []:
        for artifact in manifest.get("Artifacts") or []:
            bucket, _, key = str(artifact.get("URI") or artifact.get("Uri")).removeprefix("s3://").partition("/")
            yield from _s3("GetObject", "Decrypt")(engine, {"Bucket": bucket, "Key": key})


def _deployments(engine: Engine, given: Given) -> Iterator[Need]:
    """Listing deployments or reading one; Greengrass looks at the group and the job behind in the caller's name."""
    if given.get("deploymentId"):
        yield Need("greengrass:GetDeployment", _filled(engine, "greengrass:deployments:{deploymentId}", given))
    else:
        yield Need("greengrass:ListDeployments", "*")
    if ":thinggroup/" in str(given.get("targetArn")):
        yield Need("iot:DescribeThingGroup", str(given["targetArn"]))
    yield Need("iot:DescribeJob", f"arn:aws:iot:{engine.region}:{engine.account}:job/*")


def _deployment(engine: Engine, given: Given) -> Iterator[Need]:
    """CreateDeployment and the IoT job that Greengrass makes of it as the caller; a newer one cancels the older's."""
    target = str(given.get("targetArn") or "*")
    job = f"arn:aws:iot:{engine.region}:{engine.account}:job/*"
    yield Need("greengrass:CreateDeployment", "*")
    yield Need("iot:CreateJob", target)
    yield Need("iot:CreateJob", job)
    yield Need("iot:DescribeThingGroup", target)
    for action in ("CancelJob", "DescribeJob", "UpdateJob"):
        yield Need(f"iot:{action}", job)


def _metrics(engine: Engine, given: Given) -> Iterator[Need]:
    yield metrics(str(given.get("Namespace", "")))


def metrics(namespace: str) -> Need:
    """Putting metrics into a namespace."""
    return Need("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": [namespace]})


def _scaling(action: str) -> Callable[[Engine, Given], Iterator[Need]]:
    def needed(engine: Engine, given: Given) -> Iterator[Need]:
        namespace = {"application-autoscaling:service-namespace": [str(given.get("ServiceNamespace"))]}
        if given.get("ScalableDimension"):
            namespace["application-autoscaling:scalable-dimension"] = [str(given["ScalableDimension"])]
        yield Need(
            f"application-autoscaling:{action}",
            f"arn:aws:application-autoscaling:{engine.region}:{engine.account}:scalable-target/*",
            namespace,
        )

    return needed


def of_key(engine: Engine, bucket: str, *actions: str) -> Iterator[Need]:
    """The use of a bucket's own KMS key, which S3 makes in the caller's name. A bucket without one needs nothing."""
    arn = bucket_key(engine, bucket)
    if arn is None:
        return
    context = {
        "kms:viaservice": [f"s3.{engine.region}.amazonaws.com"],
        "kms:encryptioncontext:aws:s3:arn": [f"arn:aws:s3:::{bucket}"],
    }
    for action in actions:
        yield Need(f"kms:{action}", arn, context, both=True)


def bucket_key(engine: Engine, bucket: str) -> str | None:
    """The ARN of the KMS key that a bucket encrypts with by default."""
    from moto.s3.models import s3_backends

    found = s3_backends[engine.account]["aws"].buckets.get(bucket)
    rules = ((found.encryption or {}) if found is not None else {}).get("Rule") or []
    for rule in rules if isinstance(rules, list) else [rules]:
        applied = rule.get("ApplyServerSideEncryptionByDefault") or {}
        if applied.get("SSEAlgorithm") == "aws:kms" and applied.get("KMSMasterKeyID"):
            named = str(applied["KMSMasterKeyID"])
            known = named.startswith("arn:")
            return named if known else f"arn:aws:kms:{engine.region}:{engine.account}:key/{named}"
    return None


def _s3(action: str, *key_actions: str) -> Callable[[Engine, Given], Iterator[Need]]:
    def needed(engine: Engine, given: Given) -> Iterator[Need]:
        bucket, key = str(given.get("Bucket")), str(given.get("Key", ""))
        yield Need(f"s3:{action}", f"arn:aws:s3:::{bucket}/{key}")
        yield from of_key(engine, bucket, *key_actions)

    return needed


def _list(engine: Engine, given: Given) -> Iterator[Need]:
    yield Need("s3:ListBucket", f"arn:aws:s3:::{given.get('Bucket')}", {"s3:prefix": [str(given.get("Prefix", ""))]})


def _bucket(action: str) -> Callable[[Engine, Given], Iterator[Need]]:
    def needed(engine: Engine, given: Given) -> Iterator[Need]:
        yield Need(f"s3:{action}", f"arn:aws:s3:::{given.get('Bucket')}")

    return needed


def _copy(engine: Engine, given: Given) -> Iterator[Need]:
    source = str(given.get("CopySource", "")).lstrip("/").partition("?")[0]
    bucket, _, key = source.partition("/")
    yield Need("s3:GetObject", f"arn:aws:s3:::{bucket}/{key}")
    yield from of_key(engine, bucket, "Decrypt")
    yield from _s3("PutObject", "GenerateDataKey")(engine, given)


SPECIAL: dict[str, Callable[[Engine, Given], Iterator[Need]]] = {
    "s3:HeadObject": _s3("GetObject", "Decrypt"),
    "s3:GetObject": _s3("GetObject", "Decrypt"),
    "s3:PutObject": _s3("PutObject", "GenerateDataKey"),
    "s3:CopyObject": _copy,
    "s3:CreateMultipartUpload": _s3("PutObject", "GenerateDataKey"),
    "s3:UploadPart": _s3("PutObject", "GenerateDataKey", "Decrypt"),
    "s3:CompleteMultipartUpload": _s3("PutObject", "Decrypt"),
    "s3:AbortMultipartUpload": _s3("AbortMultipartUpload"),
    "s3:DeleteObject": _s3("DeleteObject"),
    "s3:ListObjects": _list,
    "s3:ListObjectsV2": _list,
    "s3:HeadBucket": _bucket("ListBucket"),
    "s3:GetBucketLocation": _bucket("GetBucketLocation"),
    "cloudwatch:PutMetricData": _metrics,
    "codebuild:BatchGetBuilds": _builds,
    "greengrassv2:CreateComponentVersion": _component,
    "greengrassv2:CreateDeployment": _deployment,
    "greengrassv2:GetDeployment": _deployments,
    "greengrassv2:ListDeployments": _deployments,
    "sagemaker:CreateTrainingJob": _job("training", "Training"),
    "sagemaker:CreateProcessingJob": _job("processing", "Processing"),
    "sagemaker:CreateHyperParameterTuningJob": _job("hyper-parameter-tuning", "HyperParameterTuning"),
    "sagemaker:CreateTransformJob": _job("transform", "Transform"),
    "sagemaker:CreateModel": _create("model", "ModelName", "sagemaker:CreateModel"),
    "sagemaker:CreateEndpointConfig": _create(
        "endpoint-config", "EndpointConfigName", "sagemaker:CreateEndpointConfig"
    ),
    "sagemaker:CreateEndpoint": _create("endpoint", "EndpointName", "sagemaker:CreateEndpoint"),
    "sagemaker:UpdateEndpoint": _create("endpoint", "EndpointName", "sagemaker:UpdateEndpoint"),
    "sagemaker:CreateModelPackage": _model_package,
    "application-autoscaling:RegisterScalableTarget": _scaling("RegisterScalableTarget"),
    "application-autoscaling:PutScalingPolicy": _scaling("PutScalingPolicy"),
}


PULL = ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer")


def pulls(engine: Engine, image: str) -> list[Need]:
    """Pulling an image by its URI `<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>`."""
    registry, _, rest = image.partition("/")
    account, region = registry.split(".")[0], registry.split(".")[3] if registry.count(".") > 4 else engine.region
    repository = f"arn:aws:ecr:{region}:{account}:repository/{rest.partition('@')[0].partition(':')[0]}"
    return [Need("ecr:GetAuthorizationToken", "*"), *(Need(f"ecr:{action}", repository) for action in PULL)]
