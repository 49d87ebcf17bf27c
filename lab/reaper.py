"""Kills what the engine started when the engine is gone, however it went.

    python lab/reaper.py      stdin: `+<process group>` when a child starts, `-<process group>` when it has ended

The end of stdin means that the engine is dead; a pipe says so on Linux and macOS, after a kill -9 too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> int:
    """Reads the engine's word until it ends, then kills every group that is still noted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
