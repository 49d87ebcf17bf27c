"""Starts the command line: `python -m lab …`, also installed as `lab`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

# What the command line itself needs; without them this is not the environment that `make` sets up.
NEEDED = {"click", "rich", "boto3", "moto", "psutil", "jinja2"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status (0 done, 1 a lab error, 2 usage, 3 the gate refused)."""
    if sys.version_info < (3, 11):  # noqa: UP036 - a system interpreter may be older than what pip would allow
        return _refuse(f"Python {sys.version.split()[0]} is too old; the lab needs CPython 3.11 or later")
    try:
        from lab import cli
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        return _refuse(f"{sys.executable} has no {error.name}")
    return cli.main(argv)


def _refuse(message: str) -> int:
    sys.stderr.write(f"lab: {message}\n  try: make demo, which sets up .venv; then . .venv/bin/activate\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
