"""The training job: hyperparameters, folders, log lines, going on after an interruption, and tracking."""

import dataclasses
import json
import logging
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.run import get_args_parser

from models.train import Config
from pipelines.jobs import train

LINE = re.compile(r"epoch=(\d+) .*train_loss=[0-9.e+-]+ .*val_accuracy=[0-9.e+-]+;")


@pytest.fixture
def folders(curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SM_CHANNEL_CURATED", str(curated))
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "model"))
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "model").mkdir()
    return tmp_path


def run(caplog: pytest.LogCaptureFixture, *argv: str) -> list[int]:
    """Trains and returns the epochs that the log names."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "pipelines"):
        assert train.main(["--size", "tiny", "--seed", "17", *argv]) == 0
    found = [LINE.search(record.getMessage()) for record in caplog.records]
    return [int(match[1]) for match in found if match]


def test_each_epoch_is_a_line_that_metric_definitions_read(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(caplog, "--epochs", "2") == [1, 2]
    assert {path.name for path in (folders / "model").iterdir()} >= {
        "model.safetensors", "model.json", "contract.json", "history.json",
    }  # fmt: skip


def test_a_job_that_starts_again_goes_on_where_it_was(
    folders: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(message: str, *_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.log, "info", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(caplog, "--epochs", "3")
    assert run(caplog, "--epochs", "3") == [2, 3]
    assert [row["epoch"] for row in json.loads((folders / "model/history.json").read_text("utf-8"))] == [1, 2, 3]


def test_a_job_that_is_told_to_end_writes_a_checkpoint_leaves_and_goes_on_later(
    folders: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def info(message: str, *values: Any) -> None:
        seen.append(message % values)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(train.log, "info", info)
        assert train.main(["--size", "tiny", "--seed", "17", "--epochs", "3"]) == 143
    assert seen[-1] == "left in epoch 2 after step 1; the checkpoint is written"
    assert not list((folders / "model").iterdir())
    assert run(caplog, "--epochs", "3") == [2, 3]


@pytest.mark.parametrize(
    ("argv", "says"),
    [(["--epochs", "many"], "invalid int value: 'many'"), (["--depth", "3"], "unrecognized arguments: --depth 3")],
)
def test_a_hyperparameter_that_does_not_exist_or_fit_is_refused(
    folders: Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    with pytest.raises(SystemExit):
        train.main(argv)
    assert says in capsys.readouterr().err


def test_no_hyperparameter_is_the_beginning_of_an_option_of_torchrun() -> None:
    """torchrun reads the script's arguments too, and refuses what two of its own begin with."""
    options = [text for action in get_args_parser()._actions for text in action.option_strings]
    told = [f"--{field.name}" for field in dataclasses.fields(Config)] + ["--execution"]
    assert [name for name in told if any(option.startswith(name) for option in options)] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning:mlflow", "ignore::DeprecationWarning")
def test_a_tracked_run_holds_parameters_and_each_epoch_and_survives_a_restart(
    folders: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folders / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ml-lab-dev")
    run(caplog, "--epochs", "2", "--execution", "run-1")
    run(caplog, "--epochs", "2", "--execution", "run-1")
    import mlflow

    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("ml-lab-dev")
    assert experiment is not None
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.data.tags["run"] == "run-1"
    assert (tracked.data.params["size"], tracked.data.params["epochs"]) == ("tiny", "2")
    history = client.get_metric_history(tracked.info.run_id, "val_accuracy")
    assert [point.step for point in history] == [1, 2]
    assert not list(folders.rglob("*.pkl"))
