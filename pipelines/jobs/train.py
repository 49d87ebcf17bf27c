"""Trains on the curated channel; hyperparameters, folders and log lines of script mode.

SageMaker's training toolkit starts this file with each hyperparameter as `--name value`, on several hosts through
`torchrun`. It resumes from what is in the checkpoint folder, and writes one line per epoch that SageMaker's metric
definitions read. On SIGTERM, two minutes before a spot instance is taken away, it writes a checkpoint and leaves.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from models import ranks
from models.train import Config, Left, train
from pipelines.jobs import folders, logs, tracking

log = logging.getLogger(__name__)
# What a shell says of a process that SIGTERM ended.
TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The container's folders as the toolkit names them."""

    curated: Path
    model: Path
    checkpoints: Path

    @classmethod
    def read(cls) -> Environment:
        """From the process's environment."""
        return cls(
            curated=Path(os.environ["SM_CHANNEL_CURATED"]),
            model=Path(os.environ["SM_MODEL_DIR"]),
            checkpoints=Path(os.environ.get("CHECKPOINT_DIR") or folders.ml() / "checkpoints"),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """One training run, or one rank of it."""
    config, run = _arguments(argv)
    logs.start(sys.stdout)
    here, told = Environment.read(), threading.Event()
    with _told_by_sigterm(told), ranks.joined() as among:
        if among.world > 1:
            log.info("rank %d of %d, on %s", among.rank, among.world, among.device)
        with tracking.tracked(run, config) if among.first else nullcontext(_silent) as note:

            def on_epoch(figures: dict[str, Any]) -> None:
                log.info("%s;", " ".join(f"{name}={_text(value)}" for name, value in figures.items()))
                note(figures)

            try:
                best = train(config, here.curated, here.model, here.checkpoints, on_epoch, among, told.is_set)
            except Left as left:
                log.info("%s", left)
                return TERMINATED
            if among.first:
                log.info("best_epoch=%d best_val_loss=%.6g;", best["epoch"], best["val_loss"])
    return 0


@contextmanager
def _told_by_sigterm(told: threading.Event) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _silent(figures: dict[str, Any]) -> None:
    """The first rank tells figures."""


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _arguments(argv: Sequence[str] | None) -> tuple[Config, str]:
    """Every field of Config is a hyperparameter of the same name."""
    parser = argparse.ArgumentParser(prog="pipelines/jobs/train.py", allow_abbrev=False)
    # Not `--run`: torchrun takes that for one of its own, wherever it stands.
    parser.add_argument("--execution", default="", help="the execution's name, a tag of the tracked run")
    for field in fields(Config):
        default = None if field.default is MISSING else field.default
        kind = {"int": int, "float": float}.get(str(field.type), str)
        parser.add_argument(f"--{field.name}", type=kind, default=default, required=field.default is MISSING)
    given = vars(parser.parse_args(argv))
    run = str(given.pop("execution"))
    return Config(**given), run


if __name__ == "__main__":
    sys.exit(main())
