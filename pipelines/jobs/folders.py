"""Where SageMaker puts a job's folders, and how a model's archive becomes one of them."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path


class ArchiveError(Exception):
    """A model archive is missing or is not safe to unpack; the message names it."""


def ml() -> Path:
    """The root of a container's folders, `/opt/ml` in SageMaker. Outside of one, SAGEMAKER_BASE_DIR names it."""
    return Path(os.environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")


def unpack(archive: Path, into: Path) -> Path:
    """Unpacks a training job's model.tar.gz into `into`, refusing links and paths that lead out of it.

    Returns `into`. Raises ArchiveError.
    """
    into.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            tar.extractall(into, filter="data")
    except FileNotFoundError as error:
        raise ArchiveError(f"{archive} does not exist; did the training job upload its model?") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ArchiveError(f"{archive} cannot be unpacked: {error}") from error
    return into
