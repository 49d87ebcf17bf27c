"""What deploys the stack from a repository: a role for GitHub's Actions, without any key, or a CodePipeline.

Neither is there unless `[delivery]` names a repository. The first deployment is a person's, with `lab deploy`: it makes
the role that later ones use.
"""

from __future__ import annotations

from aws_cdk import Aws, CfnOutput
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.config import Settings
from infra.naming import Names
from infra.permissions import Allow, role

ISSUER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"
# Roles of the CDK's bootstrap stack: they hold the rights, and CloudFormation uses them.
BOOTSTRAP = ("deploy", "file-publishing", "lookup")
QUALIFIER = "hnb659fds"


def may_deploy(settings: Settings, names: Names) -> list[Allow]:
    """What `lab deploy` calls by itself; all else it does through the bootstrap stack's roles."""
    region, account = settings.lab.region, Aws.ACCOUNT_ID
    there = f"arn:{Aws.PARTITION}:iam::{account}:role/cdk-{QUALIFIER}"
    may = [
        Allow(actions=["sts:AssumeRole"], on=[f"{there}-{kind}-role-{account}-{region}" for kind in BOOTSTRAP]),
        Allow(
            actions=["cloudformation:DescribeStacks", "cloudformation:DescribeStackEvents"],
            on=[names.arn("cloudformation", f"stack/{names.prefix}/*")],
            why="CloudFormation gives each stack an id when it is made",
        ),
        Allow(actions=["ssm:GetParameter"], on=[names.arn("ssm", f"parameter/cdk-bootstrap/{QUALIFIER}/version")]),
    ]
    if settings.lab.promote_from:
        may.append(
            Allow(actions=["lambda:InvokeFunction"], on=[names.arn("lambda", f"function:{names.of('promote')}")])
        )
    return may


def reach(settings: Settings, names: Names) -> list[Allow]:
    """What roles of the delivery may reach outside of the stack; nothing where nothing is delivered."""
    delivery = settings.delivery
    if not (delivery.github or delivery.connection):
        return []
    connected = [connection(settings)] if delivery.connection else []
    return [*may_deploy(settings, names), *connected]


def connection(settings: Settings) -> Allow:
    """Fetch the repository through the connection that a person has made."""
    return Allow(actions=["codeconnections:UseConnection"], on=[str(settings.delivery.connection)])


class GitHub(Construct):
    """The role that a workflow of one repository takes in one of its environments.

    GitHub signs who runs: AWS trusts the token for this repository and environment alone; who must approve a job
    of that environment is set in GitHub. An account has the identity provider once: `provider` is "existing"
    where it is there already.
    """

    def __init__(self, scope: Construct, id: str, *, settings: Settings, names: Names) -> None:
        super().__init__(scope, id)
        arn = f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:oidc-provider/{ISSUER}"
        if settings.delivery.provider == "create":
            made = iam.CfnOIDCProvider(self, "Provider", url=f"https://{ISSUER}", client_id_list=[AUDIENCE])
            arn = made.attr_arn
        who = f"repo:{settings.delivery.github}:environment:{settings.lab.environment}"
        self.role = role(
            self,
            "Role",
            trusts=iam.WebIdentityPrincipal(arn, {"StringEquals": {f"{ISSUER}:aud": AUDIENCE, f"{ISSUER}:sub": who}}),
            description=f"Deploys {names.prefix} from {settings.delivery.github}",
            allows=may_deploy(settings, names),
        )
        CfnOutput(scope, "DeployRoleArn", value=self.role.role_arn)
