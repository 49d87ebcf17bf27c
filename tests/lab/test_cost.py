"""The estimate: priced where the table knows, said where it does not."""

import pytest

from lab import cost
from lab.history import State

TEMPLATE = {
    "Resources": {
        "Key": {"Type": "AWS::KMS::Key", "Properties": {}},
        "Job": {"Type": "AWS::Glue::Job", "Properties": {"NumberOfWorkers": 2, "WorkerType": "G.1X"}},
        "Build": {
            "Type": "AWS::CodeBuild::Project",
            "Properties": {"Environment": {"ComputeType": "BUILD_GENERAL1_SMALL"}},
        },
    }
}


def state(resource: str, seconds: float, **parameters: object) -> State:
    return State("S", "flow", resource, 0.0, seconds, seconds, parameters=dict(parameters))


def test_an_hour_of_training_costs_the_hour() -> None:
    cluster = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2}
    found = cost.estimate([state("sagemaker:createTrainingJob.sync", 3600, ResourceConfig=cluster)], TEMPLATE)
    assert found["estimate_usd"] == pytest.approx(0.46, abs=0.001)


def test_glue_bills_a_minute_at_least() -> None:
    short, minute = (cost.estimate([state("glue:startJobRun.sync", s)], TEMPLATE)["estimate_usd"] for s in (5, 60))
    assert short == minute == pytest.approx(0.44 * 2 / 60, abs=0.001)


def test_an_instance_that_the_table_lacks_is_named_and_left_out() -> None:
    cluster = {"ClusterConfig": {"InstanceType": "ml.z9.huge", "InstanceCount": 1}}
    found = cost.estimate([state("sagemaker:createProcessingJob.sync", 60, ProcessingResources=cluster)], TEMPLATE)
    assert found["unpriced"] == ["S"] and "ml.z9.huge" in found["rows"][0]["how"]


def test_a_search_is_priced_by_all_trials_that_run_at_once() -> None:
    given = {
        "HyperParameterTuningJobConfig": {"ResourceLimits": {"MaxParallelTrainingJobs": 3}},
        "TrainingJobDefinition": {"ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1}},
    }
    found = cost.estimate([state("sagemaker:createHyperParameterTuningJob.sync", 3600, **given)], TEMPLATE)
    assert found["estimate_usd"] == pytest.approx(3 * 0.23, abs=0.001)


def test_what_stands_counts_by_the_month_and_not_by_the_run() -> None:
    found = cost.estimate([], TEMPLATE)
    assert found["idle_month_usd"] == 1.0 and found["estimate_usd"] == 0.0


def test_an_estimate_says_of_when_its_prices_are() -> None:
    assert len(cost.estimate([], TEMPLATE)["prices"]["date"].split("-")) == 3
