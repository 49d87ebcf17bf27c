"""The state machines as AWS reads them: every task retries and catches, every path leads somewhere."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from infra import flow, release_flow, rollout

FLOW = [
    "ReadManifest",
    "Claim",
    "FindJobImage",
    "Etl",
    "Train",
    "Evaluate",
    "Gate",
    "GatePassed",
    "WhatShips",
    "Export",
    "ReleaseGate",
    "ReleaseGatePassed",
    "FindServeImage",
    "Register",
    "RecordPending",
    "PendingApproval",
]
RELEASE = [
    "Prepare",
    "FindServeImage",
    "CreateModel",
    "CreateEndpointConfig",
    "EndpointExists",
    "CreateEndpoint",
    "PublishComponent",
    "DescribeEndpoint",
    "EndpointReady",
    "LastGood",
    "DeployCanary",
    "CountCanary",
    "CanaryHasDevices",
    "DescribeCanary",
    "CanaryReady",
    "BeginWatch",
    "JudgeCanaries",
    "Verdict",
    "DeployFleet",
    "CountFleet",
    "FleetHasDevices",
    "DescribeFleet",
    "FleetReady",
    "RecordRelease",
    "Released",
]
FUNCTIONS = {
    name: f"arn:aws:lambda:us-east-1:1:function:p-{name}"
    for name in ("gate", "register", "release", "verdict", "failure")
}


def flow_parts(**more: Any) -> flow.Parts:
    return flow.Parts(
        code="c0de",
        table="p-runs",
        glue_job="p-etl",
        functions=FUNCTIONS,
        job_repository="p-job",
        job_tag="tag",
        job_project="p-job-image",
        serve_repository="p-serve",
        serve_tag="tag",
        serve_project="p-serve-image",
        pixels=32,
        corrupt_share=0.01,
        seed=1,
        minutes=60,
        train={"TrainingJobName": "t"},
        evaluate={"ProcessingJobName": "e"},
        export={"ProcessingJobName": "x"},
        **more,
    )


def flow_definition() -> dict[str, Any]:
    return flow.definition(flow_parts())


def release_definition(**other: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "functions": FUNCTIONS,
        "serve_repository": "p-serve",
        "serve_tag": "tag",
        "serve_image": "p-serve:tag",
        "serve_project": "p-serve-image",
        "serve_role": "arn:aws:iam::1:role/serve",
        "endpoint": "p-endpoint",
        "environment": {},
        "isolation": {},
        "tags": [{"Key": "lab", "Value": "p"}],
        "variant": {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1},
        "volume_key": None,
        "capture": None,
        "scaling": None,
        "rollout": rollout.Rollout(
            functions=FUNCTIONS,
            group_arns={"canary": "arn:canary", "fleet": "arn:fleet"},
            group_names={"canary": "p-canary", "fleet": "p-fleet"},
            model_component="p.Model",
            abort_failed_percent=10.0,
            timeout_minutes=60,
            per_minute=10,
            factor=2.0,
        ),
    }
    return release_flow.definition(release_flow.Parts(**(given | other)))


MACHINES = {"flow": flow_definition(), "release": release_definition()}
TASKS = [
    (machine, name)
    for machine, definition in MACHINES.items()
    for name, state in definition["States"].items()
    if state["Type"] == "Task"
]


def leads_to(state: dict[str, Any]) -> Iterator[str]:
    yield from (state[key] for key in ("Next", "Default") if key in state)
    yield from (branch["Next"] for branch in (*state.get("Choices", ()), *state.get("Catch", ())))


@pytest.mark.parametrize(("machine", "name"), TASKS)
def test_every_task_retries_when_throttled_and_catches_every_error(machine: str, name: str) -> None:
    state = MACHINES[machine]["States"][name]
    throttled = state["Retry"][-1]
    assert throttled["ErrorEquals"] and throttled["MaxAttempts"] >= 3 and throttled["BackoffRate"] > 1
    assert "States.ALL" not in throttled["ErrorEquals"] and "States.TaskFailed" not in throttled["ErrorEquals"]
    last = state["Catch"][-1]
    assert last["ErrorEquals"] == ["States.ALL"]
    assert last["ResultPath"] == "$.error"
    assert state["TimeoutSeconds"] > 0


@pytest.mark.parametrize("machine", MACHINES)
def test_every_next_exists_and_every_state_is_reached(machine: str) -> None:
    definition = MACHINES[machine]
    assert reached(definition["States"], definition["StartAt"]) == set(definition["States"])


@pytest.mark.parametrize(("machine", "expected"), [("flow", FLOW), ("release", RELEASE)])
def test_the_good_way_through_passes_these_states_in_order(machine: str, expected: list[str]) -> None:
    definition, passed = MACHINES[machine], []
    name = definition["StartAt"]
    while name:
        passed.append(name)
        state = definition["States"][name]
        following = [candidate for candidate in leads_to(state) if candidate in expected and candidate not in passed]
        name = min(following, key=expected.index) if following else ""
    assert passed == expected


@pytest.mark.parametrize(("machine", "name"), TASKS)
def test_what_fails_is_recorded_before_the_execution_ends(machine: str, name: str) -> None:
    states = MACHINES[machine]["States"]
    if states[name]["Resource"].endswith("lambda:invoke") and name in (
        "Refuse",
        "RecordFailure",
        "RecordReleaseFailure",
    ):
        return
    caught = states[name]["Catch"][-1]["Next"]
    if machine == "release" and name in reached(states, "WhatToRollBack"):
        assert caught == "ReleaseFailed", "the failure that is rolled back was recorded before"
        return
    ends = {states[here]["Type"] for here in reached(states, caught)} & {"Fail", "Succeed"}
    assert ends == {"Fail"}
    unrecorded = reached(states, caught, past=("RecordFailure", "RecordReleaseFailure"))
    assert "Fail" not in {states[here]["Type"] for here in unrecorded}


def reached(states: dict[str, Any], start: str, past: tuple[str, ...] = ()) -> set[str]:
    """Every state that execution may come to from `start`, looking no further than `past`."""
    found, queue = set[str](past), [start]
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += leads_to(states[name])
    return found - set(past)


def test_a_claim_that_stands_ends_well_and_one_that_failed_may_be_taken_again() -> None:
    claim = MACHINES["flow"]["States"]["Claim"]
    assert claim["Catch"][0]["ErrorEquals"] == ["DynamoDB.ConditionalCheckFailedException"]
    assert MACHINES["flow"]["States"][claim["Catch"][0]["Next"]]["Type"] == "Succeed"
    condition = claim["Parameters"]["ConditionExpression"]
    assert condition == "attribute_not_exists(claim) OR #status IN (:failed, :refused)"


def test_nothing_is_registered_past_a_gate_that_said_no() -> None:
    states = MACHINES["flow"]["States"]
    for gate in ("GatePassed", "ReleaseGatePassed"):
        assert states[gate]["Default"] == "Refuse"
        assert states[gate]["Choices"][0]["BooleanEquals"] is True
    assert states["Refuse"]["Next"] == "Refused"
    assert states["Refused"]["Error"] == "GateRefused"


def test_a_baseline_goes_on_as_a_model_where_the_gate_says_so() -> None:
    states = MACHINES["flow"]["States"]
    choice = states["WhatShips"]["Choices"][0]
    assert (choice["Variable"], choice["StringEquals"], choice["Next"]) == ("$.gate.ship", "model", "Export")
    instead = states[states["WhatShips"]["Default"]]
    assert (instead["ResultPath"], instead["Next"]) == ("$.train", "Export")
    assert set(instead["Parameters"]) == set(states["Train"]["ResultSelector"])


def test_a_search_takes_the_place_of_the_training() -> None:
    tuned = {"job.$": "$.BestTrainingJob.TrainingJobName", "artifact.$": "$.x"}
    parts = flow_parts(tune={"HyperParameterTuningJobName": "t"}, tuned=tuned)
    states = flow.definition(parts)["States"]
    assert "Train" not in states
    assert states["Etl"]["Next"] == "Tune"
    assert states["Tune"]["Resource"].endswith("sagemaker:createHyperParameterTuningJob.sync")
    assert (states["Tune"]["Next"], states["Tune"]["ResultPath"]) == ("Evaluate", "$.train")
    assert set(states["Tune"]["ResultSelector"]) == set(MACHINES["flow"]["States"]["Train"]["ResultSelector"])


def test_an_image_is_built_only_when_its_tag_is_absent() -> None:
    for machine, find, build in (
        ("flow", "FindJobImage", "BuildJobImage"),
        ("flow", "FindServeImage", "BuildServeImage"),
        ("release", "FindServeImage", "BuildServeImage"),
    ):
        states = MACHINES[machine]["States"]
        absent = states[find]["Catch"][0]
        assert absent["ErrorEquals"] == ["Ecr.ImageNotFoundException"]
        assert absent["Next"] == build
        assert states[build]["Next"] == states[find]["Next"]


@pytest.mark.parametrize("title", ["Endpoint", "Canary", "Verdict", "Fleet"])
def test_waiting_as_long_as_the_execution_may_stays_below_the_limit_of_events(title: str) -> None:
    machine = MACHINES["release"]
    states = machine["States"]
    events = seconds = 0
    pause = 1
    while seconds < machine["TimeoutSeconds"]:
        name, visited = f"WaitFor{title}", list[str]()
        assert states[name]["SecondsPath"] == "$.look.seconds"
        while name not in visited:
            visited.append(name)
            name = states[name].get("Next") or states[name]["Default"]
        longer = next(states[name] for name in visited if states[name]["Type"] == "Pass")
        assert longer["Parameters"] == {"seconds.$": "States.MathAdd($.look.seconds, 1)"}
        events += sum(5 if states[name]["Type"] == "Task" else 2 for name in visited)
        seconds, pause = seconds + pause, pause + 1
    assert events < 25_000 / 3  # https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html


def test_a_scaled_endpoint_keeps_its_instances_over_an_update_and_gets_its_policy_before_the_devices() -> None:
    states = release_definition(scaling=(4, 600))["States"]
    assert states["UpdateEndpoint"]["Parameters"]["RetainAllVariantProperties"] is True
    assert states["EndpointReady"]["Choices"][0]["Next"] == "ScaleEndpoint"
    target, policy = (states[name]["Parameters"] for name in ("ScaleEndpoint", "PutScalingPolicy"))
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 4)
    assert target["ResourceId"] == policy["ResourceId"] == "endpoint/p-endpoint/variant/live"
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 600
    assert (states["ScaleEndpoint"]["Next"], states["PutScalingPolicy"]["Next"]) == ("PutScalingPolicy", "LastGood")


def test_the_fleet_is_reached_only_past_a_verdict_that_says_pass() -> None:
    states = MACHINES["release"]["States"]
    into = {name for name, state in states.items() if "DeployFleet" in leads_to(state)}
    # A canary group without a device is the owner's choice, and the one way around the verdict.
    assert into == {"Verdict", "CanaryHasDevices"}
    assert states["Verdict"]["Choices"][0]["StringEquals"] == "pass"
    assert states["CanaryHasDevices"]["Choices"][0]["NumericEquals"] == 0


def test_the_fleet_is_reached_at_a_growing_rate_and_both_deployments_abort() -> None:
    states = MACHINES["release"]["States"]
    canary, fleet = (states[name]["Parameters"]["IotJobConfiguration"] for name in ("DeployCanary", "DeployFleet"))
    for job in (canary, fleet):
        (criteria,) = job["AbortConfig"]["CriteriaList"]
        assert (criteria["FailureType"], criteria["Action"], criteria["ThresholdPercentage"]) == (
            "FAILED",
            "CANCEL",
            10,
        )
    assert fleet["JobExecutionsRolloutConfig"]["ExponentialRate"] == {
        "BaseRatePerMinute": 10,
        "IncrementFactor": 2.0,
        "RateIncreaseCriteria": {"NumberOfSucceededThings": 10},
    }
    assert "JobExecutionsRolloutConfig" not in canary


def test_what_is_taken_back_is_what_each_group_had_asked_before_anything_was_deployed() -> None:
    states = MACHINES["release"]["States"]
    for title in ("Canary", "Fleet"):
        group = title.lower()
        back, clear = states[f"RollBack{title}"]["Parameters"], states[f"Clear{title}"]["Parameters"]
        assert back["TargetArn"] == clear["TargetArn"] == states[f"Deploy{title}"]["Parameters"]["TargetArn"]
        assert back["Components"] == {"p.Model": {"ComponentVersion.$": f"$.last.{group}"}}
        assert clear["Components"] == {}
        choice = states[f"{title}HadModel"]["Choices"][0]
        assert (choice["Variable"], choice["StringEquals"], choice["Next"]) == (f"$.last.{group}", "", f"Clear{title}")
    assert "DeployCanary" in reached(states, "LastGood")
    assert states["LastGood"]["ResultPath"] == "$.last"


def test_each_deployment_is_made_once_however_often_it_is_tried() -> None:
    for name, state in MACHINES["release"]["States"].items():
        if state.get("Resource", "").endswith("createDeployment"):
            token = state["Parameters"]["ClientToken.$"]
            assert "$$.Execution.Name" in token and "$$.State.Name" in token, name


def test_a_deployment_that_someone_else_replaced_is_recorded_and_not_taken_back() -> None:
    states = MACHINES["release"]["States"]
    assert states["Superseded"]["Next"] == "RecordReleaseFailure"
    first = states["WhatToRollBack"]["Choices"][0]
    assert (first["StringEquals"], first["Next"]) == ("Superseded", "ReleaseFailed")


def test_the_definitions_are_far_below_the_limit_of_a_megabyte() -> None:
    for definition in MACHINES.values():
        assert len(json.dumps(definition)) < 100_000


def test_an_endpoint_captures_when_it_is_told_to_and_otherwise_says_nothing_of_it() -> None:
    asked = {"EnableCapture": True}
    captured = release_definition(capture=asked)["States"]["CreateEndpointConfig"]["Parameters"]
    assert captured["DataCaptureConfig"] == asked
    assert "DataCaptureConfig" not in release_definition()["States"]["CreateEndpointConfig"]["Parameters"]


@pytest.mark.slow
def test_the_template_holds_the_definitions_inline_and_logs_everything(assembly: Any) -> None:
    for name, definition in MACHINES.items():
        row = assembly.named("AWS::StepFunctions::StateMachine", "StateMachineName", f"ml-lab-dev-{name}")
        assert "DefinitionS3Location" not in row
        assert row["LoggingConfiguration"]["Level"] == "ALL"
        assert row["TracingConfiguration"]["Enabled"] is True
        assert list(assembly.machine(f"ml-lab-dev-{name}")["States"]) == list(definition["States"])


@pytest.mark.slow
def test_what_a_state_does_not_keep_leaves_its_input_whole(assembly: Any) -> None:
    for machine, name in TASKS:
        deployed = assembly.machine(f"ml-lab-dev-{machine}")["States"][name]
        assert deployed["ResultPath"] == MACHINES[machine]["States"][name]["ResultPath"], name
        assert deployed["ResultPath"] is None or deployed["ResultPath"].startswith("$."), name


@pytest.mark.slow
def test_the_jobs_say_what_the_toolkit_and_the_entries_read(assembly: Any) -> None:
    states = assembly.machine("ml-lab-dev-flow")["States"]
    train = states["Train"]["Parameters"]
    assert train["HyperParameters"]["sagemaker_program"] == "pipelines/jobs/train.py"
    assert train["HyperParameters"]["sagemaker_submit_directory"].endswith(".gz")
    told = {name: train["HyperParameters"][name] for name in ("batch", "accumulate", "precision", "compile")}
    assert told == {"batch": "32", "accumulate": "1", "precision": "auto", "compile": "auto"}
    assert train["ResourceConfig"]["InstanceCount"] == 1
    assert "sagemaker_torch_distributed_enabled" not in train["HyperParameters"]
    assert train["CheckpointConfig"]["S3Uri.$"].endswith("/runs/{}/checkpoints/', $.manifest.run)")
    for name in ("Evaluate", "Export"):
        job = states[name]["Parameters"]
        (code,) = [row["S3Input"] for row in job["ProcessingInputs"] if row["InputName"] == "code"]
        assert job["Environment"]["PYTHONPATH"] == f"{code['LocalPath']}/{code['S3Uri'].rpartition('/')[2]}"
        assert job["AppSpecification"]["ContainerEntrypoint"][:3] == ["python", "-m", f"pipelines.jobs.{name.lower()}"]
