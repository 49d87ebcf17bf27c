"""Who read, wrote and deleted which object of the data bucket, as CloudTrail writes it down for later questions."""

from __future__ import annotations

from typing import Any

from aws_cdk import Aws
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.lake import Lake
from infra.naming import Names

FOLDER = "trail"


class Audit(Construct):
    """A trail of data events alone: the account's own trail has the management events, and a second copy would cost."""

    def __init__(self, scope: Construct, id: str, *, names: Names, lake: Lake) -> None:
        super().__init__(scope, id)
        self.trail_name = names.of("trail")
        arn = names.arn("cloudtrail", f"trail/{self.trail_name}")
        self._let_it_deliver(lake, arn)
        trail = cloudtrail.CfnTrail(
            self,
            "Trail",
            trail_name=self.trail_name,
            is_logging=True,
            s3_bucket_name=lake.logs.bucket_name,
            s3_key_prefix=FOLDER,
            kms_key_id=lake.key.key_arn,
            enable_log_file_validation=True,
            include_global_service_events=False,
            is_multi_region_trail=False,
            advanced_event_selectors=[
                cloudtrail.CfnTrail.AdvancedEventSelectorProperty(
                    name="Objects of the data bucket",
                    field_selectors=[
                        _is("eventCategory", equal_to=["Data"]),
                        _is("resources.type", equal_to=["AWS::S3::Object"]),
                        _is("resources.ARN", starts_with=[f"{lake.data.bucket_arn}/"]),
                    ],
                )
            ],
        )
        policy = lake.logs.policy
        assert policy is not None
        trail.node.add_dependency(policy)

    def _let_it_deliver(self, lake: Lake, trail_arn: str) -> None:
        """CloudTrail asks for the bucket's ACL first. Source: CloudTrail user guide, bucket policy for a trail."""
        who = iam.ServicePrincipal("cloudtrail.amazonaws.com")
        only = {"StringEquals": {"aws:SourceArn": trail_arn}}
        written = f"{lake.logs.bucket_arn}/{FOLDER}/AWSLogs/{Aws.ACCOUNT_ID}/*"
        for sid, action, on in (
            ("TrailLooks", "s3:GetBucketAcl", lake.logs.bucket_arn),
            ("TrailWrites", "s3:PutObject", written),
        ):
            statement = iam.PolicyStatement(
                sid=sid, principals=[who], actions=[action], resources=[on], conditions=only
            )
            lake.logs.add_to_resource_policy(statement)


def _is(field: str, **how: Any) -> cloudtrail.CfnTrail.AdvancedFieldSelectorProperty:
    return cloudtrail.CfnTrail.AdvancedFieldSelectorProperty(field=field, **how)
