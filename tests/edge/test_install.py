"""The install step: it uses what the device has, and says what is missing."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge import install

REPO = Path(__file__).parents[2]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "edge").mkdir(parents=True)
    for name in ("__init__.py", "install.py"):
        shutil.copy(REPO / "edge" / name, folder / "edge" / name)
    (tmp_path / "work").mkdir()
    return folder


def run(bundle: Path, version: str = "1.0.1") -> subprocess.CompletedProcess[str]:
    work = str(bundle.parent / "work")
    argv = [sys.executable, "-m", "edge.install", "--work", work, "--version", version]
    return subprocess.run(argv, cwd=bundle, capture_output=True, text=True)


def test_an_interpreter_that_has_every_pin_is_used_as_it_is(bundle: Path) -> None:
    pins = [f"{name}=={importlib.metadata.version(name)}" for name in ("numpy", "awsiotsdk")]
    (bundle / "requirements.txt").write_text("\n".join(pins) + "\n# a comment\n")
    done = run(bundle)
    assert (done.returncode, "has every pin" in done.stdout) == (0, True)
    launcher = bundle.parent / "work" / "python-1.0.1"
    says = subprocess.run([launcher, "-c", "import sys; print(sys.argv[1])", "a b"], capture_output=True, text=True)
    assert says.stdout == "a b\n"


def test_what_the_interpreter_lacks_is_named() -> None:
    lines = ["numpy==0.0.1", "no-such-distribution==1.0", "", "pip>=1"]
    assert install.unmet(lines) == ["numpy==0.0.1", "no-such-distribution==1.0", "pip>=1"]


def test_a_bundle_without_its_requirements_fails_by_name(bundle: Path) -> None:
    done = run(bundle)
    assert (done.returncode, "requirements.txt" in done.stderr) == (1, True)


def test_an_environment_that_cannot_be_made_fails_by_the_command(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(folder: Path, listing: Path, wheels: Path | None) -> Path:
        raise subprocess.CalledProcessError(1, ["pip", "install", "-r", str(listing)])

    listing = Path(install.__file__).parents[1] / "requirements.txt"
    monkeypatch.setattr(install, "environment", refuse)
    monkeypatch.setattr(install, "__file__", str(bundle / "edge" / "install.py"))
    (bundle / "requirements.txt").write_text("no-such-distribution==1.0\n")
    assert install.main(["--work", str(tmp_path / "work"), "--version", "1"]) == 1
    assert "pip install -r" in capsys.readouterr().err
    assert not listing.exists()


def test_old_launchers_and_environments_go(bundle: Path) -> None:
    (bundle / "requirements.txt").write_text("")
    for number in range(4):
        (bundle.parent / "work" / f"venv-1.0.{number}").mkdir()
        assert run(bundle, f"1.0.{number}").returncode == 0
    names = sorted(path.name for path in (bundle.parent / "work").iterdir())
    assert names == ["python-1.0.2", "python-1.0.3", "venv-1.0.2", "venv-1.0.3"]
