"""What the embedded AWS covers, as data, and the page docs/fidelity.md made of it.

    python -m lab.coverage > docs/fidelity.md

executed      the work is done here: code runs, data moves, messages arrive
emulated      kept, read back and consistent with the rest, without the effect that it has in AWS
not covered   refused where it is asked for; or granted in a policy and used by nothing on the desk
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lab.definition import OPTIMISED, SDK
from lab.resources import KINDS

EXECUTED, EMULATED, NOT_COVERED = "executed", "emulated", "not covered"

Row = tuple[str, str]

_OBJECTS: Row = (EXECUTED, "Objects, versions and metadata, in memory.")
_LOGS: Row = (
    EXECUTED,
    "Streams and events; jobs and functions write here when they end. Metrics in the embedded format reach CloudWatch.",
)
_LAYERS: Row = (NOT_COVERED, "Images have no layers here; CodeBuild registers the tag with PutImage.")
_KEPT: Row = (EXECUTED, "A record that nothing runs behind.")
_LOG_DELIVERY: Row = (NOT_COVERED, "Execution logs do not go to CloudWatch Logs; the history is in Step Functions.")
_TRACES: Row = (NOT_COVERED, "No traces are written; the setting of the state machine is kept.")
_JOB: Row = (EXECUTED, "The job is a child process; describe follows it to its end.")
_JOINS: Row = (NOT_COVERED, "No MQTT broker listens here, so no device joins by a claim certificate.")
_IOT_JOB: Row = (EXECUTED, "A Greengrass deployment is an IoT job too; its counts follow the devices.")

_INTERFACES: Row = (NOT_COVERED, "No network interface is made: children stand on this machine's network.")
_SCALING: Row = (EMULATED, "Kept and read back; one process answers, however many instances a policy asks for.")

# Every action that a role of the template is granted, and every API that code of the lab calls.
ACTIONS: dict[str, Row] = {
    "application-autoscaling:PutScalingPolicy": _SCALING,
    "application-autoscaling:RegisterScalableTarget": _SCALING,
    "cloudwatch:PutMetricData": (EXECUTED, "Metrics are kept, can be read, and alarms are evaluated at once."),
    "codebuild:BatchGetBuilds": (EXECUTED, "Status, phases and the reason of a failure."),
    "codebuild:StartBuild": (EMULATED, "No Docker: source, copies and pins are checked, the files unpacked."),
    "codebuild:StopBuild": (NOT_COVERED, "A build takes less than a second here."),
    "dynamodb:GetItem": (EXECUTED, "With expressions."),
    "dynamodb:PutItem": (EXECUTED, "With conditions."),
    "dynamodb:Query": (EXECUTED, "With expressions."),
    "dynamodb:Scan": (EXECUTED, "With expressions."),
    "dynamodb:UpdateItem": (EXECUTED, "With conditions and expressions."),
    "ecr:BatchCheckLayerAvailability": _LAYERS,
    "ecr:BatchGetImage": (EMULATED, "The manifest names the files of the build's context."),
    "ecr:CompleteLayerUpload": _LAYERS,
    "ecr:DescribeImages": (EXECUTED, "An absent tag is ImageNotFoundException, as in AWS."),
    "ecr:GetAuthorizationToken": (NOT_COVERED, "There is no registry to log in to."),
    "ecr:GetDownloadUrlForLayer": _LAYERS,
    "ecr:InitiateLayerUpload": _LAYERS,
    "ecr:PutImage": (EXECUTED, "Tags, and their immutability."),
    "ecr:UploadLayerPart": _LAYERS,
    "ec2:CreateNetworkInterface": _INTERFACES,
    "ec2:CreateNetworkInterfacePermission": _INTERFACES,
    "ec2:CreateTags": _INTERFACES,
    "ec2:DeleteNetworkInterface": _INTERFACES,
    "ec2:DeleteNetworkInterfacePermission": _INTERFACES,
    "ec2:DescribeDhcpOptions": _INTERFACES,
    "ec2:DescribeNetworkInterfaces": _INTERFACES,
    "ec2:DescribeRouteTables": _INTERFACES,
    "ec2:DescribeSecurityGroups": _INTERFACES,
    "ec2:DescribeSubnets": _INTERFACES,
    "ec2:DescribeVpcEndpoints": _INTERFACES,
    "ec2:DescribeVpcs": _INTERFACES,
    "events:DescribeRule": (EXECUTED, "Rules as made."),
    "events:PutEvents": (EXECUTED, "Delivery in the background, three attempts for each target."),
    "events:PutRule": (EXECUTED, "Patterns; rates and cron by this machine's clock, to the minute."),
    "events:PutTargets": (EXECUTED, "Targets that the desk does not deliver to are refused."),
    "glue:BatchStopJobRun": (EXECUTED, "The run's process ends."),
    "glue:GetConnection": (EMULATED, "Connections as made; a run stands on this machine's network."),
    "glue:GetJobRun": (EXECUTED, "State, times and the error message of a run."),
    "glue:GetJobRuns": (EXECUTED, "The runs of a job."),
    "glue:StartJobRun": (EXECUTED, "Apache Spark in a child process."),
    "greengrass:CreateComponentVersion": (EXECUTED, "Recipes are checked, artefacts fetched and digested."),
    "greengrass:CreateDeployment": (EXECUTED, "The desk's cores carry it out, at the rate of the job's rollout."),
    "greengrass:DescribeComponent": (EXECUTED, "State and errors of a version."),
    "greengrass:GetDeployment": (EXECUTED, "Status as the devices report it."),
    "greengrass:ListDeployments": (EXECUTED, "The newest of each target, or all."),
    "iam:CreateServiceLinkedRole": (NOT_COVERED, "Scaling needs no role here."),
    "iam:PassRole": (EXECUTED, "Checked where a role is handed to SageMaker, and so is that the role trusts it."),
    "iot:AttachPolicy": _JOINS,
    "iot:AttachPrincipalPolicy": _JOINS,
    "iot:AttachThingPrincipal": _JOINS,
    "iot:CancelJob": _IOT_JOB,
    "iot:CreateJob": _IOT_JOB,
    "iot:CreateThing": (EXECUTED, "Things as made."),
    "iot:DescribeCertificate": _JOINS,
    "iot:DescribeJob": _IOT_JOB,
    "iot:DescribeThing": (EXECUTED, "Things as made."),
    "iot:GetJobDocument": (NOT_COVERED, "Greengrass reads it in AWS; the desk's keeps what was deployed."),
    "iot:DescribeThingGroup": (EXECUTED, "Groups as made."),
    "iot:GetPolicy": (EMULATED, "Policies as made; nothing is held against them."),
    "iot:ListPrincipalPolicies": _JOINS,
    "iot:ListPrincipalThings": _JOINS,
    "iot:ListThingGroupsForThing": (EXECUTED, "The groups of a thing."),
    "iot:ListThingPrincipals": (EXECUTED, "The certificates of a thing."),
    "iot:RegisterThing": _JOINS,
    "iot:UpdateCertificate": _JOINS,
    "iot:UpdateThing": (EXECUTED, "Attributes of a thing."),
    "iot:ListThingsInThingGroup": (EXECUTED, "Members of a group."),
    "iot:UpdateJob": _IOT_JOB,
    "kms:CreateGrant": (NOT_COVERED, "Nothing is encrypted at rest, so no service asks for a grant."),
    "kms:Decrypt": (EMULATED, "Services do not call it here: nothing is encrypted at rest."),
    "kms:GenerateDataKey": (EMULATED, "Services do not call it here: nothing is encrypted at rest."),
    "lambda:InvokeFunction": (EXECUTED, "The real handler in a child process with its role's session."),
    "logs:AssociateKmsKey": (EMULATED, "Logs lie in the clear."),
    "logs:CreateLogDelivery": _LOG_DELIVERY,
    "logs:CreateLogGroup": _LOGS,
    "logs:CreateLogStream": _LOGS,
    "logs:DeleteLogDelivery": _LOG_DELIVERY,
    "logs:DescribeLogGroups": _LOGS,
    "logs:DescribeLogStreams": _LOGS,
    "logs:DescribeResourcePolicies": _LOG_DELIVERY,
    "logs:GetLogDelivery": _LOG_DELIVERY,
    "logs:ListLogDeliveries": _LOG_DELIVERY,
    "logs:PutLogEvents": _LOGS,
    "logs:PutResourcePolicy": _LOG_DELIVERY,
    "logs:UpdateLogDelivery": _LOG_DELIVERY,
    "s3:AbortMultipartUpload": _OBJECTS,
    "s3:CopyObject": (EXECUTED, "Judged as reading the one object and writing the other."),
    "s3:DeleteObject": _OBJECTS,
    "s3:GetBucketLocation": _OBJECTS,
    "s3:GetObject": _OBJECTS,
    "s3:GetObjectVersion": _OBJECTS,
    "s3:HeadObject": _OBJECTS,
    "s3:ListBucket": _OBJECTS,
    "s3:PutObject": (
        EXECUTED,
        "Objects, versions and metadata; where one is, If-None-Match refuses; 'Object Created' reaches EventBridge.",
    ),
    "sagemaker:AddTags": (EXECUTED, "Tags of jobs, models and endpoints."),
    "sagemaker:CallMlflowAppApi": (NOT_COVERED, "Runs are tracked in the engine's own sqlite file."),
    "sagemaker:CreateEndpoint": (EXECUTED, "A real serve process behind InvokeEndpoint."),
    "sagemaker:CreateEndpointConfig": _KEPT,
    "sagemaker:CreateHyperParameterTuningJob": (EXECUTED, "Random search; each trial a real training job."),
    "sagemaker:CreateModel": _KEPT,
    "sagemaker:CreateModelPackage": (EXECUTED, "Version, approval, and the event of each change."),
    "sagemaker:CreateProcessingJob": _JOB,
    "sagemaker:CreateTransformJob": (EXECUTED, "The model's own server answers for each object below a prefix."),
    "sagemaker:CreateTrainingJob": (
        EXECUTED,
        "AWS's SageMaker Training Toolkit, a child process for each host; torchrun between hosts, no MPI.",
    ),
    "sagemaker:DeleteEndpoint": (EXECUTED, "The serve process ends."),
    "sagemaker:DescribeEndpoint": (EXECUTED, "Status of the serve process."),
    "sagemaker:DescribeHyperParameterTuningJob": _JOB,
    "sagemaker:DescribeModelPackage": _KEPT,
    "sagemaker:DescribeProcessingJob": _JOB,
    "sagemaker:DescribeTrainingJob": _JOB,
    "sagemaker:InvokeEndpoint": (
        EXECUTED,
        "The request goes to the serve process; data capture, where the config asks for it, goes to S3.",
    ),
    "sagemaker:ListModelPackages": _KEPT,
    "sagemaker:StopHyperParameterTuningJob": _JOB,
    "sagemaker:StopProcessingJob": _JOB,
    "sagemaker:StopTrainingJob": _JOB,
    "sagemaker:UpdateEndpointWeightsAndCapacities": (NOT_COVERED, "One process answers."),
    "sagemaker:UpdateEndpoint": (EXECUTED, "The new process serves before the old one ends."),
    "sagemaker:UpdateModelPackage": (EXECUTED, "Approval reaches EventBridge."),
    "states:StartExecution": (EXECUTED, "moto's interpreter runs the definition."),
    "xray:GetSamplingRules": _TRACES,
    "xray:GetSamplingTargets": _TRACES,
    "xray:PutTelemetryRecords": _TRACES,
    "xray:PutTraceSegments": _TRACES,
}

# What holds everywhere, and what a reader might take for granted.
DIFFERENCES = (
    "Every child, state machine and target acts with its own role's session; a call that identity policy, "
    "boundary or the resource's own policy does not allow is denied in AWS's words (`lab iam` shows what was used). "
    "What a service does with a role before a job's code runs (image, disks, log, metrics) is checked too. An "
    "operation whose permissions `lab/needs.py` does not know is refused to roles by name. Not checked: the "
    "administrator's own calls (`lab env`), a device's policy on topics, keys of tables and topics, policies of VPC "
    "endpoints.",
    "A child may import its bundle, the standard library and what its runtime pins, nothing else; it is not kept from "
    "the machine's files, network, memory or processors.",
    "A VPC is a record here: children with a VpcConfig stand on this machine's network, though the subnets and groups "
    "that they name must exist; flow logs stay empty, endpoint policies are not enforced. A job or model with network "
    "isolation gets no credentials and no endpoint, and its Python sockets reach loopback alone; C code is not kept "
    "from calling.",
    "Jobs, functions, the endpoint and the device all run on the lab's own Python and on this machine's processor, "
    "whatever Runtime, Architectures, GlueVersion or image say. Instance types, workers and memory are kept as labels.",
    "`/opt/ml/...` in arguments, environment and paths of SageMaker jobs stands for the job's folder here.",
    "An image of ours stands for the runtime that lab.json names for it; AWS's PyTorch training images stand for "
    "`job`.",
    "Where the template leaves MLFLOW_TRACKING_URI empty, jobs get the engine's own sqlite file, and `mlflow` with it.",
    "Nothing is encrypted at rest and nothing expires: lifecycle and retention are kept.",
    "A stack is there when the call returns. A stack that does not come up leaves nothing behind; an update that fails "
    "says what stands. A resource that must be replaced is deleted first; one that holds data is not replaced at all.",
    "`.sync` tasks poll every 0.1 s. Executions that no one named get a name; a stopped execution does not stop its "
    "job.",
    "EventBridge delivers at least once. Replaying an archive is the way to have an event delivered again.",
    "The desk has as many core devices as `[edge] devices` says, each a folder, an IPC socket and processes of this "
    "machine. Where there is but one, it is canary and fleet in one and its newest deployment wins; otherwise a second "
    "version of a component from another group is refused, as nucleus lite does.",
    "A minute of a job's rollout lasts one second (LAB_ROLLOUT_MINUTE_S says otherwise); its timeouts are in real "
    "minutes.",
    "A bucket policy's conditions on transport count as fulfilled: loopback stands for TLS.",
    "The command line takes raw objects in, and Spark lays its input out, through one request each (`lab/bulk.py`, "
    "`lab/mirror.py`) instead of thousands; objects, versions and events are the same. The job's role must be allowed "
    "to list and read the prefix as a whole.",
    "`iam:SimulatePrincipalPolicy` answers for roles, from their identity policies alone.",
    "All state is in the engine's memory and its folder, for one account (123456789012) and one region.",
)

REFUSED = (
    ("CloudFormation", "types, properties, attributes and functions that are not below; `Custom::` resources, nested "
     "stacks, macros, stack sets"),
    ("Step Functions", "JSONata, Activities, distributed maps, tasks that are not below"),
    ("EventBridge", "L, W and # in cron, dead-letter queues, other targets than Step Functions, Lambda, SQS, SNS and "
     "log groups"),
    ("Lambda", "other languages than Python, images, layers, destinations"),
    ("SageMaker", "AutoML, compilation and labelling jobs, tuning by other strategies than Random, "
     "pipelines, feature groups, notebooks, domains, serverless cold starts"),
    ("Greengrass v2", "Lambda components, public components besides the nucleus, subdeployments, runWith"),
    ("IoT", "rules with other SQL than `SELECT *` and topic()/timestamp() terms, other actions than Lambda"),
    ("CodeBuild", "overrides, other sources than S3, stopping a build"),
)  # fmt: skip


def page() -> str:
    """docs/fidelity.md."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# Fidelity: what the embedded AWS really does"
    yield ""
    yield "Made from the engine's own tables by `python -m lab.coverage > docs/fidelity.md`; a test holds it against"
    yield "the synthesized template: every resource type, every state machine task, every action a role is granted."
    yield ""
    yield "- **executed**: the work is done here: code runs, data moves, messages arrive."
    yield "- **emulated**: kept, read back and consistent with the rest, without the effect that it has in AWS."
    yield "- **not covered**: refused where it is asked for; or granted in a policy and used by nothing on the desk."
    yield ""
    yield "Nothing else is accepted: what is not on this page is refused by name before anything runs. Every resource"
    yield "is made through its service's API and read back; a property that did not stick fails the deployment."
    yield ""
    yield "## Differences that hold everywhere"
    yield ""
    yield from (f"- {line}" for line in DIFFERENCES)
    yield ""
    yield "## Resource types"
    yield ""
    yield from _table(("type", "how", "what it does here, and what has no effect"), _types())
    yield ""
    yield "## Tasks of state machines"
    yield ""
    yield "Optimised: " + ", ".join(f"`{name}`" for name in sorted(OPTIMISED)) + "."
    yield ""
    sdk = sorted(f"aws-sdk:{service}:{api}" for service, apis in SDK.items() for api in apis)
    yield "Through the SDK: " + ", ".join(f"`{name}`" for name in sdk) + "."
    yield ""
    yield "## APIs"
    yield ""
    rows = ((f"`{name}`", how, note) for name, (how, note) in sorted(ACTIONS.items()))
    yield from _table(("action", "how", "note"), rows)
    yield ""
    yield "## Refused"
    yield ""
    yield from _table(("service", "what"), REFUSED)


def _types() -> Iterator[tuple[str, str, str]]:
    for name, kind in sorted(KINDS.items()):
        inert = [f"{key}: {why}." for key, why in sorted(kind.inert.items())]
        yield f"`{name}`", kind.how, " ".join([kind.note, *inert]).strip()


def _table(head: tuple[str, ...], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def granted(template: Mapping[str, Any]) -> set[str]:
    """Every action that a role of the template is allowed, as its policies spell it."""
    found: set[str] = set()
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::IAM::Role":
            for policy in resource["Properties"].get("Policies", []):
                for statement in policy["PolicyDocument"]["Statement"]:
                    actions = statement.get("Action", []) if statement["Effect"] == "Allow" else []
                    found.update([actions] if isinstance(actions, str) else actions)
    return found


def main() -> int:
    """Prints the page."""
    sys.stdout.write(page())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
