"""`lab upgrade`: the template's changes come in, the customer's stay, and what both changed is a conflict by name."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from repositories import Repository, release, template

from lab import new as making
from lab import upgrade as merging
from lab.errors import LabError

REPO = Path(__file__).parents[2]
Content = str | bytes | None
Edit = Callable[[str, str], Content]


def lines_of(name: str, count: int = 12) -> str:
    return "".join(f"{name} line {number}\n" for number in range(count))


def as_bytes(content: Content) -> bytes | None:
    return content.encode() if isinstance(content, str) else content


def replaced(number: int) -> Edit:
    """Another text in one line; it names who wrote it."""

    def edit(who: str, text: str) -> str:
        rows = text.splitlines(keepends=True)
        return "".join([*rows[:number], f"{who} was here\n", *rows[number + 1 :]])

    return edit


EDITS: dict[str, Edit] = {
    "nothing": lambda who, text: text,
    "line": replaced(5),
    "neighbour": replaced(6),
    "far": replaced(11),
    "delete": lambda who, text: None,
    "binary": lambda who, text: b"\0\xff" + who.encode(),
    "end": lambda who, text: text + f"{who} at the end",
    "windows": lambda who, text: text.replace("\n", "\r\n"),
}
CASES = [(ours, theirs) for ours in EDITS for theirs in EDITS]


@pytest.fixture
def base(tmp_path: Path) -> Repository:
    more: dict[str, Content] = {f"cases/{ours}-{theirs}": lines_of(f"{ours}-{theirs}") for ours, theirs in CASES}
    return template(tmp_path / "template", {**more, "doc.md": lines_of("doc"), "old.py": lines_of("old", 30)})


@pytest.fixture
def made(base: Repository, tmp_path: Path) -> Repository:
    return Repository(making.new(base.home(), tmp_path / "acme").path)


def test_of_every_pair_of_edits_nothing_is_lost(base: Repository, made: Repository) -> None:
    before = {f"cases/{ours}-{theirs}": lines_of(f"{ours}-{theirs}") for ours, theirs in CASES}
    ours = {path: EDITS[path[6:].split("-")[0]]("customer", text) for path, text in before.items()}
    theirs = {path: EDITS[path[6:].split("-")[1]]("template", text) for path, text in before.items()}
    made.commit("the customer's", ours)
    release(base, "2.0.0", theirs)
    result = merging.upgrade(made.home())
    assert set(result.conflicts) == made.conflicts()
    for path, text in before.items():
        mine, yours = ours[path], theirs[path]
        found = (made.root / path).read_bytes() if (made.root / path).exists() else None
        if text in (mine, yours) or mine == yours:
            assert path not in result.conflicts and found == as_bytes(yours if mine == text else mine), path
        elif isinstance(mine, str) and isinstance(yours, str):
            news = {*mine.splitlines(), *yours.splitlines()} - {*text.splitlines()}
            assert found is not None and news <= {*found.decode().splitlines()}, path
        else:  # deleted or binary on one side: git leaves what there is, the customer's first
            assert path in result.conflicts and found == as_bytes(yours if mine is None else mine), path


@pytest.mark.parametrize("seed", range(4))
def test_lines_that_either_wrote_are_there_afterwards_whatever_else_changed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"src/{number}.txt" for number in range(40)]
    before = {name: [f"{name} {row}" for row in range(chance.randint(0, 20))] for name in names}

    def edited(who: str) -> dict[str, Content]:
        found: dict[str, Content] = {}
        for name, rows in before.items():
            new = list(rows)
            for step in range(chance.randint(0, 4)):
                at = chance.randint(0, len(new))
                new[at : at + chance.randint(0, 2)] = [
                    f"{who} {name} {step} {row}" for row in range(chance.randint(0, 2))
                ]
            found[name] = "".join(row + "\n" for row in new)
        return found

    base = template(tmp_path / "template", {name: "".join(r + "\n" for r in rows) for name, rows in before.items()})
    made = Repository(making.new(base.home(), tmp_path / "acme").path)
    ours, theirs = edited("customer"), edited("template")
    made.write(ours)
    if made.git("status", "--porcelain"):
        made.commit("the customer's")
    release(base, "2.0.0", theirs)
    result = merging.upgrade(made.home())
    for name, rows in before.items():
        found = set(made.text(name).splitlines())
        for side in (ours, theirs):
            news = set(str(side[name]).splitlines()) - set(rows)
            assert news <= found, f"{name}: {news - found}"
        gone = {row for row in rows if row not in str(ours[name]) or row not in str(theirs[name])}
        assert name in result.conflicts or not found & gone, name


def test_files_are_added_deleted_renamed_and_made_executable(base: Repository, made: Repository) -> None:
    made.commit("mine", {"old.py": lines_of("old", 30).replace("line 3\n", "line 3, mine\n"), "own.md": "mine"})
    base.git("mv", "old.py", "new.py")
    (base.root / "doc.md").chmod(0o755)
    release(base, "2.0.0", {"fresh.md": "fresh", "run.sh": None})
    result = merging.upgrade(made.home())
    assert result.conflicts == [] and result.commit == made.git("rev-parse", "HEAD")
    assert "line 3, mine\n" in made.text("new.py") and not (made.root / "old.py").exists()
    assert made.text("fresh.md") == "fresh" and made.text("own.md") == "mine" and not (made.root / "run.sh").exists()
    assert (made.root / "doc.md").stat().st_mode & 0o111
    assert set(result.changes) >= {("A", "fresh.md"), ("D", "run.sh"), ("R", "new.py"), ("M", "doc.md")}
    said = "\n".join(merging.lines(result))
    assert "1 added, 1 deleted" in said and "1 renamed" in said and "make check" in said


def test_a_file_that_both_added_is_a_conflict_unless_it_is_the_same(base: Repository, made: Repository) -> None:
    made.commit("mine", {"a.md": "mine\n", "same.md": "same\n"})
    release(base, "2.0.0", {"a.md": "theirs\n", "same.md": "same\n"})
    assert merging.upgrade(made.home()).conflicts == ["a.md"]
    assert {"mine", "theirs"} <= set(made.text("a.md").splitlines())


def test_the_customer_s_name_is_no_difference_and_stays(base: Repository, made: Repository) -> None:
    changed = base.text("README.md").replace("Text.", "Another text.")
    release(base, "2.0.0", {"README.md": changed, "lab.toml": base.text("lab.toml") + "\n[more]\nkey = 1\n"})
    assert merging.upgrade(made.home()).conflicts == []
    assert made.text("README.md") == "# acme\n\nAnother text.\n"
    assert 'name = "acme"' in made.text("lab.toml") and "[more]" in made.text("lab.toml")
    assert 'name = "acme"\nversion = "2.0.0"' in made.text("pyproject.toml")


def test_the_record_changes_when_the_merge_is_committed_and_not_before(base: Repository, made: Repository) -> None:
    made.commit("mine", {"doc.md": "mine\n"})
    release(base, "2.0.0", {"doc.md": "theirs\n"})
    result = merging.upgrade(made.home())
    assert result.commit is None and json.loads(made.git("show", "HEAD:.template.json"))["version"] == "1.0.0"
    said = "\n".join(merging.lines(result))
    assert "  doc.md" in said and "git cherry-pick --continue" in said and "git cherry-pick --abort" in said
    with pytest.raises(LabError, match="under way"):
        merging.upgrade(made.home())
    made.commit("merged", {"doc.md": "both\n"})
    assert json.loads(made.git("show", "HEAD:.template.json"))["version"] == "2.0.0"
    assert merging.upgrade(made.home()).changes == []


def test_a_conflict_taken_back_leaves_the_repository_as_it_was(base: Repository, made: Repository) -> None:
    head = made.commit("mine", {"doc.md": "mine\n"})
    release(base, "2.0.0", {"doc.md": "theirs\n", "fresh.md": "fresh"})
    merging.upgrade(made.home())
    made.git("cherry-pick", "--abort")
    assert made.git("rev-parse", "HEAD") == head and made.git("status", "--porcelain") == ""
    assert merging.upgrade(made.home()).conflicts == ["doc.md"]


def test_an_upgrade_needs_no_history_of_the_one_before(base: Repository, made: Repository, tmp_path: Path) -> None:
    """Merged as one squashed commit and cloned without history: the base comes from the template."""
    made.commit("mine", {"doc.md": lines_of("doc").replace("line 2", "line 2, mine")})
    release(base, "2.0.0", {"doc.md": lines_of("doc") + "two\n"})
    assert merging.upgrade(made.home()).conflicts == []
    made.git("checkout", "-q", "--orphan", "squashed")
    made.commit("all in one")
    clone = Repository(tmp_path / "clone")
    made.git("clone", "-q", "--depth", "1", "--branch", "squashed", f"file://{made.root}", str(clone.root))
    release(base, "3.0.0", {"doc.md": lines_of("doc") + "two, and three\n"})
    assert merging.upgrade(clone.home()).conflicts == []
    assert "line 2, mine" in clone.text("doc.md") and clone.text("doc.md").endswith("two, and three\n")


def test_a_base_that_nobody_has_is_refused(base: Repository, made: Repository, tmp_path: Path) -> None:
    made.git("checkout", "-q", "--orphan", "squashed")
    record = json.loads(made.text(".template.json"))
    made.commit("one", {".template.json": json.dumps({**record, "commit": "0" * 40, "tree": "1" * 40})})
    release(base, "2.0.0", {})
    with pytest.raises(LabError, match="neither in this repository's history nor in"):
        merging.upgrade(made.home())


def test_a_version_is_chosen_by_tag_and_an_older_one_only_by_name(base: Repository, made: Repository) -> None:
    release(base, "2.0.0", {"doc.md": "two\n"})
    release(base, "3.0.0", {"doc.md": "three\n"})
    assert merging.upgrade(made.home(), to="v2.0.0").after.version == "2.0.0" and made.text("doc.md") == "two\n"
    base.git("reset", "-q", "--hard", "v1")
    with pytest.raises(LabError, match="is older than this repository's base 2"):
        merging.upgrade(made.home())
    with pytest.raises(LabError, match="has no version v9"):
        merging.upgrade(made.home(), to="v9")
    assert merging.upgrade(made.home(), to="v1").after.version == "1.0.0" and made.text("doc.md") == lines_of("doc")


def test_a_template_in_another_place_or_without_git_is_taken_too(
    base: Repository, made: Repository, tmp_path: Path
) -> None:
    release(base, "2.0.0", {"doc.md": "two\n"})
    shutil.copytree(base.root, tmp_path / "moved")
    shutil.rmtree(base.root)
    with pytest.raises(LabError, match="git clone"):
        merging.upgrade(made.home())
    assert merging.upgrade(made.home(), f"file://{tmp_path}/moved").after.source == f"file://{tmp_path}/moved"
    shutil.rmtree(tmp_path / "moved" / ".git")
    (tmp_path / "moved" / "doc.md").write_text("unpacked\n")
    assert merging.upgrade(made.home(), str(tmp_path / "moved")).after.commit is None
    assert made.text("doc.md") == "unpacked\n"


@pytest.mark.parametrize("what", ["changed", "staged", "untracked"])
def test_uncommitted_work_is_refused_and_left_alone(base: Repository, made: Repository, what: str) -> None:
    release(base, "2.0.0", {"doc.md": "two\n"})
    path = "mine.md" if what == "untracked" else "doc.md"
    made.write({path: "mine\n"})
    if what == "staged":
        made.git("add", path)
    with pytest.raises(LabError, match="1 uncommitted changes"):
        merging.upgrade(made.home())
    assert made.text(path) == "mine\n"


def test_what_git_ignores_is_not_overwritten(base: Repository, made: Repository) -> None:
    made.write({"secret.log": "mine", "build/mine.txt": "mine", "trace.log": "a file"})
    release(base, "2.0.0", {".gitignore": "", "secret.log": "theirs", "build": "a file", "trace.log/x": "theirs"})
    with pytest.raises(LabError, match=r"ignores here: build, secret\.log, trace\.log"):
        merging.upgrade(made.home())
    assert made.text("secret.log") == "mine" and made.git("status", "--porcelain") == ""


def test_what_was_not_made_by_lab_new_is_refused(base: Repository) -> None:
    with pytest.raises(LabError, match="was not made by `lab new`"):
        merging.upgrade(base.home())


def test_an_interrupt_in_the_middle_takes_everything_back(base: Repository, made: Repository, tmp_path: Path) -> None:
    """A git that writes half of the merge, then hangs until it is killed."""
    head = made.commit("mine", {"doc.md": lines_of("doc").replace("line 2", "line 2, mine")})
    release(base, "2.0.0", {"doc.md": lines_of("doc") + "two\n", "fresh.md": "fresh\n"})
    real, half = shutil.which("git"), tmp_path / "half"
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "git"
    shim.write_text(
        f'#!/bin/sh\ncase "$*" in *keep-redundant*) printf "fresh\\n" > fresh.md; echo half > doc.md\n'
        f'touch .git/index.lock {half}; exec sleep 60;; esac\nexec {real} "$@"\n'
    )
    shim.chmod(0o755)
    code = (
        f"from lab import upgrade; from lab.home import Home; from pathlib import Path; r = Path({str(made.root)!r}); "
    )
    code += (
        "from lab import processes; processes.stop_like_ctrl_c(); upgrade.upgrade(Home(r, r / '.lab', r / 'lab.toml'))"
    )
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    child = subprocess.Popen([sys.executable, "-c", code], cwd=REPO, env=env, stderr=subprocess.PIPE)
    while not half.exists():
        assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert b"Interrupted" in child.communicate(timeout=30)[1]
    assert made.git("rev-parse", "HEAD") == head and made.git("status", "--porcelain") == ""
    assert not (made.root / "fresh.md").exists()
    assert merging.upgrade(made.home()).conflicts == []
    assert "line 2, mine" in made.text("doc.md") and made.text("doc.md").endswith("two\n")


def test_the_command_says_what_conflicts_and_ends_with_1(base: Repository, made: Repository) -> None:
    """Through the copy's own command line, which works on the repository that it lies in."""
    shutil.copytree(REPO / "lab", made.root / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    made.commit("mine", {"doc.md": "mine\n", ".gitignore": "__pycache__\n"})
    release(base, "2.0.0", {"doc.md": "theirs\n"})
    argv = [sys.executable, "-m", "lab", "upgrade", "--json"]
    done = subprocess.run(argv, cwd=made.root, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert said["conflicts"] == ["doc.md"] and said["commit"] is None and said["after"]["version"] == "2.0.0"
