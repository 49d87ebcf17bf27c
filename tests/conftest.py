"""Fixtures of the tests that run whole flows."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from copies import Project, copy_project, end


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A copy that a test may break; whatever still runs in it at the end is ended, and counts as a failure."""
    made = copy_project(tmp_path / "lab copy")
    yield made
    left = end(made)
    assert not left, f"left behind: {left}"
