"""`lab new`: a whole repository under the customer's name, or nothing."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from repositories import FILES, Repository, release, template

from lab import cli
from lab import new as making
from lab.errors import LabError

REPO = Path(__file__).parents[2]


@pytest.fixture
def base(tmp_path: Path) -> Repository:
    return template(tmp_path / "template")


def test_what_git_tracks_becomes_a_repository_with_one_commit_under_the_customer_s_name(
    base: Repository, tmp_path: Path
) -> None:
    base.write({"scratch.log": "ignored", "draft.md": "not committed"})
    born = making.new(base.home(), tmp_path / "acme-pumps")
    made = Repository(born.path)
    assert made.git("log", "--format=%s").count("\n") == 0 and made.git("status", "--porcelain") == ""
    assert set(made.git("ls-files").splitlines()) == {*FILES, ".template.json"}
    project = tomllib.loads(made.text("pyproject.toml"))["project"]
    assert project["name"] == "acme-pumps" and project["optional-dependencies"]["all"] == ["acme-pumps[lab]"]
    settings = tomllib.loads(made.text("lab.toml"))
    assert settings["lab"]["name"] == "acme-pumps" and settings["data"]["name"] == "ml-lab"
    assert made.text("lab.toml").splitlines()[1] == 'name = "acme-pumps"   # the prefix'
    assert made.text("README.md").startswith("# acme-pumps\n")
    assert (born.path / "run.sh").stat().st_mode & 0o111
    assert born.uncommitted and "uncommitted" in "\n".join(making.lines(born))


def test_the_record_names_the_base_by_version_commit_and_digest(base: Repository, tmp_path: Path) -> None:
    born = making.new(base.home(), tmp_path / "acme", name="acme-line-3")
    made = Repository(born.path)
    said = json.loads(made.text(".template.json"))
    assert said["name"] == "acme-line-3" and said["version"] == "1.0.0" and said["source"] == str(base.root)
    assert said["commit"] == base.git("rev-parse", "HEAD")
    # The digest is that of all the rest.
    made.git("rm", "-q", ".template.json")
    assert made.git("write-tree") == said["tree"]


def test_a_template_without_git_is_copied_as_it_lies_there_without_what_it_ignores(
    base: Repository, tmp_path: Path
) -> None:
    base.write({"notes.md": "here", "a.log": "ignored", "build/x": "ignored"})
    subprocess.run(["rm", "-r", str(base.root / ".git")], check=True)
    born = making.new(base.home(), tmp_path / "acme")
    assert set(Repository(born.path).git("ls-files").splitlines()) == {*FILES, "notes.md", ".template.json"}
    assert born.record.commit is None and born.record.source == str(base.root)


def test_the_record_names_the_url_that_a_clone_came_from_without_its_password(base: Repository, tmp_path: Path) -> None:
    base.git("remote", "add", "origin", "https://me:secret@example.org/lab.git")
    assert making.new(base.home(), tmp_path / "acme").record.source == "https://example.org/lab.git"


def test_a_repository_that_was_made_can_be_the_template_of_another(base: Repository, tmp_path: Path) -> None:
    first = making.new(base.home(), tmp_path / "acme")
    second = making.new(Repository(first.path).home(), tmp_path / "acme-two")
    assert second.record.commit == Repository(first.path).git("rev-parse", "HEAD")
    assert '"acme-two[lab]"' in Repository(second.path).text("pyproject.toml")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Acme Pumps", "cannot be a lab's name"),
        ("a" * 17, "at most 16 characters"),
        ("-acme", "cannot be a lab's name"),
        ("click", "the name of a package that the lab installs"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_made(
    base: Repository, tmp_path: Path, name: str, said: str
) -> None:
    with pytest.raises(LabError, match=said):
        making.new(base.home(), tmp_path / "place" / "acme", name)
    assert not (tmp_path / "place").exists()


def test_a_folder_that_is_not_empty_stays_as_it_is_and_an_empty_one_is_taken(base: Repository, tmp_path: Path) -> None:
    place = tmp_path / "acme"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    with pytest.raises(LabError, match="is not empty"):
        making.new(base.home(), place)
    (place / "mine.txt").unlink()
    assert making.new(base.home(), place).files == len(FILES) + 1
    (tmp_path / "a-file").write_text("mine")
    with pytest.raises(LabError, match="is no folder"):
        making.new(base.home(), tmp_path / "a-file")


def test_a_failure_half_way_leaves_nothing(base: Repository, tmp_path: Path) -> None:
    base.commit("no project any more", {"pyproject.toml": "[tool]\n"})
    with pytest.raises(LabError, match=r"no version in a pyproject\.toml"):
        making.new(base.home(), tmp_path / "place" / "acme")
    assert list((tmp_path / "place").iterdir()) == []


def test_without_git_it_says_what_to_install(base: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="git is not on the PATH") as caught:
        making.new(base.home(), tmp_path / "place" / "acme")
    assert caught.value.hint == "install git" and list((tmp_path / "place").iterdir()) == []


def test_git_needs_no_name_of_the_person(base: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release(base, "1.1.0", {})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("HOME", str(tmp_path))
    born = making.new(base.home(), tmp_path / "acme")
    assert Repository(born.path).git("log", "--format=%an") == "lab"


def test_the_command_answers_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", str(tmp_path / "acme"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["name"], said["path"]) == ("acme", str(tmp_path / "acme")) and len(said["tree"]) == 40


@pytest.mark.slow
def test_a_repository_made_of_this_one_keeps_its_rules(tmp_path: Path) -> None:
    """Format, lint, and the tests of what the new name reaches: the tree, settings, doctor and command line."""
    assert cli.main(["new", str(tmp_path / "acme-pumps")]) == 0
    made = tmp_path / "acme-pumps"
    for command in (
        ["ruff", "format", "--check", "."],
        ["ruff", "check", "."],
        ["pytest", "-q", "tests/test_architecture.py", "tests/infra/test_config.py", "tests/lab/test_doctor.py"],
    ):
        done = subprocess.run([sys.executable, "-m", *command], cwd=made, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout[-3000:]
