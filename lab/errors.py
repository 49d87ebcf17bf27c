"""What the lab says when it cannot go on: a message, a hint, an exit code.

LabError                 exit 1   where and what happened; the hint says what to try
├── SynthError                    `python -m infra.app` ended with an error
├── EngineError                   the embedded AWS did not start, is gone, or is in the way
├── NotCovered                    a resource type, property or API that the engine does not do, by name
├── DataError                     the data set cannot be read or written
├── FlowFailed                    a state of the flow failed; carries the job's last log lines
└── GateRefused          exit 3   the model misses the `[gate]` table of lab.toml; carries the reasons
"""

from __future__ import annotations

from collections.abc import Sequence


class LabError(Exception):
    """An error with a message for people. `hint` says what to try; `exit_code` is what the process returns."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class SynthError(LabError):
    """The CDK app did not synthesize."""


class EngineError(LabError):
    """The embedded AWS did not start, went away, or one is running already."""


class NotCovered(LabError):
    """The engine does not cover this resource type, property or API."""


class DataError(LabError):
    """The data set is unknown, empty or unreadable."""


class FlowFailed(LabError):
    """A state of the flow failed. `log_tail` holds the last lines the job wrote, `log` says where all of them are."""

    def __init__(
        self, message: str, hint: str | None = None, *, log: str | None = None, log_tail: Sequence[str] = ()
    ) -> None:
        super().__init__(message, hint)
        self.log = log
        self.log_tail = tuple(log_tail)


class GateRefused(LabError):
    """The gate refused the model, for `reasons`."""

    exit_code = 3

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(
            "the gate refused the model",
            "the thresholds are the [gate] table of lab.toml; ship_baseline = true there lets a better baseline go on",
        )
        self.reasons = tuple(reasons)
