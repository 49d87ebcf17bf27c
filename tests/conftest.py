"""Fixtures of the tests that run whole flows."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from copies import Project, copy_project, end

# As the desk's own jobs (lab/child.py), before anything imports torch: waiting threads leave the cores to others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A copy that a test may break; whatever still runs in it at the end is ended, and counts as a failure."""
    made = copy_project(tmp_path / "lab copy")
    yield made
    left = end(made)
    assert not left, f"left behind: {left}"
