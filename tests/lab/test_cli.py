"""The command line as a person meets it: quick, one message for each mistake, the exit codes that are promised."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import cli
from lab.errors import GateRefused, LabError

REPO = Path(__file__).parents[2]
COMMANDS = [
    "adapt",
    "approve",
    "bench",
    "device",
    "doctor",
    "down",
    "env",
    "image",
    "invoke",
    "logs",
    "new",
    "promote",
    "reject",
    "report",
    "run",
    "status",
    "story",
    "synth",
    "up",
    "upgrade",
    "wheelhouse",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with no settings of the caller's."""
    monkeypatch.chdir(tmp_path)
    for name in ("LAB_CONFIG", "LAB_HOME", "LAB_OVERRIDES", "LAB_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def python(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=REPO, env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )


def test_help_names_every_command_and_imports_nothing_that_takes_time() -> None:
    done = python("-X", "importtime", "-m", "lab", "--help")
    assert done.returncode == 0 and all(f"  {name} " in done.stdout for name in COMMANDS)
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "click" in imported
    assert not imported & {"moto", "boto3", "botocore", "numpy", "torch", "pyspark", "aws_cdk", "mlflow", "matplotlib"}


def test_help_loads_nothing_heavy() -> None:
    heavy = ["boto3", "botocore", "moto", "torch", "numpy", "rich", "psutil", "jinja2", "pydantic"]
    program = f"import sys; import lab.cli; print([name for name in {heavy!r} if name in sys.modules])"
    assert python("-c", program).stdout.strip() == "[]"


def test_without_its_environment_it_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('no click', name='click')")
    done = python("-m", "lab", "--help", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and "make demo" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [["nope"], ["run", "--size", "huge"], ["invoke"], ["run", "--app", "nowhere"]])
def test_a_wrong_call_is_exit_2(here: Path, args: list[str]) -> None:
    assert cli.main(args) == 2


@pytest.mark.parametrize("command", ["status", "env", "approve", "reject"])
def test_without_a_running_engine_it_says_lab_up(here: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command]) == 1
    said = capsys.readouterr()
    assert "lab up" in said.err and said.out == ""


def test_json_prints_one_document_even_for_an_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["kind"] == "EngineError"


def test_a_missing_settings_file_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--config", "other.toml", "doctor"]) == 1
    assert "other.toml" in capsys.readouterr().err


def test_down_with_nothing_running_is_no_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down"]) == 0
    assert "nothing was running" in capsys.readouterr().out
    assert cli.main(["down", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_a_report_without_a_run_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report"]) == 1
    assert "lab run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [
        (GateRefused(["accuracy 0.91 < 0.95"]), 3, ["refused", "accuracy 0.91 < 0.95"]),
        (LabError("the port is taken", "choose another"), 1, ["the port is taken", "try: choose another"]),
        (OSError(28, "No space left on device", "/data/x"), 1, ["no space left: /data/x", "LAB_HOME"]),
        (ValueError("surprise"), 1, ["ValueError: surprise", "--debug"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
    ],
)
def test_every_error_is_one_message_and_its_exit_code(
    here: Path,
    problem: BaseException,
    code: int,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(_home: object) -> None:
        raise problem

    monkeypatch.setattr("lab.up.down", broken)
    assert cli.main(["down"]) == code
    said = capsys.readouterr().err
    assert all(word in said for word in words) and "Traceback" not in said
    assert cli.main(["--debug", "down"]) == code
    if code == 1:
        assert "Traceback" in capsys.readouterr().err


def test_overrides_that_are_no_json_are_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_OVERRIDES", "{size: tiny}")
    assert cli.main(["synth"]) == 1
    assert "LAB_OVERRIDES" in capsys.readouterr().err


def test_a_full_disk_is_said_before_anything_starts(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(10**12, 10**12, 10**8))
    assert cli.main(["run"]) == 1
    assert "0.1 GB left" in capsys.readouterr().err
    assert list((here / ".lab").iterdir()) == []
