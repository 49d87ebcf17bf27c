"""Runs script mode without AWS's toolkit, the named fallback.

For where `sagemaker-training` could not be built (it has a C extension and no wheels). It covers a Python script in a
gzip tar; no packages with setup.py, no requirements.txt, no shell scripts, no distributed launch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import jobfiles
from lab.jobfiles import Files, FilesError, Place

PREFIX = "sagemaker_"


def prepare(files: Files, ml: Path, host: str) -> tuple[list[str], dict[str, str]]:
    """Unpacks the source into `ml`/code; the command to run and the SM_ environment it expects."""
    config = ml / "input" / "config"
    raw: dict[str, Any] = json.loads((config / "hyperparameters.json").read_text(encoding="utf-8"))
    channels: dict[str, Any] = json.loads((config / "inputdataconfig.json").read_text(encoding="utf-8"))
    values = {name: _decoded(value) for name, value in raw.items()}
    program, source = values.get("sagemaker_program"), values.get("sagemaker_submit_directory")
    if not program or not source:
        raise FilesError("script mode needs the hyperparameters sagemaker_program and sagemaker_submit_directory")
    archive = Path(str(source))  # of a channel, or fetched
    if not archive.is_absolute():
        archive = files.fetch(Place.parse(str(source)), ml / "source")
    jobfiles.unpack(archive, ml / "code")
    own = {name: value for name, value in values.items() if not name.startswith(PREFIX)}
    arguments = to_arguments(own)
    code = str(ml / "code")
    env = {"PYTHONPATH": code, **_environment(ml, own, sorted(channels), host, arguments)}
    return ["python", "--", str(Path(code) / str(program)), *arguments], env


def _decoded(value: Any) -> Any:
    """Hyperparameters are strings that hold JSON where they can."""
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value


def to_arguments(values: Mapping[str, Any]) -> list[str]:
    """`--name value` for each hyperparameter in order of names, `-n value` for one-letter names."""
    arguments = []
    for name in sorted(values):
        arguments += [f"-{name}" if len(name) == 1 else f"--{name}", _text(values[name])]
    return arguments


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _environment(
    ml: Path, own: Mapping[str, Any], channels: list[str], host: str, arguments: list[str]
) -> dict[str, str]:
    return {
        "SM_MODEL_DIR": str(ml / "model"),
        "SM_OUTPUT_DIR": str(ml / "output"),
        "SM_OUTPUT_DATA_DIR": str(ml / "output" / "data"),
        "SM_INPUT_DIR": str(ml / "input"),
        "SM_INPUT_CONFIG_DIR": str(ml / "input" / "config"),
        "SM_CHANNELS": json.dumps(channels),
        **{f"SM_CHANNEL_{name.upper()}": str(ml / "input" / "data" / name) for name in channels},
        "SM_HPS": json.dumps(dict(own)),
        **{f"SM_HP_{name.upper()}": _text(value) for name, value in own.items()},
        "SM_USER_ARGS": json.dumps(arguments),
        "SM_CURRENT_HOST": host,
        "SM_HOSTS": json.dumps([host]),
        "SM_NUM_CPUS": str(os.cpu_count() or 1),
        "SM_NUM_GPUS": "0",
    }
