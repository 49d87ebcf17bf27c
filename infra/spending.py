"""The month's budget: people are told as it fills; when it is spent, or the day is over, the endpoint is deleted."""

from __future__ import annotations

from typing import Any

from aws_cdk import Aws
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_events as events
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra import bundles
from infra.config import Settings
from infra.functions import Function
from infra.lake import Lake
from infra.naming import Names
from infra.network import Network
from infra.permissions import Allow
from infra.staging import Staging


class Spending(Construct):
    """The budget, the topic that it calls when it is spent, and the function on that topic.

    AWS Budgets itself stops EC2 and RDS alone, so the way to the endpoint is a topic and a function. Jobs end at their
    own time limits; what is left that could cost more is the endpoint, and a release brings it back.
    """

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
        endpoint: str,
        people: str,
    ) -> None:
        super().__init__(scope, id)
        self._settings, self._names, self._lake, self._network = settings, names, lake, network
        self.halt = self._halt(staging, endpoint)
        self.topic = self._topic()
        self._subscribe()
        self._budget(people)
        if settings.serving.delete_at:
            self._every_day(settings.serving.delete_at)

    def _halt(self, staging: Staging, endpoint: str) -> Function:
        return Function(
            self,
            "Halt",
            name=bundles.HALT.name,
            names=self._names,
            code=staging.archive(bundles.HALT),
            key=self._lake.key,
            network=self._network,
            environment={"ENDPOINT_NAME": endpoint},
            allows=[
                Allow(
                    actions=["sagemaker:DeleteEndpoint", "sagemaker:DescribeEndpoint"],
                    on=[self._names.arn("sagemaker", f"endpoint/{endpoint}")],
                ),
            ],
            description="Deletes the endpoint when the month's budget is spent",
            unused="called when the month's budget is spent",
        )

    def _topic(self) -> sns.CfnTopic:
        topic = sns.CfnTopic(
            self,
            "Topic",
            topic_name=self._names.of("spent"),
            display_name=f"{self._names.prefix} budget spent",
            kms_master_key_id=self._lake.key.key_arn,
        )
        statements: list[dict[str, Any]] = [
            {
                "Sid": "TheBudgetAlone",
                "Effect": "Allow",
                "Principal": {"Service": "budgets.amazonaws.com"},
                "Action": "sns:Publish",
                "Resource": topic.ref,
                "Condition": {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
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
        return topic

    def _subscribe(self) -> None:
        function = self.halt.function.function_arn
        may_call = lambda_.CfnPermission(
            self,
            "TopicMayCall",
            action="lambda:InvokeFunction",
            function_name=function,
            principal="sns.amazonaws.com",
            source_arn=self.topic.ref,
        )
        halts = sns.CfnSubscription(self, "Halts", topic_arn=self.topic.ref, protocol="lambda", endpoint=function)
        halts.add_resource_dependency(may_call)
        if self._settings.budget.email:
            sns.CfnSubscription(
                self, "Person", topic_arn=self.topic.ref, protocol="email", endpoint=self._settings.budget.email
            )

    def _every_day(self, at: str) -> None:
        """What an instance costs by the hour is not paid over night; the release of the next day makes it anew."""
        hour, _, minute = at.partition(":")
        function = self.halt.function.function_arn
        rule = events.CfnRule(
            self,
            "EveryDay",
            name=self._names.of("endofday"),
            description=f"deletes the endpoint each day at {at} UTC",
            schedule_expression=f"cron({int(minute)} {int(hour)} * * ? *)",
            targets=[events.CfnRule.TargetProperty(id="halt", arn=function)],
        )
        lambda_.CfnPermission(
            self,
            "EveryDayMayCall",
            action="lambda:InvokeFunction",
            function_name=function,
            principal="events.amazonaws.com",
            source_arn=rule.attr_arn,
        )

    def _budget(self, people: str) -> None:
        """A notification has one topic: people hear of four fifths and of the forecast, the function of the end."""
        told = [("ACTUAL", 80, people), ("FORECASTED", 100, people), ("ACTUAL", 100, self.topic.ref)]
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
                    subscribers=[budgets.CfnBudget.SubscriberProperty(subscription_type="SNS", address=topic)],
                )
                for kind, percent, topic in told
            ],
        )
