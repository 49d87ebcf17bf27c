"""Every physical name of the stack, and the ARNs that follow from them.

Names are fixed so that a role can name what another construct creates, without a circle of references.
"""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Aws


@dataclass(frozen=True)
class Names:
    """Names within one account and region, all starting with `prefix`."""

    prefix: str
    region: str

    def of(self, suffix: str) -> str:
        """`<prefix>-<suffix>`."""
        return f"{self.prefix}-{suffix}"

    def bucket(self, role: str) -> str:
        """A globally unique bucket name: prefix, what it holds, account, region."""
        return f"{self.prefix}-{role}-{Aws.ACCOUNT_ID}-{self.region}"

    def component(self, name: str) -> str:
        """A Greengrass component, such as `ml-lab-dev.Model`."""
        return f"{self.prefix}.{name}"

    def topic_rule(self, name: str) -> str:
        """An IoT rule, whose name admits no dash."""
        return f"{self.prefix}-{name}".replace("-", "_")

    def namespace(self, of: str) -> str:
        """Where the lab's own metrics of something lie in CloudWatch, such as `ml-lab-dev/Endpoint`."""
        return f"{self.prefix}/{of}"

    def arn(self, service: str, resource: str) -> str:
        """The ARN of something in this account and region."""
        return f"arn:{Aws.PARTITION}:{service}:{self.region}:{Aws.ACCOUNT_ID}:{resource}"

    def log_group_arn(self, group: str) -> str:
        """ARN pattern of a log group and all its streams."""
        return self.arn("logs", f"log-group:{group}:*")
