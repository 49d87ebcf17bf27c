"""One embedded AWS that stays up, driven as a trainer's room would: notebook, AWS command line, the lab's own commands.

The tests share it and build on one another, in this order.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from copies import ROOT, Project, copy_project, end, small
from nbclient import NotebookClient

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]
ARCHIVE = "everything"
STAGES = ("Etl", "Train", "Evaluate", "Gate", "Export", "Register")


@dataclass(frozen=True)
class Desk:
    """A lab that is up: its copy, and the environment that `lab env` prints."""

    project: Project
    env: dict[str, str]

    def aws(self, *words: str) -> Any:
        """The stock AWS command line; its JSON answer."""
        command = Path(sys.executable).with_name("aws")
        done = subprocess.run(
            [str(command), *words, "--output", "json"],
            env=self.env, cwd=self.project.root, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def output(self, name: str) -> str:
        """An output of the stack."""
        [stack] = self.aws("cloudformation", "describe-stacks")["Stacks"]
        return str(next(row["OutputValue"] for row in stack["Outputs"] if row["OutputKey"] == name))

    def packages(self) -> list[dict[str, Any]]:
        group = ("--model-package-group-name", self.output("ModelPackageGroup").rpartition("/")[2])
        rows: list[dict[str, Any]] = self.aws("sagemaker", "list-model-packages", *group)["ModelPackageSummaryList"]
        return rows

    def executions(self) -> list[dict[str, Any]]:
        """Of the flow, when none is running any more."""
        while True:
            rows: list[dict[str, Any]] = self.aws(
                "stepfunctions", "list-executions", "--state-machine-arn", self.output("FlowArn")
            )["executions"]
            if all(row["status"] != "RUNNING" for row in rows):
                return rows
            time.sleep(1)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    # So deep that its devices' sockets must lie in the folder for temporary files, which is the engine's alone here.
    project = copy_project(tmp_path_factory.mktemp("desk") / ("deep" * 16) / "lab")
    temporary = tmp_path_factory.mktemp("t")
    shutil.copytree(ROOT / "notebooks", project.root / "notebooks")
    project.edit("lab.toml", small)
    up = project.lab("up", TMPDIR=str(temporary))
    try:
        assert up.returncode == 0, up.stderr
        assert list(temporary.glob("lab-*/socket")), "the test is of sockets that lie there"
        lines = project.lab("env").stdout.splitlines()
        words = shlex.split(" ".join(line.removeprefix("export ") for line in lines if line.startswith("export ")))
        yield Desk(project, project.environment() | dict(word.split("=", 1) for word in words))
    finally:
        down = project.lab("down")
        left = end(project)
    assert down.returncode == 0, down.stderr
    assert not left, f"left behind: {left}"
    assert not (remains := list(temporary.iterdir())), f"left behind: {remains}"


def test_the_notebook_drives_the_whole_lab(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = desk.aws("events", "describe-event-bus", "--name", "default")["Arn"]
    desk.aws("events", "create-archive", "--archive-name", ARCHIVE, "--event-source-arn", bus)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in desk.env.items():
        monkeypatch.setenv(name, value)
    path = desk.project.root / "notebooks" / "01_the_whole_lab.ipynb"
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    said = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    assert "SUCCEEDED" in said and "HEALTHY" in said and "[1.0, -2.0, 0.5]" in said


def test_the_same_data_uploaded_twice_gives_one_version(desk: Desk) -> None:
    before = desk.packages()
    again = desk.project.lab("run", "--json")
    assert again.returncode == 0, again.stderr
    assert len(before) == 1 and desk.packages() == before
    assert len(desk.executions()) == 2


def test_an_event_delivered_twice_gives_one_version(desk: Desk) -> None:
    archive = desk.aws("events", "describe-archive", "--archive-name", ARCHIVE)
    replay = ("--replay-name", "again", "--event-source-arn", archive["ArchiveArn"])
    times = ("--event-start-time", "2020-01-01T00:00:00Z", "--event-end-time", "2100-01-01T00:00:00Z")
    destination = ("--destination", json.dumps({"Arn": archive["EventSourceArn"]}))
    desk.aws("events", "start-replay", *replay, *times, *destination)
    deadline = time.monotonic() + 60
    while len(desk.executions()) < 4 and time.monotonic() < deadline:
        time.sleep(1)
    assert len(desk.executions()) == 4, "the replay delivered both uploads again"
    assert len(desk.packages()) == 1


def test_the_stock_command_line_reads_everything(desk: Desk, tmp_path: Path) -> None:
    assert desk.output("DataBucket") in [row["Name"] for row in desk.aws("s3api", "list-buckets")["Buckets"]]
    first = min(desk.executions(), key=lambda row: row["startDate"])
    execution = desk.aws("stepfunctions", "describe-execution", "--execution-arn", first["executionArn"])
    assert execution["status"] == "SUCCEEDED"
    history = desk.aws("stepfunctions", "get-execution-history", "--execution-arn", first["executionArn"])["events"]
    entered = [event["stateEnteredEventDetails"]["name"] for event in history if "stateEnteredEventDetails" in event]
    assert [name for name in entered if name in STAGES] == list(STAGES)
    job = f"{first['name'].rpartition('_')[2]}-train"
    described = desk.aws("sagemaker", "describe-training-job", "--training-job-name", job)
    assert described["TrainingJobStatus"] == "Completed"
    arn = desk.packages()[0]["ModelPackageArn"]
    package = desk.aws("sagemaker", "describe-model-package", "--model-package-name", arn)
    assert package["ModelApprovalStatus"] == "Approved"
    name = desk.output("EndpointName")
    assert desk.aws("sagemaker", "describe-endpoint", "--endpoint-name", name)["EndpointStatus"] == "InService"
    answer = tmp_path / "answer.json"
    picture = next((desk.project.root / ".lab").rglob("*.png"), None) or sample(tmp_path)
    body = ("--content-type", "image/png", "--body", f"fileb://{picture}")
    desk.aws("sagemaker-runtime", "invoke-endpoint", "--endpoint-name", name, *body, str(answer))
    assert json.loads(answer.read_text())["predictions"][0]["label"] in "0123456789"


def sample(folder: Path) -> Path:
    """One digit as a file."""
    done = subprocess.run(
        [sys.executable, "-m", "models.datasets", "digits", "--count", "20", "--out", str(folder / "digits")],
        cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    return next((folder / "digits").rglob("*.png"))


def test_the_labs_own_commands_answer(desk: Desk, tmp_path: Path) -> None:
    lab = desk.project.lab
    asked = lab("invoke", str(sample(tmp_path)))
    assert asked.returncode == 0 and "model version 1.0." in asked.stdout, asked.stderr
    status = lab("status")
    assert status.returncode == 0 and "InService" in status.stdout and "HEALTHY" in status.stdout
    log = lab("logs", "train")
    assert log.returncode == 0 and "epoch=3" in log.stdout, log.stderr
    second = lab("up")
    assert second.returncode == 1 and "lab down" in second.stderr


def test_a_package_left_unapproved_deploys_nothing(desk: Desk, tmp_path: Path) -> None:
    name = desk.output("EndpointName")
    before = desk.aws("sagemaker", "describe-endpoint", "--endpoint-name", name)["EndpointConfigName"]
    sample(tmp_path)
    few = tmp_path / "digits of ours"
    subprocess.run(
        [sys.executable, "-m", "models.datasets", "digits", "--count", "600", "--out", str(few)], cwd=ROOT, check=True
    )
    done = desk.project.lab("run", "--dataset", str(few), "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["approval"] == "PendingManualApproval" and record["endpoint"] is None and record["edge"] is None
    assert desk.aws("sagemaker", "describe-endpoint", "--endpoint-name", name)["EndpointConfigName"] == before
    assert desk.project.lab("reject").returncode == 0
    assert sorted(row["ModelApprovalStatus"] for row in desk.packages()) == ["Approved", "Rejected"]
