"""How a real device joins: the provisioning template, the claim's policy, and the hook that knows who is expected."""

from __future__ import annotations

import json

from aws_cdk import Aws
from aws_cdk import aws_iot as iot
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra import bundles
from infra.functions import Function
from infra.lake import Lake
from infra.naming import Names
from infra.network import Network
from infra.permissions import Allow, role, seldom, service
from infra.staging import Staging

JOINS = "called when a device joins the fleet"


class Provisioning(Construct):
    """A device with the claim certificate gets a certificate of its own when its thing was registered before."""

    def __init__(
        self, scope: Construct, id: str, *, names: Names, lake: Lake, network: Network, staging: Staging
    ) -> None:
        super().__init__(scope, id)
        self._names, self._network = names, network
        self.template_name = names.of("join")
        self.hook = self._hook(lake, staging)
        self._template()
        iot.CfnPolicy(self, "ClaimPolicy", policy_name=names.of("claim"), policy_document=self._claim_policy())

    def _hook(self, lake: Lake, staging: Staging) -> Function:
        return Function(
            self,
            "Provision",
            name=bundles.PROVISION.name,
            names=self._names,
            code=staging.archive(bundles.PROVISION),
            key=lake.key,
            network=self._network,
            environment={"CORE_GROUP": self._names.of("core")},
            allows=[
                Allow(
                    actions=["iot:ListThingGroupsForThing", "iot:ListThingPrincipals"],
                    on=[self._things()],
                    why="devices are named after the stack and join after it is deployed",
                ),
            ],
            description="Refuses a device that its owner did not register",
            unused=JOINS,
        )

    def _joining(self) -> list[Allow]:
        """What AWS IoT does for a device that joins. Source: the managed policy AWSIoTThingsRegistration, narrowed."""
        arn = self._names.arn
        certificates = (
            *("iot:AttachPolicy", "iot:AttachPrincipalPolicy", "iot:AttachThingPrincipal"),
            *("iot:DescribeCertificate", "iot:ListPrincipalThings", "iot:UpdateCertificate"),
        )
        return [
            Allow(
                actions=["iot:RegisterThing", "iot:ListPrincipalPolicies"],
                on=["*"],
                why="neither takes a resource",
            ),
            Allow(
                actions=certificates,
                on=[arn("iot", "cert/*")],
                why="a certificate's id is made when a device joins",
            ),
            Allow(
                actions=["iot:CreateThing", "iot:DescribeThing", "iot:ListThingPrincipals", "iot:UpdateThing"],
                on=[self._things()],
                why="things are named after the stack and join after it is deployed",
            ),
            Allow(actions=["iot:GetPolicy"], on=[arn("iot", f"policy/{self._names.of('device')}")]),
        ]

    def _template(self) -> None:
        arn = self._names.arn
        body = {
            "Parameters": {"ThingName": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
            "Resources": {
                "thing": {
                    "Type": "AWS::IoT::Thing",
                    "OverrideSettings": {"AttributePayload": "MERGE", "ThingGroups": "DO_NOTHING"},
                    "Properties": {"ThingName": {"Ref": "ThingName"}},
                },
                "certificate": {
                    "Type": "AWS::IoT::Certificate",
                    "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
                },
                "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": self._names.of("device")}},
            },
        }
        provisions = role(
            self,
            "Role",
            trusts=service("iot.amazonaws.com", account=Aws.ACCOUNT_ID),
            description="Attaches a certificate to a device's thing",
            allows=seldom(self._joining(), JOINS),
        )
        may_call = lambda_.CfnPermission(
            self,
            "HookMayBeCalled",
            action="lambda:InvokeFunction",
            function_name=self.hook.function.function_arn,
            principal="iot.amazonaws.com",
            source_account=Aws.ACCOUNT_ID,
            source_arn=arn("iot", f"provisioningtemplate/{self.template_name}"),
        )
        template = iot.CfnProvisioningTemplate(
            self,
            "Template",
            template_name=self.template_name,
            description="A registered thing gets its certificate",
            enabled=True,
            provisioning_role_arn=provisions.role_arn,
            template_body=json.dumps(body, sort_keys=True),
            pre_provisioning_hook=iot.CfnProvisioningTemplate.ProvisioningHookProperty(
                payload_version="2020-04-01", target_arn=self.hook.function.function_arn
            ),
        )
        template.add_resource_dependency(may_call)

    def _things(self) -> str:
        return self._names.arn("iot", f"thing/{self._names.prefix}-*")

    def _claim_policy(self) -> dict[str, object]:
        """Ask for a certificate, and have it registered by this one template; nothing else.

        Nucleus lite sends a certificate request, the classic nucleus has the key made in the cloud.
        """
        arn = self._names.arn
        topics = [
            "$aws/certificates/create/*",
            "$aws/certificates/create-from-csr/*",
            f"$aws/provisioning-templates/{self.template_name}/provision/*",
        ]
        statements: list[dict[str, object]] = [
            {"Action": "iot:Connect", "Resource": [arn("iot", "client/*")]},
            {"Action": ["iot:Publish", "iot:Receive"], "Resource": [arn("iot", f"topic/{topic}") for topic in topics]},
            {"Action": "iot:Subscribe", "Resource": [arn("iot", f"topicfilter/{topic}") for topic in topics]},
        ]
        return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement} for statement in statements]}
