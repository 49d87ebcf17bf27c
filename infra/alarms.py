"""What must not stay unseen, as alarms, and what is worth a look, as one dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra.config import Settings
from infra.functions import Function
from infra.machine import Machine
from infra.naming import Names

CALLS = ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors")
LATENCIES = ("ModelLatency", "OverheadLatency")
VARIANT = "live"
# The endpoint's own figures, from its log; pipelines/jobs/metrics.py writes them.
STAGES = ("queue", "decode", "infer", "encode", "total")
# Of the devices; pipelines/functions/feedback.py writes them from telemetry and alerts.
DRIFT = "DriftAlerts"
WORK = ("Inferences", "InferenceErrors", "CorruptInputs")
TROUBLE = ("OverBudget", "Drops", "Rejections", "Reverts", "Degraded", "Hangs")
DISTANCES = ("DriftPsi", "DriftKs", DRIFT)
SILENT_PERIODS = 3


class Alarms(Construct):
    """One alarm per machine and function, the endpoint's, the devices' own, and one page that shows all."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        names: Names,
        machines: Sequence[Machine],
        functions: Sequence[Function],
        endpoint: str,
        namespace: str,
        topic_arn: str,
    ) -> None:
        super().__init__(scope, id)
        self._names, self._topic_arn = names, topic_arn
        self.dashboard_name = names.prefix
        alarms = [self._machine(machine) for machine in machines]
        alarms += [self._function(function) for function in functions]
        alarms += [self._endpoint(endpoint), *self._devices(namespace)]
        self._dashboard(machines, endpoint, namespace, [alarm.attr_arn for alarm in alarms])

    def _machine(self, machine: Machine) -> cloudwatch.CfnAlarm:
        return self._alarm(
            f"{machine.node.id}Failed",
            name=f"{machine.name}-failed",
            description="An execution failed or the gate refused the model",
            namespace="AWS/States",
            metric="ExecutionsFailed",
            dimensions={"StateMachineArn": machine.arn},
        )

    def _function(self, function: Function) -> cloudwatch.CfnAlarm:
        return self._alarm(
            f"{function.node.id}Errors",
            name=f"{function.name}-errors",
            description="A function raised an error",
            namespace="AWS/Lambda",
            metric="Errors",
            dimensions={"FunctionName": function.name},
        )

    def _endpoint(self, endpoint: str) -> cloudwatch.CfnAlarm:
        return self._alarm(
            "EndpointErrors",
            name=self._names.of("endpoint-errors"),
            description="The endpoint answered with a server error",
            namespace="AWS/SageMaker",
            metric="Invocation5XXErrors",
            dimensions={"EndpointName": endpoint, "VariantName": VARIANT},
        )

    def _devices(self, namespace: str) -> list[cloudwatch.CfnAlarm]:
        """What a person must act on. A drift alert is a window that a device judged at a stated false-alarm rate
        (models/drift.py), so one is enough; the state change makes the labelling queue (watch.py)."""
        told = {
            "Drift": (DRIFT, "drift", "What a device sees is unlike what its model was trained on; see: lab label"),
            "Reverts": ("Reverts", "reverts", "A device took a model back that it had accepted"),
            "Degraded": ("Degraded", "degraded", "A device serves in degraded mode"),
        }
        alarms = [
            self._alarm(
                id, name=self._names.of(name), description=why, namespace=namespace, metric=metric, dimensions={}
            )
            for id, (metric, name, why) in told.items()
        ]
        return [*alarms, self._silence(namespace)]

    def _silence(self, namespace: str) -> cloudwatch.CfnAlarm:
        """Telemetry comes each minute. When none does the state becomes INSUFFICIENT_DATA, and that is what tells; a
        stack that never had a device is in that state from the start, and tells no one."""
        alarm = self._alarm(
            "Silent",
            name=self._names.of("silent"),
            description="No device has reported for a quarter of an hour (the state is INSUFFICIENT_DATA then)",
            namespace=namespace,
            metric="Inferences",
            dimensions={},
            statistic="SampleCount",
            periods=SILENT_PERIODS,
        )
        alarm.comparison_operator = "LessThanThreshold"
        alarm.treat_missing_data = "missing"
        alarm.insufficient_data_actions = [self._topic_arn]
        return alarm

    def _alarm(
        self,
        id: str,
        *,
        name: str,
        description: str,
        namespace: str,
        metric: str,
        dimensions: dict[str, str],
        statistic: str = "Sum",
        threshold: float = 1,
        periods: int = 1,
    ) -> cloudwatch.CfnAlarm:
        pairs = [cloudwatch.CfnAlarm.DimensionProperty(name=key, value=value) for key, value in dimensions.items()]
        return cloudwatch.CfnAlarm(
            self,
            id,
            alarm_name=name,
            alarm_description=description,
            namespace=namespace,
            metric_name=metric,
            dimensions=pairs or None,
            statistic=statistic,
            period=300,
            evaluation_periods=periods,
            threshold=threshold,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=[self._topic_arn],
        )

    def _dashboard(self, machines: Sequence[Machine], endpoint: str, namespace: str, alarm_arns: Sequence[str]) -> None:
        live = ["EndpointName", endpoint, "VariantName", VARIANT]
        executions: list[list[Any]] = [
            ["AWS/States", metric, "StateMachineArn", machine.arn, {"label": f"{machine.name} {metric}"}]
            for machine in machines
            for metric in ("ExecutionsSucceeded", "ExecutionsFailed")
        ]
        charts: list[tuple[str, list[list[Any]], str]] = [
            ("Executions", executions, "Sum"),
            ("Endpoint: calls and errors", [["AWS/SageMaker", metric, *live] for metric in CALLS], "Sum"),
            ("Endpoint: microseconds", [["AWS/SageMaker", metric, *live] for metric in LATENCIES], "p95"),
            ("Endpoint: milliseconds by stage, 95th percentile", self._stages(endpoint), "Maximum"),
            ("Devices: answers, errors, inputs that cannot be read", [[namespace, name] for name in WORK], "Sum"),
            ("Devices: over budget, dropped, rejected, reverted", [[namespace, name] for name in TROUBLE], "Sum"),
            ("Devices: milliseconds", [[namespace, "LatencyP95"]], "Maximum"),
            ("Devices: distance from the training data, the worst", [[namespace, n] for n in DISTANCES], "Maximum"),
            ("Devices: confidence", [[namespace, "Confidence"]], "Average"),
            ("Each device: answers", [_each_device(namespace, "Inferences", "Sum")], "Sum"),
        ]
        widgets = [
            _chart(number, title, metrics, stat, self._names.region)
            for number, (title, metrics, stat) in enumerate(charts)
        ]
        below = 6 * ((len(charts) + 1) // 2)
        properties = {"title": "Alarms", "alarms": list(alarm_arns)}
        widgets.append({"type": "alarm", "x": 0, "y": below, "width": 24, "height": 4, "properties": properties})
        cloudwatch.CfnDashboard(
            self,
            "Dashboard",
            dashboard_name=self.dashboard_name,
            dashboard_body=Stack.of(self).to_json_string({"widgets": widgets}),
        )

    def _stages(self, endpoint: str) -> list[list[Any]]:
        namespace = self._names.namespace("Endpoint")
        return [[namespace, f"{stage}_p95_ms", "EndpointName", endpoint] for stage in STAGES]


def _each_device(namespace: str, metric: str, statistic: str) -> list[Any]:
    """A line for each thing that reported, whatever things there are."""
    search = f"SEARCH('{{{namespace},Thing}} MetricName=\"{metric}\"', '{statistic}', 300)"
    return [{"expression": search, "id": "each", "label": ""}]


def _chart(number: int, title: str, metrics: Sequence[Sequence[Any]], stat: str, region: str) -> dict[str, Any]:
    """Two charts a row, each half of the page's 24 columns."""
    return {
        "type": "metric",
        "x": 12 * (number % 2),
        "y": 6 * (number // 2),
        "width": 12,
        "height": 6,
        "properties": {
            "title": title,
            "region": region,
            "view": "timeSeries",
            "stat": stat,
            "period": 300,
            "metrics": metrics,
        },
    }
