"""Whole flows through the command line: one that succeeds, and one for each thing that a person can break."""

import json
import signal
import time
import zipfile
from pathlib import Path

import pytest
from copies import Project, small

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]


def said(done: object) -> str:
    return f"{getattr(done, 'stdout', '')}\n{getattr(done, 'stderr', '')}"


def test_a_training_script_that_raises_stops_the_flow_and_shows_its_last_words(project: Project) -> None:
    project.edit("lab.toml", small)
    project.edit(
        "pipelines/jobs/train.py",
        lambda text: text.replace(
            'if __name__ == "__main__":', 'raise RuntimeError("the oven is off")\nif __name__ == "__main__":'
        ),
    )
    done = project.lab("run")
    assert done.returncode == 1
    assert "the oven is off" in said(done) and "Train" in said(done) and "log.txt" in said(done)
    assert "Traceback (most recent call last)" not in done.stderr.split("the oven is off")[-1]
    record = project.record()
    assert record["status"] == "FAILED" and record["model_package"] is None and record["endpoint"] is None
    [train] = [state for state in record["states"] if state["name"] == "Train"]
    assert train["status"] == "FAILED"


def test_a_gate_that_cannot_be_met_refuses_with_figures_and_registers_nothing(project: Project) -> None:
    project.edit("lab.toml", lambda text: small(text).replace("[gate]", "[gate]\nlog_loss = 0.0", 1))
    done = project.lab("run", "--approve", "--json")
    assert done.returncode == 3, said(done)
    record = json.loads(done.stdout)
    assert record["status"] == "REFUSED" and not record["gate"]["passed"]
    assert any("log_loss" in reason for reason in record["gate"]["reasons"])
    assert record["model_package"] is None and record["endpoint"] is None and record["edge"] is None


def test_the_flow_runs_in_private_subnets_with_isolated_jobs(project: Project) -> None:
    private = '\n[security]\nnetwork = "vpc"\n\n[serving]\nserverless = false\n'
    project.edit("lab.toml", lambda text: small(text) + private)
    done = project.lab("run", "--json", "--dataset", "breast-cancer", timeout=540)
    assert done.returncode == 0, said(done)
    record = json.loads(done.stdout)
    assert record["status"] == "SUCCEEDED" and record["approval"] == "PendingManualApproval"


def test_a_job_that_imports_what_its_runtime_does_not_bring_is_refused_by_name(project: Project) -> None:
    project.edit("lab.toml", small)
    project.edit("models/train.py", lambda text: text.replace("import torch\n", "import nbformat\nimport torch\n", 1))
    done = project.lab("run")
    assert done.returncode == 1
    assert "nbformat" in said(done) and "runtime does not bring" in said(done)


def test_a_lambda_bundle_that_lacks_a_file_fails_where_the_cloud_would(project: Project) -> None:
    project.edit("lab.toml", small)
    assert project.lab("synth").returncode == 0
    lacking = 0
    for archive in (project.root / "cdk.out").glob("*.zip"):
        with zipfile.ZipFile(archive) as whole:
            files = {name: whole.read(name) for name in whole.namelist()}
        if "pipelines/functions/gate.py" in files and "models/gate.py" in files:
            with zipfile.ZipFile(archive, "w") as cut:
                for name, data in files.items():
                    if name != "models/gate.py":
                        cut.writestr(name, data)
            lacking += 1
    assert lacking, "no Lambda bundle holds models/gate.py"
    done = project.lab("run", "--app", "cdk.out")
    assert done.returncode == 1
    assert "Gate" in said(done) and "cannot import name 'gate' from 'models'" in said(done)


def test_an_uncovered_resource_in_the_stack_is_refused_before_anything_runs(project: Project) -> None:
    jet = '    aws_cdk.CfnResource(stack, "Jet", type="AWS::AppRunner::Service")\n'
    project.edit("infra/app.py", lambda text: text.replace("    app.synth()\n", f"{jet}    app.synth()\n"))
    done = project.lab("run")
    assert done.returncode == 1, said(done)
    assert "AWS::AppRunner::Service" in said(done) and "Jet" in said(done)
    assert not list((project.root / ".lab" / "engines").glob("*/jobs/*/*")), "something ran"


def test_an_assembly_with_an_unknown_resource_type_is_refused_by_name(project: Project, tmp_path: Path) -> None:
    assert project.lab("synth").returncode == 0
    [template] = (project.root / "cdk.out").glob("*.template.json")
    content = json.loads(template.read_text())
    content["Resources"]["Moon"] = {"Type": "AWS::Lunar::Base", "Properties": {}}
    template.write_text(json.dumps(content))
    done = project.lab("run", "--app", "cdk.out")
    assert done.returncode == 1
    assert "AWS::Lunar::Base" in said(done) and "Moon" in said(done)


def test_ctrl_c_ends_every_process_of_the_run(project: Project) -> None:
    run = project.start("run")
    deadline = time.monotonic() + 120
    while not list((project.root / ".lab" / "engines").glob("*/jobs/glue/*/log.txt")):
        assert time.monotonic() < deadline and run.poll() is None, "the Glue job never started"
        time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=60)
    assert run.returncode not in (0, None)
    assert "Traceback" not in output
    deadline = time.monotonic() + 10
    while project.processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not project.processes()
