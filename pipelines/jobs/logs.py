"""What a job says, one plain line each: our own progress and anyone's warnings."""

from __future__ import annotations

import logging
from typing import TextIO

# A job is started as __main__; libraries are heard from WARNING on.
OURS = ("__main__", "models", "pipelines")


def start(stream: TextIO) -> None:
    """Lines go to `stream`."""
    logging.basicConfig(stream=stream, format="%(message)s")
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
