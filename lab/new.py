"""`lab new`: a customer's repository, made of the template under the customer's name, with a first commit.

It is made beside its place and moved there when whole, so a failure leaves nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import lineage
from lab.errors import LabError
from lab.gitrepo import Git
from lab.home import Home


@dataclass(frozen=True)
class Born:
    """A repository that `lab new` made."""

    path: Path
    record: lineage.Record
    files: int
    uncommitted: bool  # the template had edits that no commit has; they are not in it


def new(home: Home, directory: Path, name: str | None = None) -> Born:
    """Makes `directory`, which must be absent or empty, a repository of the customer's. Raises LabError."""
    place = directory.absolute()
    _check_place(place)
    chosen = name or place.name.lower().replace("_", "-").replace(" ", "-")
    lineage.check_name(chosen, (home.repo / "requirements.lock").read_text("utf-8"))
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
    try:
        with lineage.template(str(home.repo)) as template:
            record = _fill(fresh, template, chosen)
            uncommitted = bool(template.commit and template.git.text("status", "--porcelain"))
        fresh.chmod(0o755)
        if place.exists():
            place.rmdir()
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    files = len(Git(place).names("ls-files", "-z"))
    return Born(place, record, files, uncommitted)


def _check_place(place: Path) -> None:
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise LabError(f"{place} is there and is no folder", "name a folder that is empty or not there yet")
    if place.is_dir() and any(place.iterdir()):
        raise LabError(f"{place} is not empty", "name a folder that is empty or not there yet")


def _fill(folder: Path, template: lineage.Template, name: str) -> lineage.Record:
    """Makes `folder` a repository with one commit."""
    git = Git(folder).identified()
    git.run("init", "-q", "-b", "main")
    tree = lineage.render(git, template, name)
    record = lineage.Record(name, template.origin(), template.version(), template.commit, tree)
    message = f"{name}, made from the template {record.label} with `lab new`"
    commit = git.text("commit-tree", lineage.with_record(git, tree, record), "-m", message)
    git.run("update-ref", "refs/heads/main", commit)
    git.run("reset", "-q", "--hard")
    return record


def lines(born: Born) -> list[str]:
    """What was done and what comes next, for people."""
    said = [
        f"{born.path}: {born.files} files, one commit, from the template {born.record.label}",
        f"next: cd {born.path} && make check; then lab adapt PATH for the customer's data",
        "a later version of the template comes in with: lab upgrade",
    ]
    if born.uncommitted:
        said.insert(1, "the template has uncommitted changes; they are not in it")
    return said
