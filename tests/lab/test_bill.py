"""The bill: its figures, its assumptions, and the refusal above the budget."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lab import bill, cli, prices
from lab.bill import OverBudget, Use
from models import stages
from pipelines.functions import feedback
from pipelines.jobs import metrics

BUDGET = {"run_usd": 5.0, "month_usd": 100.0}
RECORD = {
    "run": "r1",
    "status": "SUCCEEDED",
    "states": [{"name": "Train", "flow": "flow", "resource": "sagemaker:createTrainingJob.sync", "seconds": 3600.0}],
}


def machine(states: dict[str, Any]) -> dict[str, Any]:
    definition = {"DefinitionString": json.dumps({"States": states})}
    return {"Type": "AWS::StepFunctions::StateMachine", "Properties": definition}


def training(instance: str = "ml.m5.xlarge", minutes: int = 60, count: int = 1) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync",
        "Parameters": {
            "ResourceConfig": {"InstanceType": instance, "InstanceCount": count},
            "StoppingCondition": {"MaxRuntimeInSeconds": minutes * 60},
        },
    }


def serving(instance: str) -> dict[str, Any]:
    variants = [{"VariantName": "live", "InstanceType": instance, "InitialInstanceCount": 1}]
    resource = "arn:aws:states:::aws-sdk:sagemaker:createEndpointConfig"
    return {"Type": "Task", "Resource": resource, "Parameters": {"ProductionVariants": variants}}


def drawn(
    states: dict[str, Any],
    records: Sequence[dict[str, Any]] = (RECORD,),
    budget: Any = BUDGET,
    use: Use | None = None,
    extra: dict[str, Any] | None = None,
) -> bill.Bill:
    template = {"Resources": {"Flow": machine(states), "Key": {"Type": "AWS::KMS::Key"}, **(extra or {})}}
    settings = {"budget": budget, "lab": {"region": "us-east-1"}}
    return bill.draw(template, settings, records, prices.load(), use or Use())


def test_a_run_is_priced_by_the_seconds_recorded_and_the_instances_asked_for_now() -> None:
    assert drawn({"Train": training()}).run["usd"] == pytest.approx(0.23, abs=0.001)
    larger = drawn({"Train": training("ml.g5.xlarge", count=2)})
    assert larger.run["usd"] == pytest.approx(2 * 1.408, abs=0.001)


def test_without_a_run_each_job_is_supposed_to_last_ten_minutes_and_the_bill_says_so() -> None:
    found = drawn({"Train": training()}, records=[])
    assert found.run["usd"] == pytest.approx(0.23 / 6, abs=0.001)
    assert found.run["at_most_usd"] == pytest.approx(0.23, abs=0.001)
    assert any("no run is recorded" in line for line in found.assumptions)


def test_a_failed_run_is_no_measure() -> None:
    found = drawn({"Train": training()}, records=[{**RECORD, "status": "FAILED", "run": "r2"}, RECORD])
    assert found.run["from"] == "r1" and found.run["recorded"] == 2


def test_a_month_is_what_stands_and_the_runs_and_each_service_has_its_share() -> None:
    none, ten = (drawn({"Train": training()}, use=Use(runs=count)) for count in (0, 10))
    assert ten.month["usd"] - none.month["usd"] == pytest.approx(10 * 0.23, abs=0.01)
    assert {row["service"]: row["idle_month_usd"] for row in ten.services}["KMS"] == 1.0
    assert ten.idle["day_usd"] == pytest.approx(1.0 / (730 / 24), abs=0.001)


def test_an_endpoint_on_a_gpu_is_above_the_default_cap_and_the_remedy_names_the_setting() -> None:
    found = drawn({"Train": training(), "Config": serving("ml.g5.xlarge")})
    with pytest.raises(OverBudget) as refused:
        bill.refuse_above_budget(found)
    assert "the cap is $100.00" in refused.value.message and "[budget] month_usd" in refused.value.message
    hint = str(refused.value.hint)
    assert "1 × ml.g5.xlarge" in hint and "[serving] serverless = true" in hint and "$1027.84" in hint


def test_whatever_bills_by_the_hour_is_in_the_remedy_with_what_would_end_it() -> None:
    interface = {"VpcEndpointType": "Interface", "SubnetIds": ["a", "b"]}
    found = drawn(
        {"Config": serving("ml.m5.large")},
        extra={"Kms": {"Type": "AWS::EC2::VPCEndpoint", "Properties": interface}},
        budget={"month_usd": 10.0},
    )
    (over,) = found.budget["exceeded"]
    assert (
        "interface endpoint Kms $14.60" in over["remedy"] and "$98.55 of it bill while nothing runs" in over["remedy"]
    )
    assert '[security] network = "none"' in over["remedy"] and "[serving] serverless = true" in over["remedy"]


def test_a_run_above_its_cap_is_refused_with_the_dearest_job_and_its_settings() -> None:
    found = drawn({"Train": training("ml.g5.2xlarge", count=8)})
    with pytest.raises(OverBudget, match=r"a run would cost \$12.12, the cap is \$5.00") as refused:
        bill.refuse_above_budget(found)
    assert "Train" in str(refused.value.hint) and "[train] instance" in str(refused.value.hint)


def test_an_instance_by_the_hour_whose_price_nobody_knows_is_refused_too() -> None:
    with pytest.raises(OverBudget, match="at a price that is not known") as refused:
        bill.refuse_above_budget(drawn({"Config": serving("ml.p9.48xlarge")}))
    assert "ml.p9.48xlarge" in str(refused.value.hint)


def test_within_the_budget_nothing_is_refused() -> None:
    bill.refuse_above_budget(drawn({"Train": training()}))


def test_the_labs_own_stack_is_within_its_default_budget_with_and_without_a_run(synthesized: Path) -> None:
    lab = json.loads((synthesized / "lab.json").read_text())
    template = json.loads((synthesized / lab["template"]).read_text())
    for records in ([], [RECORD]):
        found = bill.draw(template, lab["settings"], records, prices.load(), Use())
        bill.refuse_above_budget(found)
        assert found.unpriced == [] and found.idle["hourly"] == []


def test_the_command_prints_one_document_or_a_page_for_people(
    synthesized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    (tmp_path / "runs" / "r1").mkdir(parents=True)
    (tmp_path / "runs" / "r1" / "record.json").write_text(json.dumps(RECORD))
    assert cli.main(["cost", "--app", str(synthesized), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["run"]["from"] == "r1" and document["run"]["usd"] == pytest.approx(0.23, abs=0.001)
    assert document["prices"]["sources"]["AmazonSageMaker"].startswith("https://")
    assert document["idle"]["day_usd"] > 0 and document["assumptions"] and document["services"]
    assert cli.main(["cost", "--app", str(synthesized), "--runs", "0"]) == 0
    said = capsys.readouterr().out
    assert "idle, a month" in said and "assumptions" in said and "0 runs" in said
    assert "https://aws.amazon.com/sagemaker/ai/pricing/" in said


def test_metrics_are_counted_as_the_stack_makes_them() -> None:
    assert len(feedback.METRICS) == bill.TELEMETRY_METRICS
    each_stage = len(stages.STAGES) * len(stages.PERCENTILES)
    assert each_stage + len(metrics.COUNTS) == bill.ENDPOINT_METRICS
