"""Training: what it writes, that a break leaves no trace, and that it learns."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from models import baseline, curated, evaluate, image_net, net, objective, train
from models.checkpoint import CheckpointError
from models.contract import Contract

ROOT = Path(__file__).parents[2]
CHECKPOINT = ["epoch-0003.safetensors", "state.json"]
SMALL = train.Config(epochs=3, seed=5, batch=16)


class Interrupted(Exception):
    """A machine that was taken away."""


def quiet(figures: dict[str, Any]) -> None:
    """Nobody listens."""


def after(epoch: int) -> Callable[[dict[str, Any]], None]:
    def stop(figures: dict[str, Any]) -> None:
        if figures["epoch"] == epoch:
            raise Interrupted

    return stop


def same_weights(one: Path, other: Path) -> bool:
    return (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs without a break, `model` and `checkpoints`. Read only."""
    folder = tmp_path_factory.mktemp("whole")
    train.train(SMALL, curated, folder / "model", folder / "checkpoints", quiet)
    return folder


def test_training_writes_the_model_its_contract_and_its_history(whole: Path, curated: Path) -> None:
    model, contract = net.load(whole / "model")
    assert contract == Contract.load(curated / "contract.json")
    assert isinstance(model, image_net.ConvNet)
    history = json.loads((whole / "model" / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2, 3]
    for row in history:
        assert {"epoch", "train_loss", "val_loss", "val_accuracy"} <= set(row)
        assert np.isfinite(list(row.values())).all()


def test_each_epoch_is_told_as_it_ends_and_the_best_is_returned(curated: Path, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    best = train.train(SMALL, curated, tmp_path / "model", tmp_path / "checkpoints", told.append)
    assert json.loads((tmp_path / "model" / "history.json").read_text()) == told
    assert best == min(told, key=lambda row: row["val_loss"])


def test_the_same_seed_gives_the_very_same_weights(whole: Path, curated: Path, tmp_path: Path) -> None:
    train.train(SMALL, curated, tmp_path / "model", tmp_path / "checkpoints", quiet)
    assert same_weights(whole / "model", tmp_path / "model")


def test_another_seed_gives_others(whole: Path, curated: Path, tmp_path: Path) -> None:
    other = train.Config(epochs=3, seed=6, batch=16)
    train.train(other, curated, tmp_path / "model", tmp_path / "checkpoints", quiet)
    assert not same_weights(whole / "model", tmp_path / "model")


@pytest.mark.parametrize("epochs", [(1,), (2,), (1, 2)])
def test_an_interrupted_run_ends_with_the_very_same_weights(
    whole: Path, curated: Path, tmp_path: Path, epochs: tuple[int, ...]
) -> None:
    for number, epoch in enumerate(epochs):
        with pytest.raises(Interrupted):
            train.train(SMALL, curated, tmp_path / f"model {number}", tmp_path / "checkpoints", after(epoch))
    told: list[dict[str, Any]] = []
    train.train(SMALL, curated, tmp_path / "model", tmp_path / "checkpoints", told.append)
    assert [row["epoch"] for row in told] == list(range(epochs[-1] + 1, 4))
    assert same_weights(whole / "model", tmp_path / "model")
    history = (tmp_path / "model" / "history.json").read_text()
    assert history == (whole / "model" / "history.json").read_text()


class Leaving:
    """Asks a run to leave after so many looks."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("name", ["curated", "table", "prices", "engines", "machine"])
def test_a_run_that_leaves_in_the_middle_of_an_epoch_ends_with_the_very_same_weights(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.getfixturevalue(name)
    train.train(SMALL, data, tmp_path / "whole", tmp_path / "one", quiet)
    for looks in (2, 4):
        with pytest.raises(train.Left, match=r"left in epoch \d after step \d+"):
            train.train(SMALL, data, tmp_path / "left", tmp_path / "two", quiet, leaves=Leaving(looks))
    train.train(SMALL, data, tmp_path / "model", tmp_path / "two", quiet)
    assert same_weights(tmp_path / "whole", tmp_path / "model")
    history = (tmp_path / "model" / "history.json").read_text()
    assert history == (tmp_path / "whole" / "history.json").read_text()


CHILD = """
import signal, sys
from pathlib import Path
import torch
from models import checkpoint, train
torch.set_num_threads(1)
data, folder, point, wait = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
seen = 0
def die():
    global seen
    seen += 1
    if seen == wait:
        signal.raise_signal(signal.SIGKILL)
if point == "step":
    steps = train.learn
    def learn(run, done):
        for step in steps(run, done):
            die()
            yield step
    train.learn = learn
if point == "half a file":
    fsync = checkpoint.os.fsync
    def dies(number):
        die()
        fsync(number)
    checkpoint.os.fsync = dies
train.train(train.Config(epochs=3, seed=5, batch=16), data, folder / "model", folder / "checkpoints", lambda _: None)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "wait"),
    # A checkpoint brings two files and two times their folder to the disk: 5 is the second one's weights, 7 its state.
    [("step", 3), ("step", 9), ("half a file", 1), ("half a file", 5), ("half a file", 6), ("half a file", 7)],
)
def test_a_run_that_is_killed_at_any_moment_ends_with_the_very_same_weights(
    whole: Path, curated: Path, tmp_path: Path, point: str, wait: int
) -> None:
    argv = [sys.executable, "-c", CHILD, str(curated), str(tmp_path), point, str(wait)]
    killed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    train.train(SMALL, curated, tmp_path / "model", tmp_path / "checkpoints", quiet)
    assert same_weights(whole / "model", tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == CHECKPOINT


@pytest.mark.parametrize("accumulate", [2, 3, 5])
@pytest.mark.parametrize("name", ["table", "prices", "machine"])
def test_parts_that_are_accumulated_give_the_weights_of_one_batch_as_large(
    name: str, accumulate: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.getfixturevalue(name)
    large = train.Config(epochs=2, seed=5, batch=6 * accumulate)
    train.train(large, data, tmp_path / "large", tmp_path / "one", quiet)
    parts = train.Config(epochs=2, seed=5, batch=6, accumulate=accumulate)
    train.train(parts, data, tmp_path / "parts", tmp_path / "two", quiet)
    wanted, found = (load_file(tmp_path / folder / "model.safetensors") for folder in ("large", "parts"))
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=2e-3, atol=2e-4, msg=key)


def test_pictures_are_learned_in_parts_too_each_normed_by_itself(curated: Path, tmp_path: Path) -> None:
    config = train.Config(epochs=1, batch=8, accumulate=4)
    found = train.train(config, curated, tmp_path / "model", tmp_path / "checkpoints", quiet)
    assert np.isfinite(found["train_loss"])


def test_half_precision_on_a_cpu_is_taken_when_asked_for(whole: Path, curated: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, precision="bf16")
    found = train.train(config, curated, tmp_path / "model", tmp_path / "checkpoints", quiet)
    assert np.isfinite(found["train_loss"])
    assert not same_weights(whole / "model", tmp_path / "model")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(not shutil.which("g++"), reason="torch's inductor compiles C++ on a CPU; a C++ compiler runs this")
def test_a_compiled_net_learns_what_the_plain_one_learns(table: Path, tmp_path: Path) -> None:
    config = train.Config(epochs=1, seed=5, batch=140)  # two batches of one shape: each shape is compiled anew
    plain = train.train(config, table, tmp_path / "plain", tmp_path / "one", quiet)
    compiled = dataclasses.replace(config, compile="on")
    found = train.train(compiled, table, tmp_path / "model", tmp_path / "two", quiet)
    assert found["val_loss"] == pytest.approx(plain["val_loss"], rel=0.1)
    assert net.load(tmp_path / "model")[1].dataset == "table"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU; pytest on a machine with CUDA runs this")
def test_on_a_gpu_training_takes_half_precision_and_resumes(curated: Path, tmp_path: Path) -> None:
    with pytest.raises(train.Left):
        train.train(SMALL, curated, tmp_path / "model", tmp_path / "checkpoints", quiet, leaves=Leaving(7))
    found = train.train(SMALL, curated, tmp_path / "model", tmp_path / "checkpoints", quiet)
    assert np.isfinite(found["val_loss"])


def test_a_finished_run_that_is_started_again_trains_nothing_and_writes_the_same(
    whole: Path, curated: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    told: list[dict[str, Any]] = []
    train.train(SMALL, curated, tmp_path / "model", tmp_path / "checkpoints", told.append)
    assert told == []
    assert same_weights(whole / "model", tmp_path / "model")


def test_another_configurations_checkpoint_is_not_gone_on_from(whole: Path, curated: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    told: list[dict[str, Any]] = []
    other = train.Config(epochs=2, seed=5, batch=16)
    train.train(other, curated, tmp_path / "model", tmp_path / "checkpoints", told.append)
    assert [row["epoch"] for row in told] == [1, 2]


def test_another_data_sets_checkpoint_is_not_gone_on_from(whole: Path, curated: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    shutil.copytree(curated, tmp_path / "curated")
    document = Contract.load(curated / "contract.json").document() | {"mean": [99.0]}
    (tmp_path / "curated" / "contract.json").write_text(json.dumps(document))
    told: list[dict[str, Any]] = []
    train.train(SMALL, tmp_path / "curated", tmp_path / "model", tmp_path / "checkpoints", told.append)
    assert [row["epoch"] for row in told] == [1, 2, 3]


@pytest.mark.parametrize("damage", ["truncated weights", "no weights", "broken state"])
def test_a_damaged_checkpoint_is_refused_with_what_to_do(
    whole: Path, curated: Path, tmp_path: Path, damage: str
) -> None:
    folder = Path(shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints"))
    (weights,) = folder.glob("*.safetensors")
    if damage == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "no weights":
        weights.unlink()
    else:
        (folder / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match="to start anew"):
        train.train(SMALL, curated, tmp_path / "model", folder, quiet)


def test_weights_without_their_state_are_no_checkpoint(whole: Path, curated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints"))
    (folder / "state.json").unlink()
    train.train(SMALL, curated, tmp_path / "model", folder, quiet)
    assert same_weights(whole / "model", tmp_path / "model")


def test_checkpoints_hold_no_pickle_and_do_not_pile_up(whole: Path) -> None:
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == CHECKPOINT
    assert load_file(whole / "checkpoints" / "epoch-0003.safetensors")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": "huge"}, "size is 'huge'; allowed: tiny, base"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 1}, "batch 1, patience 10, accumulate 1; they start at 1, 2, 0 and 1"),
        ({"patience": -1}, "patience -1"),
        ({"jitter": 1.0}, "jitter 1.0"),
        ({"accumulate": 0}, "accumulate 0"),
        ({"precision": "fp8"}, "precision is 'fp8'; allowed: auto, fp32, bf16"),
        ({"compile": "maybe"}, "compile is 'maybe'; allowed: auto, on, off"),
        ({"flip": "diagonal"}, "flip is 'diagonal'; allowed: none, horizontal, vertical, both"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"rate": 1.5}, "rate is 1.5"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"decay": -0.1}, "decay -0.1"),
        ({"shift": 0.5}, "shift 0.5"),
        ({"shift": -0.1}, "shift -0.1"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train.Config(**given)


@pytest.mark.parametrize("batch", [2, 7, 1000])
def test_any_batch_size_trains_with_no_batch_of_one_left_over(curated: Path, tmp_path: Path, batch: int) -> None:
    config = train.Config(epochs=1, batch=batch)
    found = train.train(config, curated, tmp_path / "model", tmp_path / "checkpoints", quiet)
    assert np.isfinite(found["train_loss"])


def test_a_split_without_samples_is_named(curated: Path, tmp_path: Path) -> None:
    shutil.copytree(curated, tmp_path / "curated", ignore=shutil.ignore_patterns("validation"))
    with pytest.raises(Exception, match="validation holds no sample"):
        train.train(SMALL, tmp_path / "curated", tmp_path / "model", tmp_path / "checkpoints", quiet)


def losses(*values: float) -> list[dict[str, Any]]:
    return [{"epoch": n, "train_loss": 1.0, "val_loss": value} for n, value in enumerate(values, 1)]


def test_the_best_epoch_is_the_first_with_the_smallest_validation_loss() -> None:
    assert train.best_epoch(losses(3.0, 1.0, 2.0, 1.0)) == 2
    assert train.best_epoch(losses(3.0, float("nan"), 2.0)) == 3


def test_a_loss_that_is_no_number_from_the_start_is_an_error_with_the_remedy() -> None:
    with pytest.raises(train.TrainingError, match="lower `rate`"):
        train.best_epoch(losses(float("nan")))


def test_training_ends_when_patience_does_and_keeps_the_best_weights(table: Path, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    config = train.Config(epochs=200, rate=0.02, patience=3)
    best = train.train(config, table, tmp_path / "model", tmp_path / "checkpoints", told.append)
    assert len(told) == best["epoch"] + 3 < 200
    model, _ = net.load(tmp_path / "model")
    rows, labels, _ = curated.read(table, "validation")
    assert (net.answers(model, rows).argmax(1) == labels).mean() == pytest.approx(best["val_accuracy"])
    again: list[dict[str, Any]] = []
    train.train(config, table, tmp_path / "again", tmp_path / "checkpoints", again.append)
    assert again == []
    assert same_weights(tmp_path / "model", tmp_path / "again")


@pytest.mark.parametrize("name", ["table", "prices", "engines", "machine"])
def test_every_task_goes_on_after_a_break_as_if_there_was_none(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.getfixturevalue(name)
    train.train(SMALL, data, tmp_path / "whole", tmp_path / "one", quiet)
    with pytest.raises(Interrupted):
        train.train(SMALL, data, tmp_path / "broken", tmp_path / "two", after(2))
    train.train(SMALL, data, tmp_path / "model", tmp_path / "two", quiet)
    assert same_weights(tmp_path / "whole", tmp_path / "model")


def test_the_error_that_is_told_of_a_regression_is_in_the_targets_unit(prices: Path, tmp_path: Path) -> None:
    best = train.train(SMALL, prices, tmp_path / "model", tmp_path / "checkpoints", quiet)
    rows, labels, _ = curated.read(prices, "validation")
    errors = net.answers(net.load(tmp_path / "model")[0], rows)[:, 0] - labels
    assert best["val_rmse"] == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-3)


def test_a_detector_learns_from_normal_samples_alone(machine: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(machine, tmp_path / "curated"))
    part = folder / "train" / "part-0.parquet"
    rows = pq.read_table(part)
    pq.write_table(rows.set_column(2, "label", pa.array(np.ones(rows.num_rows, np.int32))), part)
    with pytest.raises(train.TrainingError, match="no normal sample"):
        train.train(SMALL, folder, tmp_path / "model", tmp_path / "checkpoints", quiet)


def test_rare_classes_count_more_and_the_mean_weight_is_one() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    weights = objective.class_weights(labels, 3)
    assert float(weights[1] / weights[0]) == pytest.approx(3.0)
    assert float(weights[labels].mean()) == pytest.approx(1.0)


@pytest.mark.slow
def test_the_net_learns_more_than_the_baselines(digits: Path, tmp_path: Path) -> None:
    train.train(train.Config(epochs=12), digits, tmp_path / "model", tmp_path / "checkpoints", quiet)
    model, contract = net.load(tmp_path / "model")
    pixels, labels, _ = curated.read(digits, "test")
    others = baseline.answers(
        contract, curated.read(digits, "train")[:2], curated.read(digits, "validation")[:2], pixels
    )
    ours = (evaluate.answers(model, pixels).argmax(1) == labels).mean()
    for name, answers in others.items():
        assert ours > (answers.argmax(1) == labels).mean(), name
    assert ours > 0.93
