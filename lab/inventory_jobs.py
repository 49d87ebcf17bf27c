"""SageMaker's jobs of the flow: their records, and what they wrote to the log groups that all jobs of an account share.

Jobs bear the end of an execution's name, not the lab's; the flow gives them the lab's tag. Executions, as long as the
stack stands, know those that the tag index does not show yet.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from lab.cloud import Cloud
from lab.inventory import TAG, Found, Kind, Scope

# Of each kind in an ARN: its word in the names of operations, and where SageMaker keeps its log.
JOBS = {
    "training-job": ("training_job", "TrainingJob", "/aws/sagemaker/TrainingJobs"),
    "processing-job": ("processing_job", "ProcessingJob", "/aws/sagemaker/ProcessingJobs"),
    "hyper-parameter-tuning-job": ("hyper_parameter_tuning_job", "HyperParameterTuningJob", ""),
}
ARN = re.compile(rf"arn:[^:]+:sagemaker:[^:]+:[^:]+:({'|'.join(JOBS)})/(.+)")
PATIENCE_SECONDS = 300.0
RECORD = "job"


def is_job(arn: str) -> bool:
    """Whether an ARN is of a job that this module finds."""
    return ARN.fullmatch(arn) is not None


def _jobs(cloud: Cloud, whose: Scope) -> Iterator[tuple[str, str, str]]:
    """Kind, name and ARN of every job with the lab's tag, as the tag index has them, and of those with its name."""
    for operation, word, _ in JOBS.values():
        listed = cloud.rows("sagemaker", f"list_{operation}s", f"{word}Summaries", NameContains=whose.prefix)
        for row in listed:
            found = ARN.fullmatch(str(row[f"{word}Arn"]))
            if found and whose.owns(found[2]):
                yield found[1], found[2], found[0]
    wanted = [{"Key": TAG, "Values": [whose.prefix]}]
    for row in cloud.rows("resourcegroupstaggingapi", "get_resources", "ResourceTagMappingList", TagFilters=wanted):
        found = ARN.fullmatch(str(row["ResourceARN"]))
        if found:
            yield found[1], found[2], found[0]


def _status(cloud: Cloud, kind: str, name: str) -> str:
    """The job's status, "" when there is none: the index may be behind."""
    from botocore.exceptions import ClientError

    operation, word, _ = JOBS[kind]
    try:
        answer = getattr(cloud.client("sagemaker"), f"describe_{operation}")(**{f"{word}Name": name})
    except ClientError as error:
        if "not found" in str(error).lower() or "could not find" in str(error).lower():
            return ""
        raise
    return str(answer[f"{word}Status"])


def _records(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    for kind, name, arn in _jobs(cloud, whose):
        if _status(cloud, kind, name):
            yield Found(RECORD, f"{kind} {name}", arn)


def _delete(cloud: Cloud, one: Found) -> None:
    """Stops a job that runs, and deletes its record when it has ended."""
    found = ARN.fullmatch(str(one.id))
    assert found is not None
    kind, name = found[1], found[2]
    operation, word, _ = JOBS[kind]
    client, which = cloud.client("sagemaker"), {f"{word}Name": name}
    deadline = time.monotonic() + PATIENCE_SECONDS
    if _status(cloud, kind, name) == "InProgress":
        getattr(client, f"stop_{operation}")(**which)
    while _status(cloud, kind, name) in ("InProgress", "Stopping") and time.monotonic() < deadline:
        time.sleep(0.2 if cloud.local else 5.0)
    getattr(client, f"delete_{operation}")(**which)


def _streams(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    groups = {str(row["logGroupName"]) for row in cloud.rows("logs", "describe_log_groups", "logGroups")}
    stems = {name for _, name, _ in _jobs(cloud, whose)} | set(_executed(cloud, whose))
    for group in sorted(groups & {log for _, _, log in JOBS.values()}):
        for stem in sorted(stems):
            given = {"logGroupName": group, "logStreamNamePrefix": stem}
            for row in cloud.rows("logs", "describe_log_streams", "logStreams", **given):
                yield Found("log stream of a job", f"{group}: {row['logStreamName']}", (group, row["logStreamName"]))


def _executed(cloud: Cloud, whose: Scope) -> Iterator[str]:
    """What the names of the jobs of every execution begin with."""
    for machine in cloud.rows("stepfunctions", "list_state_machines", "stateMachines"):
        if whose.owns(str(machine["name"])):
            given = {"stateMachineArn": machine["stateMachineArn"]}
            for row in cloud.rows("stepfunctions", "list_executions", "executions", **given):
                yield str(row["name"]).rpartition("_")[2]


def _delete_stream(cloud: Cloud, one: Found) -> None:
    cloud.client("logs").delete_log_stream(logGroupName=one.id[0], logStreamName=one.id[1])


# The streams first: the records say which they are.
KINDS = (Kind("log stream of a job", _streams, _delete_stream), Kind(RECORD, _records, _delete))
