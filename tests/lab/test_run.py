"""`lab run` against a cloud that plays its part from a script: every end of a run, its record, its exit code."""

import json
from pathlib import Path

import pytest
from scripted import BAD, DONE, GROUP, REFUSED, RELEASE, RUN, VERSION, Cloud, record

from lab import cli


def test_without_approve_it_ends_pending_and_says_how_to_go_on(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run"]) == 0
    said = capsys.readouterr().out
    assert "epoch=2 train_loss=0.7 val_accuracy=0.9;" in said and f"lab approve {VERSION}" in said
    found = record(cloud)
    assert (found["status"], found["approval"]) == ("SUCCEEDED", "PendingManualApproval")
    assert found["endpoint"] is None and found["edge"] is None
    assert [state["name"] for state in found["states"]] == ["Claim", "Train", "Register"]
    folder = cloud.root.parent / ".lab" / "runs" / RUN
    assert all((folder / state["log"]).stat().st_size for state in found["states"])
    assert (folder / "report.html").is_file() and (folder / "release" / "manifest.json").is_file()


def test_with_approve_it_releases_and_asks_the_endpoint(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--approve", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    found = record(cloud)
    assert printed == found
    assert found["approval"] == "Approved" and found["endpoint"]["status"] == "InService"
    assert found["endpoint"]["sample"]["answer"]["label"] == "0"
    device = {"thing": "ml-lab-dev-desk-1", "groups": ["canary", "fleet"], "status": "HEALTHY"}
    assert found["edge"]["devices"] == [{**device, "model_version": VERSION}]
    assert found["states"][-1]["name"] == "CreateEndpoint" and found["states"][-1]["flow"] == "release"
    phases = found["engine"]["phases"]
    assert sum(phases.values()) == pytest.approx(found["engine"]["overhead_seconds"], abs=0.05)


def test_a_stack_above_the_budget_runs_here_and_is_said_to_cost_too_much(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = {"settings": {"data": {"dataset": "digits"}, "budget": {"month_usd": 30.0}}, "template": "template.json"}
    gateway = {"Resources": {"Way": {"Type": "AWS::EC2::NatGateway"}}}
    (cloud.root.parent / "lab.json").write_text(json.dumps(lab))
    (cloud.root.parent / "template.json").write_text(json.dumps(gateway))
    assert cli.main(["run"]) == 0
    said = capsys.readouterr().out
    assert "lab deploy would refuse it" in said and "NAT gateway Way $32.85 ($0.045 an hour)" in said


def test_a_failed_job_is_exit_1_with_its_last_words(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.flow, cloud.after_flow = BAD, lambda: None
    assert cli.main(["run", "--approve"]) == 1
    said = capsys.readouterr().err
    assert "the state Train failed" in said and "| ValueError: the oven is off" in said and "log.txt" in said
    found = record(cloud)
    assert found["status"] == "FAILED" and found["gate"] is None and found["model_package"] is None
    statuses = {state["name"]: state["status"] for state in found["states"]}
    assert statuses == {"Claim": "SUCCEEDED", "Train": "FAILED", "RecordFailure": "SUCCEEDED", "Failed": "FAILED"}


def test_a_refused_model_is_exit_3_with_the_reasons(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.flow, cloud.after_flow = REFUSED, cloud.refuse
    assert cli.main(["run", "--approve", "--json"]) == 3
    said = capsys.readouterr()
    assert json.loads(said.out)["status"] == "REFUSED"
    assert "- accuracy 0.80 < 0.95" in said.err


def test_the_same_data_again_points_to_the_run_that_made_it(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 0
    cloud.flow, cloud.after_flow = DONE, lambda: None
    assert cli.main(["run"]) == 0
    said = capsys.readouterr().out
    assert f"already done by run {RUN}" in said and f"made version {VERSION}" in said
    assert not (cloud.root.parent / ".lab" / "runs" / "event_run-2").exists()


def test_approving_the_same_data_again_releases_the_run_that_made_it(cloud: Cloud) -> None:
    assert cli.main(["run"]) == 0
    cloud.flow, cloud.after_flow = DONE, lambda: None
    assert cli.main(["run", "--approve"]) == 0
    assert record(cloud)["approval"] == "Approved" and record(cloud)["edge"]["deployment"] == "d-1"


def test_other_code_that_trains_the_same_weights_makes_no_second_version(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--approve"]) == 0
    cloud.run, cloud.after_flow = "event_run-3", lambda: None
    cloud.objects |= {
        key.replace(RUN, cloud.run): body for key, body in cloud.objects.items() if key.startswith(f"runs/{RUN}/")
    }
    chosen = {"format": "onnx-int8", "target": "cloud-cpu", "chosen": True, "bytes": 1000, "p95_ms": 1.0}
    cloud.put(f"runs/{cloud.run}/export/export.json", {"version": VERSION, "run": cloud.run, "artifacts": [chosen]})
    assert cli.main(["run", "--approve"]) == 0
    said = capsys.readouterr().out
    assert f"version {VERSION} is approved and released already, by run {RUN}" in said
    assert f"{VERSION}, Approved; its files are those of run {RUN[:8]}" in said and "onnx-int8" not in said
    folder = cloud.root.parent / ".lab" / "runs" / cloud.run
    again = json.loads((folder / "record.json").read_text())
    assert again["model_package"] == GROUP and again["endpoint"]["status"] == "InService"
    assert (again["run"], again["released_by"], again["artifacts"]) == (cloud.run, RUN, []), (
        "what ships, not what would"
    )
    assert json.loads((folder / "export" / "export.json").read_text())["run"] == RUN
    assert len([arn for arn, row in cloud.executions.items() if row[0] == RELEASE]) == 1


@pytest.mark.parametrize("what", ["device", "endpoint"])
def test_a_release_that_is_not_what_it_says_is_a_failure(
    cloud: Cloud, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if what == "device":
        cloud.device["status"] = "UNHEALTHY"
    else:
        cloud.answers = "1.0.6"
    assert cli.main(["run", "--approve"]) == 1
    assert record(cloud)["status"] == "FAILED"
    assert ("UNHEALTHY" if what == "device" else "1.0.6") in capsys.readouterr().err


def test_an_event_that_starts_nothing_is_said(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lab.flow.EVENT_SECONDS", 0.3)
    monkeypatch.setattr(cloud, "execute", lambda *_: None)
    assert cli.main(["run"]) == 1
    assert "no execution of ml-lab-dev-flow started" in capsys.readouterr().err


def test_an_unknown_data_set_is_one_line(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--dataset", "nonsense"]) == 1
    assert "there is no data set nonsense" in capsys.readouterr().err
    assert "raw/nonsense/_manifest.json" not in cloud.objects


def test_logs_and_report_find_a_past_run(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 0
    capsys.readouterr()
    assert cli.main(["logs", "train", "--lines", "1"]) == 0
    assert capsys.readouterr().out == "ValueError: the oven is off\n"
    assert cli.main(["logs", "nobody"]) == 1
    assert cli.main(["report", RUN[:6]]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")


def test_invoke_asks_the_endpoint_about_a_file(
    cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "digit.png").write_bytes(b"png")
    (tmp_path / "digit").write_bytes(b"png")
    assert cli.main(["invoke", str(tmp_path / "digit.png")]) == 0
    assert f"model version {VERSION}" in capsys.readouterr().out
    assert cli.main(["invoke", str(tmp_path / "digit")]) == 1
    assert cli.main(["invoke", str(tmp_path / "digit"), "--content-type", "image/png"]) == 0
