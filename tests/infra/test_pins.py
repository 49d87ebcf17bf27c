"""Pins: every runtime's packages, each exactly once, at the version of the lock file."""

from pathlib import Path

import pytest

from infra import pins
from infra.pins import PinError

ROOT = Path(__file__).parents[2]
PROJECT = """[project]
name = "x"
[project.optional-dependencies]
serve = ["Foo_Bar[extra]>=1", "baz; python_version > '3'"]
"""


def project(folder: Path, lock: str) -> Path:
    (folder / "pyproject.toml").write_text(PROJECT, "utf-8")
    (folder / "requirements.lock").write_text(lock, "utf-8")
    return folder


@pytest.mark.parametrize("runtime", pins.RUNTIMES)
def test_every_runtime_of_the_repository_is_pinned(runtime: str) -> None:
    found = pins.pins(ROOT, runtime)
    assert found == sorted(set(found))
    assert all(pin.count("==") == 1 for pin in found)


def test_names_are_compared_as_package_indexes_do(tmp_path: Path) -> None:
    root = project(tmp_path, "foo-bar==1.2  # why\n\nBAZ==3\nother==1\n")
    assert pins.pins(root, "serve") == ["BAZ==3", "foo-bar==1.2"]


def test_a_package_without_a_pin_is_named_with_its_extra(tmp_path: Path) -> None:
    with pytest.raises(PinError, match=r"no pin for baz, which the extra 'serve'"):
        pins.pins(project(tmp_path, "foo-bar==1.2\n"), "serve")


def test_what_serves_and_what_runs_at_the_edge_brings_no_torch() -> None:
    for runtime in ("serve", "edge", "glue", "lambda"):
        assert not any(pin.startswith("torch") for pin in pins.pins(ROOT, runtime))
