"""Findings of cdk-nag and checkov that stand, each with its reason; wildcards of roles have theirs in permissions.py.

AwsSolutions and NIST 800-53 R5 run at every synthesis, checkov and cfn-lint in the tests (`make audit` installs the
former). What is not in this table ends synthesis, or fails the test. checkov finds its reasons in the template itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aws_cdk import CfnResource, Stack

    from infra.config import Settings

NIST = "NIST.800.53.R5"


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """One finding on resources of a type, by the names that the tools give it."""

    kind: str
    reason: str
    nist: str = ""
    checkov: str = ""
    only: str = ""  # the end of the construct's path; empty: every resource of the type
    network: str = ""  # the one network in which it is found; empty: both


ACCEPTED = (
    Accepted(
        kind="AWS::IAM::Role",
        nist="IAMNoInlinePolicy",
        reason="each role has one policy of its own, written beside what it serves and deleted with it; a managed "
        "policy could be attached to another role, and no two of ours do the same",
    ),
    Accepted(
        kind="AWS::Lambda::Function",
        nist="LambdaDLQ",
        checkov="CKV_AWS_116",
        reason="state machines and IoT call with an answer and hear of the error; events are tried three times, each "
        "function's errors raise an alarm, and telemetry, drift and budget are told again",
    ),
    Accepted(
        kind="AWS::Lambda::Function",
        nist="LambdaConcurrency",
        checkov="CKV_AWS_115",
        reason="a reservation takes from what all functions of the account share, which in a new account is ten; the "
        "budget bounds what calls may cost",
    ),
    Accepted(
        kind="AWS::Lambda::Function",
        nist="LambdaInsideVPC",
        checkov="CKV_AWS_117",
        network="none",
        reason="[security] network = 'vpc' puts functions into private subnets; without it they open no port, call "
        "AWS's APIs over TLS alone, and the stack bills nothing while it is idle",
    ),
    Accepted(
        kind="AWS::S3::Bucket",
        nist="S3BucketReplicationEnabled",
        reason="versions protect from deletion; a copy in another region would take the customer's data out of the one "
        "that was agreed, which is the customer's decision",
    ),
    Accepted(
        kind="AWS::S3::Bucket",
        only="Lake/Logs/Resource",
        nist="S3DefaultEncryptionKMS",
        reason="S3 delivers access logs only to a bucket whose default encryption is S3's own key",
    ),
    Accepted(
        kind="AWS::S3::Bucket",
        only="Lake/Logs/Resource",
        checkov="CKV_AWS_18",
        reason="this bucket holds the access logs; logging its own deliveries into itself would never end",
    ),
    Accepted(
        kind="AWS::DynamoDB::Table",
        nist="DynamoDBInBackupPlan",
        reason="point-in-time recovery keeps every second of 35 days; rows say which runs were claimed and can be made "
        "again from the bucket",
    ),
    Accepted(
        kind="AWS::CloudTrail::Trail",
        nist="CloudTrailCloudWatchLogsEnabled",
        reason="the trail is evidence, validated and kept in the log bucket; what must be acted on raises alarms of "
        "its own, and the account's trail has the management events",
    ),
    Accepted(
        kind="AWS::CloudTrail::Trail",
        checkov="CKV_AWS_67",
        reason="its only events are those of one bucket, which lies in one region",
    ),
    Accepted(
        kind="AWS::EC2::VPC",
        network="vpc",
        nist="VPCDefaultSecurityGroupClosed",
        reason="nothing uses the default group: every interface names one of ours; CloudFormation cannot change it",
    ),
)


def accept(stack: Stack, settings: Settings) -> None:
    """Acknowledges the table's findings on the resources that they are found on."""
    from aws_cdk import CfnResource  # not above: the table is read where no Node need start

    rows: dict[str, list[Accepted]] = {}
    for row in ACCEPTED:
        if row.network in ("", settings.security.network):
            rows.setdefault(row.kind, []).append(row)
    for node in stack.node.find_all():
        if isinstance(node, CfnResource):
            found = rows.get(node.cfn_resource_type, [])
            _accept(node, [row for row in found if node.node.path.endswith(row.only)] if found else [])


def _accept(resource: CfnResource, rows: list[Accepted]) -> None:
    from aws_cdk import Acknowledgment, Validations

    nag = [Acknowledgment(id=f"{NIST}::{NIST}-{row.nist}", reason=row.reason) for row in rows if row.nist]
    if nag:
        Validations.of(resource).acknowledge(*nag)
    skipped = [{"id": row.checkov, "comment": row.reason} for row in rows if row.checkov]
    if skipped:
        resource.add_metadata("checkov", {"skip": skipped})
