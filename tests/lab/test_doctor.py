"""The doctor: quick, whole, and right about what would fail."""

import sys
from pathlib import Path

import pytest

from lab import doctor
from lab.home import Home

REPO = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(REPO, tmp_path / ".lab", REPO / "lab.toml")


def finding(home: Home, name: str) -> doctor.Finding:
    return next(row for row in doctor.examine(home) if row.name == name)


def test_it_finds_nothing_wrong_here(home: Home) -> None:
    assert [row for row in doctor.examine(home) if row.state == doctor.FAIL] == []


def test_whatever_is_not_ok_has_a_mend(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    rows = [row for row in doctor.examine(home) if row.state != doctor.OK]
    assert {row.name for row in rows} >= {"packages", "our packages", "java", "node", "proxy"}
    assert all(row.mend for row in rows)


def test_a_foreign_package_of_our_name_is_found(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    found = finding(home, "our packages")
    assert found.state == doctor.FAIL and str(tmp_path) in found.detail


def test_a_console_script_of_our_name_is_no_foreign_package(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert finding(home, "our packages").state == doctor.OK


def test_a_state_folder_too_deep_for_a_socket_is_a_warning(tmp_path: Path) -> None:
    deep = Home(REPO, tmp_path / ("x" * 90), REPO / "lab.toml")
    assert finding(deep, "path length").state == doctor.WARN
