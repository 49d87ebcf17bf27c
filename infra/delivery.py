"""What deploys the stack from a repository: a role for GitHub's Actions, without any key, or a CodePipeline.

Neither is there unless `[delivery]` names a repository. The first deployment is a person's, with `lab deploy`: it makes
the role that later ones use.
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Aws, CfnOutput
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.config import Settings
from infra.naming import Names
from infra.permissions import Allow, acknowledge, role

ISSUER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"
QUALIFIER = "hnb659fds"  # of the CDK's bootstrap stack


def may_deploy(settings: Settings, names: Names) -> list[Allow]:
    """What `lab deploy` calls: it has CloudFormation change this stack with the bootstrap's role, and puts assets."""
    region, account = settings.lab.region, Aws.ACCOUNT_ID
    executes = f"arn:{Aws.PARTITION}:iam::{account}:role/cdk-{QUALIFIER}-cfn-exec-role-{account}-{region}"
    assets = f"arn:{Aws.PARTITION}:s3:::cdk-{QUALIFIER}-assets-{account}-{region}"
    may = [
        Allow(
            actions=[
                *("cloudformation:CreateChangeSet", "cloudformation:DeleteChangeSet", "cloudformation:DeleteStack"),
                *("cloudformation:DescribeChangeSet", "cloudformation:DescribeStackEvents"),
                *("cloudformation:DescribeStacks", "cloudformation:ExecuteChangeSet", "cloudformation:GetTemplate"),
            ],
            on=[names.arn("cloudformation", f"stack/{names.prefix}/*")],
            why="CloudFormation gives each stack an id when it is made",
        ),
        Allow(actions=["iam:GetRole"], on=[executes]),
        Allow(
            actions=["iam:PassRole"],
            on=[executes],
            when={"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}},
        ),
        Allow(
            actions=["s3:GetObject", "s3:PutObject"],
            on=[f"{assets}/*"],
            why="an asset's key is the hash of its content",
        ),
        Allow(actions=["s3:ListBucket"], on=[assets]),
        Allow(actions=["ssm:GetParameter"], on=[names.arn("ssm", f"parameter/cdk-bootstrap/{QUALIFIER}/version")]),
        Allow(
            actions=[
                *("ec2:DescribeRegions", "servicequotas:ListAWSDefaultServiceQuotas"),
                "servicequotas:ListServiceQuotas",
            ],
            on=["*"],
            why="these take no resource",
        ),
    ]
    if settings.lab.promote_from:
        may.append(
            Allow(actions=["lambda:InvokeFunction"], on=[names.arn("lambda", f"function:{names.of('promote')}")])
        )
    return may


def deployer(
    scope: Construct, id: str, *, names: Names, trusts: iam.IPrincipal, allows: Sequence[Allow], description: str
) -> iam.Role:
    """A role that deploys, bounded by its own policy: the boundary of all others does not reach so far."""
    made = role(scope, f"{id}Role", trusts=trusts, description=description, allows=allows)
    limit = iam.ManagedPolicy(
        scope,
        f"{id}Boundary",
        managed_policy_name=names.of(f"{id.lower()}-boundary"),
        description=f"The most that this role may ever do: {description}",
        statements=[allow.statement() for allow in allows],
    )
    acknowledge(limit, allows)
    iam.PermissionsBoundary.of(made).apply(limit)
    return made


def reach(settings: Settings) -> list[Allow]:
    """What the pipeline may reach outside of the stack: the repository's connection, where there is one."""
    return [connection(settings)] if settings.delivery.connection else []


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
        self.role = deployer(
            self,
            "Deploy",
            names=names,
            trusts=iam.WebIdentityPrincipal(arn, {"StringEquals": {f"{ISSUER}:aud": AUDIENCE, f"{ISSUER}:sub": who}}),
            description=f"Deploys {names.prefix} from {settings.delivery.github}",
            allows=may_deploy(settings, names),
        )
        CfnOutput(scope, "DeployRoleArn", value=self.role.role_arn)
