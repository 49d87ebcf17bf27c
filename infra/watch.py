"""What is watched: telemetry into the lake and metrics, alarms, a dashboard, a budget, one topic that tells people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import Aws, RemovalPolicy, Stack
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_iot as iot
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from infra import bundles
from infra.config import Settings
from infra.functions import Function
from infra.lake import Lake
from infra.naming import Names
from infra.permissions import Allow, role
from infra.staging import Staging


CALLS = ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors")


class Watch(Construct):
    """Telemetry rule and feedback function, alarms, dashboard, budget."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        names: Names,
        lake: Lake,
        staging: Staging,
        machines: Sequence[stepfunctions.CfnStateMachine],
        functions: Sequence[Function],
        endpoint: str,
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._names, self._lake = settings, names, lake
        self.namespace = f"{names.prefix}/Edge"
        self.dashboard_name = names.prefix
        self._topic = self._people()
        self.feedback = self._feedback(staging)
        self._telemetry_rule()
        alarms = self._alarms(machines, [*functions, self.feedback], endpoint)
        self._dashboard(machines, endpoint, [alarm.attr_arn for alarm in alarms])
        self._budget()

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
            "FeedbackFunction",
            name=bundles.FEEDBACK.name,
            names=self._names,
            code=staging.archive(bundles.FEEDBACK),
            key=self._lake.key,
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
            description="Keeps each device's telemetry and turns it into metrics",
        )

    def _telemetry_rule(self) -> None:
        """`topic(2)` is the thing by the broker's word; what the payload says of itself is a claim."""
        name = self._names.topic_rule("telemetry")
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
            trusts=iam.ServicePrincipal("iot.amazonaws.com"),
            description="Writes what the telemetry rule could not deliver",
            allows=[
                Allow(
                    actions=["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                    on=[group.log_group_arn],
                    why="a log stream's name is chosen by IoT; the group is this rule's own",
                )
            ],
        )
        rule = iot.CfnTopicRule(
            self,
            "Telemetry",
            rule_name=name,
            topic_rule_payload=iot.CfnTopicRule.TopicRulePayloadProperty(
                sql=f"SELECT *, topic(2) AS topic_thing FROM '{self._names.prefix}/+/telemetry'",
                aws_iot_sql_version="2016-03-23",
                description="Device telemetry to the feedback function",
                rule_disabled=False,
                actions=[
                    iot.CfnTopicRule.ActionProperty(
                        lambda_=iot.CfnTopicRule.LambdaActionProperty(function_arn=self.feedback.function.function_arn)
                    )
                ],
                error_action=iot.CfnTopicRule.ActionProperty(
                    cloudwatch_logs=iot.CfnTopicRule.CloudwatchLogsActionProperty(
                        log_group_name=group.log_group_name, role_arn=writes_errors.role_arn
                    )
                ),
            ),
        )
        lambda_.CfnPermission(
            self,
            "RuleMayCall",
            action="lambda:InvokeFunction",
            function_name=self.feedback.function.function_arn,
            principal="iot.amazonaws.com",
            source_account=Aws.ACCOUNT_ID,
            source_arn=rule.attr_arn,
        )

    def _alarms(
        self, machines: Sequence[stepfunctions.CfnStateMachine], functions: Sequence[Function], endpoint: str
    ) -> list[cloudwatch.CfnAlarm]:
        alarms = [
            self._alarm(
                f"{machine.node.id}Failed",
                f"{machine.state_machine_name}-failed",
                "An execution failed, timed out or was refused by the gate",
                namespace="AWS/States",
                metric="ExecutionsFailed",
                dimensions={"StateMachineArn": machine.attr_arn},
            )
            for machine in machines
        ]
        alarms += [
            self._alarm(
                f"{function.node.id}Errors",
                f"{function.name}-errors",
                "A function raised an error",
                namespace="AWS/Lambda",
                metric="Errors",
                dimensions={"FunctionName": function.name},
            )
            for function in functions
        ]
        alarms.append(
            self._alarm(
                "EndpointErrors",
                self._names.of("endpoint-errors"),
                "The endpoint answered with a server error",
                namespace="AWS/SageMaker",
                metric="Invocation5XXErrors",
                dimensions={"EndpointName": endpoint, "VariantName": "live"},
            )
        )
        alarms.append(
            self._alarm(
                "Drift",
                self._names.of("drift"),
                "What devices see is unlike what the model was trained on; starts the flow again",
                namespace=self.namespace,
                metric="DriftPsi",
                statistic="Average",
                threshold=self._settings.edge.drift_psi,
                periods=3,
            )
        )
        return alarms

    def _alarm(
        self,
        id: str,
        name: str,
        description: str,
        *,
        namespace: str,
        metric: str,
        dimensions: dict[str, str] | None = None,
        statistic: str = "Sum",
        threshold: float = 1,
        periods: int = 1,
    ) -> cloudwatch.CfnAlarm:
        return cloudwatch.CfnAlarm(
            self,
            id,
            alarm_name=name,
            alarm_description=description,
            namespace=namespace,
            metric_name=metric,
            dimensions=[
                cloudwatch.CfnAlarm.DimensionProperty(name=key, value=value)
                for key, value in (dimensions or {}).items()
            ]
            or None,
            statistic=statistic,
            period=300,
            evaluation_periods=periods,
            threshold=threshold,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=[self._topic.ref],
        )

    def _dashboard(
        self, machines: Sequence[stepfunctions.CfnStateMachine], endpoint: str, alarm_arns: Sequence[str]
    ) -> None:
        live = ["EndpointName", endpoint, "VariantName", "live"]
        states: list[list[Any]] = [
            [
                "AWS/States",
                metric,
                "StateMachineArn",
                machine.attr_arn,
                {"label": f"{machine.state_machine_name} {metric}"},
            ]
            for machine in machines
            for metric in ("ExecutionsSucceeded", "ExecutionsFailed")
        ]
        widgets = [
            _widget("State machines", 0, 0, self._names.region, states, stat="Sum"),
            _widget(
                "Endpoint: calls and errors", 12, 0, self._names.region,
                [["AWS/SageMaker", metric, *live] for metric in CALLS], stat="Sum",
            ),
            _widget(
                "Endpoint: microseconds", 0, 6, self._names.region,
                [["AWS/SageMaker", metric, *live] for metric in ("ModelLatency", "OverheadLatency")], stat="p95",
            ),
            _widget(
                "Devices: drift", 12, 6, self._names.region, [[self.namespace, "DriftPsi"]], stat="Average",
            ),
            {
                "type": "alarm", "x": 0, "y": 12, "width": 24, "height": 4,
                "properties": {"title": "Alarms", "alarms": list(alarm_arns)},
            },
        ]  # fmt: skip
        cloudwatch.CfnDashboard(
            self,
            "Dashboard",
            dashboard_name=self.dashboard_name,
            dashboard_body=Stack.of(self).to_json_string({"widgets": widgets}),
        )

    def _budget(self) -> None:
        """Tells people; it cannot stop anything, and nothing here runs when no one uses it."""
        spent = [("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100)]
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=self._names.of("month"),
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=self._settings.budget.month_usd, unit="USD"),
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        notification_type=kind, comparison_operator="GREATER_THAN", threshold=percent
                    ),
                    subscribers=[
                        budgets.CfnBudget.SubscriberProperty(subscription_type="SNS", address=self._topic.ref)
                    ],
                )
                for kind, percent in spent
            ],
        )


def _widget(title: str, x: int, y: int, region: str, metrics: list[list[Any]], *, stat: str) -> dict[str, Any]:
    properties = {
        "title": title,
        "region": region,
        "view": "timeSeries",
        "stat": stat,
        "period": 300,
        "metrics": metrics,
    }
    return {"type": "metric", "x": x, "y": y, "width": 12, "height": 6, "properties": properties}
