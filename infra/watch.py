"""Telemetry and alerts into lake and metrics, the topic that tells people, alarms; the budget is spending.py's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import Aws, RemovalPolicy
from aws_cdk import aws_events as events
from aws_cdk import aws_iot as iot
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra import bundles
from infra.alarms import Alarms
from infra.config import Settings
from infra.functions import Function
from infra.lake import Lake
from infra.machine import Machine
from infra.naming import Names
from infra.network import Network
from infra.permissions import Allow, role, service
from infra.spending import Spending
from infra.staging import Staging


class Watch(Construct):
    """Rules for telemetry and alerts, the feedback function, the topic, alarms with their dashboard, the budget."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        names: Names,
        lake: Lake,
        network: Network,
        staging: Staging,
        machines: Sequence[Machine],
        functions: Sequence[Function],
        endpoint: str,
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._names, self._lake, self._network = settings, names, lake, network
        self.namespace = f"{names.prefix}/Edge"
        self._topic = self._people()
        self.feedback = self._feedback(staging)
        self._rules()
        self.labelling = self._labelling(staging)
        self.spending = Spending(
            self,
            "Spending",
            settings=settings,
            names=names,
            lake=lake,
            network=network,
            staging=staging,
            endpoint=endpoint,
            people=self._topic.ref,
        )
        self.alarms = Alarms(
            self,
            "Alarms",
            settings=settings,
            names=names,
            machines=machines,
            functions=[*functions, self.feedback, self.labelling, self.spending.halt],
            endpoint=endpoint,
            namespace=self.namespace,
            topic_arn=self._topic.ref,
        )
        self._on_drift()

    def _people(self) -> sns.CfnTopic:
        topic = sns.CfnTopic(
            self,
            "Topic",
            topic_name=self._names.of("alarms"),
            display_name=f"{self._names.prefix} alarms",
            kms_master_key_id=self._lake.key.key_arn,
        )
        own_account = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
        statements: list[dict[str, Any]] = [
            {
                "Sid": "AlarmsAndBudget",
                "Effect": "Allow",
                "Principal": {"Service": ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]},
                "Action": "sns:Publish",
                "Resource": topic.ref,
                "Condition": own_account,
            },
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": {"AWS": "*"},
                "Action": "sns:Publish",
                "Resource": topic.ref,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ]
        sns.CfnTopicPolicy(
            self, "TopicPolicy", topics=[topic.ref], policy_document={"Version": "2012-10-17", "Statement": statements}
        )
        if self._settings.budget.email:
            sns.CfnSubscription(
                self, "Person", topic_arn=topic.ref, protocol="email", endpoint=self._settings.budget.email
            )
        return topic

    def _feedback(self, staging: Staging) -> Function:
        return Function(
            self,
            "Feedback",
            name=bundles.FEEDBACK.name,
            names=self._names,
            code=staging.archive(bundles.FEEDBACK),
            key=self._lake.key,
            network=self._network,
            environment={"BUCKET": self._lake.data.bucket_name, "NAMESPACE": self.namespace},
            allows=[
                self._lake.write("telemetry/"),
                self._lake.use_key(),
                Allow(
                    actions=["cloudwatch:PutMetricData"],
                    on=["*"],
                    when={"StringEquals": {"cloudwatch:namespace": self.namespace}},
                    why="PutMetricData has no resource; the namespace is fixed by condition",
                ),
            ],
            description="Keeps what each device reports and turns it into metrics",
        )

    def _labelling(self, staging: Staging) -> Function:
        dataset = self._settings.data.dataset
        samples = f"raw/{dataset}-device/"
        return Function(
            self,
            "Labelling",
            name=bundles.LABELLING.name,
            names=self._names,
            code=staging.archive(bundles.LABELLING),
            key=self._lake.key,
            network=self._network,
            environment={
                "BUCKET": self._lake.data.bucket_name,
                "DATASET": dataset,
                "MOST": str(self._settings.edge.queue_rows),
            },
            allows=[
                self._lake.read(samples),
                self._lake.list_keys(samples),
                Allow(actions=["s3:PutObject"], on=[f"{self._lake.data.bucket_arn}/{samples}labels.csv"]),
                self._lake.use_key(),
            ],
            description="Gathers what devices sent into a queue that a person labels",
            unused="called when the data drift",
            timeout_s=300,
        )

    def _on_drift(self) -> None:
        """Drift alone brings no label: the queue is made at once, and the flow starts with what a person labels."""
        function = self.labelling.function.function_arn
        rule = events.CfnRule(
            self,
            "DriftRule",
            name=self._names.of("drift"),
            description="devices see data unlike the training data",
            event_pattern={
                "source": ["aws.cloudwatch"],
                "detail-type": ["CloudWatch Alarm State Change"],
                "detail": {"alarmName": [self._names.of("drift")], "state": {"value": ["ALARM"]}},
            },
            targets=[events.CfnRule.TargetProperty(id="labelling", arn=function)],
        )
        lambda_.CfnPermission(
            self,
            "DriftRuleMayCall",
            action="lambda:InvokeFunction",
            function_name=function,
            principal="events.amazonaws.com",
            source_arn=rule.attr_arn,
        )

    def _rules(self) -> None:
        """One rule for each topic that a device reports on; `results` stay on the broker for whoever subscribes."""
        group = logs.LogGroup(
            self,
            "RuleErrors",
            log_group_name=f"/{self._names.prefix}/iot-rule-errors",
            encryption_key=self._lake.key,
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
        )
        writes_errors = role(
            self,
            "RuleErrorsRole",
            trusts=service("iot.amazonaws.com", account=Aws.ACCOUNT_ID),
            description="Writes what the rules on device topics could not deliver",
            allows=[
                Allow(
                    actions=["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                    on=[group.log_group_arn],
                    why="a log stream's name is chosen by IoT; the group is these rules' own",
                    unused="written when IoT cannot reach the function behind a rule",
                )
            ],
        )
        undelivered = iot.CfnTopicRule.ActionProperty(
            cloudwatch_logs=iot.CfnTopicRule.CloudwatchLogsActionProperty(
                log_group_name=group.log_group_name, role_arn=writes_errors.role_arn
            )
        )
        self._rule("telemetry", "Device telemetry to the feedback function", undelivered)
        self._rule("alert", "What happened on a device, at once, to the feedback function", undelivered)

    def _rule(self, topic: str, description: str, undelivered: iot.CfnTopicRule.ActionProperty) -> None:
        """`topic(2)` is the thing by the broker's word; what the payload says of itself is a claim."""
        function = self.feedback.function.function_arn
        rule = iot.CfnTopicRule(
            self,
            topic.title(),
            rule_name=self._names.topic_rule(topic),
            topic_rule_payload=iot.CfnTopicRule.TopicRulePayloadProperty(
                sql=f"SELECT *, topic(2) AS topic_thing FROM '{self._names.prefix}/+/{topic}'",
                aws_iot_sql_version="2016-03-23",
                description=description,
                rule_disabled=False,
                actions=[
                    iot.CfnTopicRule.ActionProperty(
                        lambda_=iot.CfnTopicRule.LambdaActionProperty(function_arn=function)
                    )
                ],
                error_action=undelivered,
            ),
        )
        lambda_.CfnPermission(
            self,
            f"{topic.title()}RuleMayCall",
            action="lambda:InvokeFunction",
            function_name=function,
            principal="iot.amazonaws.com",
            source_account=Aws.ACCOUNT_ID,
            source_arn=rule.attr_arn,
        )
