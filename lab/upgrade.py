"""`lab upgrade`: a later version of the template into a customer's repository, as a merge that git does.

Base and new version are written as two commits, both under the customer's name, and the step from one to the other is
picked onto the customer's last commit: a three-way merge per file that needs no common history. What both changed is a
conflict with git's own marks. The record of the base is part of the step, so it changes when the merge is committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab import lineage
from lab.errors import LabError
from lab.gitrepo import Git
from lab.home import Home
from lab.lineage import Record, Template

UNDER_WAY = (
    "CHERRY_PICK_HEAD",
    "MERGE_HEAD",
    "REVERT_HEAD",
    "REBASE_HEAD",
    "sequencer",
    "rebase-merge",
    "rebase-apply",
)
GO_ON = "mend them, `git add` each, then: git cherry-pick --continue"
TAKE_BACK = "git cherry-pick --abort"
# A directory that the template renamed takes no file of the customer's along: nothing moves but what the step names.
MERGE = ("-c", "merge.directoryRenames=false", "-c", "advice.mergeConflict=false")


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade came to. `changes` are the template's, as git's letter and path; `commit` is null on conflict."""

    before: Record
    after: Record
    changes: list[tuple[str, str]]
    conflicts: list[str]
    commit: str | None


def upgrade(home: Home, source: str | None = None, to: str | None = None) -> Upgrade:
    """Merges a version of the template into the repository of `home`. Raises LabError; then nothing is changed."""
    git = Git(home.repo).identified()
    if not git.is_root():
        raise LabError(f"{home.repo} is no git repository, so there is nothing to merge into", "git init, then commit")
    before = lineage.read(git)
    _check_at_rest(git)
    named = source or before.source
    with lineage.template(named, to) as newer:
        if not to and _is_older(newer, before):
            raise LabError(f"{named} is older than this repository's base {before.label}", "name a version: --to TAG")
        base = _base(git, before, newer)
        tree = lineage.render(git, newer, before.name)
        after = Record(before.name, newer.origin(), newer.version(), newer.commit, tree)
    if tree == base and after.commit == before.commit:
        return Upgrade(before, before, [], [], git.text("rev-parse", "HEAD"))
    return _merge(git, before, after, base)


def _check_at_rest(git: Git) -> None:
    """Raises LabError while another operation is under way, or an edit is in no commit yet."""
    for name in UNDER_WAY:
        if (git.folder / git.text("rev-parse", "--git-path", name)).exists():
            raise LabError("an upgrade, merge or rebase is under way here", f"{GO_ON}; or take it back: {TAKE_BACK}")
    lock = git.folder / git.text("rev-parse", "--git-path", "index.lock")
    if lock.exists():
        raise LabError(f"git works here, or was killed while it did: {lock} is there", "when no git runs, delete it")
    dirty = git.text("status", "--porcelain").splitlines()
    if dirty:
        shown = "".join(f"\n  {line}" for line in dirty[:8]) + ("\n  …" if len(dirty) > 8 else "")
        raise LabError(
            f"{len(dirty)} uncommitted changes; an upgrade begins from a commit:{shown}",
            "commit or stash them (git stash -u); what an upgrade that was killed left goes with git reset --hard",
        )


def _is_older(newer: Template, before: Record) -> bool:
    """Whether the template's version lies before the base."""
    if not (newer.commit and before.commit) or newer.commit == before.commit:
        return False
    return newer.git.holds("merge-base", "--is-ancestor", newer.commit, before.commit)


def _base(git: Git, before: Record, newer: Template) -> str:
    """The base's tree: in this repository's own history, else out of the template's."""
    if git.holds("cat-file", "-e", f"{before.tree}^{{tree}}") and _whole(git, before.tree):
        return before.tree
    if before.commit and newer.git.holds("cat-file", "-e", f"{before.commit}^{{commit}}"):
        old = newer.git.text("rev-parse", f"{before.commit}^{{tree}}")
        return lineage.render(git, Template(newer.git, newer.source, before.commit, old), before.name)
    raise LabError(
        f"the base {before.label} is neither in this repository's history nor in {newer.source}",
        "fetch the whole history here (git fetch --unshallow), or name a clone of the template that has it: --from",
    )


def _whole(git: Git, tree: str) -> bool:
    """Whether everything below a tree is there: a partial clone may hold the tree alone."""
    return git.holds("rev-list", "--objects", "--quiet", tree)


def _check_nothing_is_overwritten(git: Git, tree: str) -> list[str]:
    """The files that are new here. Raises LabError where one would overwrite what git ignores at its place."""
    ours = set(git.names("ls-tree", "-r", "-z", "--name-only", "HEAD"))
    fresh = [path for path in git.names("ls-tree", "-r", "-z", "--name-only", tree) if path not in ours]
    taken = sorted({str(at) for path in fresh if (at := _in_the_way(git.folder, Path(path), ours))})
    if taken:
        raise LabError(
            f"the template brings files to places that git ignores here: {', '.join(taken)}",
            "move them away, or commit them (git add -f)",
        )
    return fresh


def _in_the_way(root: Path, path: Path, ours: set[str]) -> Path | None:
    """What lies untracked at `path`, or as a file where a folder of it must be."""
    for at in (path, *list(path.parents)[:-1]):
        if str(at) not in ours and ((root / at).is_symlink() or (root / at).is_file()):
            return at
    folder = root / path
    tracked = any(name.startswith(f"{path}/") for name in ours)
    return path if not tracked and folder.is_dir() and any(folder.iterdir()) else None


def _merge(git: Git, before: Record, after: Record, base: str) -> Upgrade:
    old = git.text("commit-tree", lineage.with_record(git, base, before), "-m", f"Template {before.label}")
    subject = f"Template {after.label} instead of {before.label}"
    new = git.text("commit-tree", lineage.with_record(git, after.tree, after), "-p", old, "-m", subject)
    changes = _changes(git.names("diff-tree", "-r", "-z", "-M", "--name-status", base, after.tree))
    fresh = _check_nothing_is_overwritten(git, after.tree)
    head = git.text("rev-parse", "HEAD")
    try:
        done = git.run(*MERGE, "cherry-pick", "--keep-redundant-commits", new, may_fail=True)
    except BaseException:
        _take_back(git, head, after.tree, fresh)
        raise
    if done.returncode == 0:
        return Upgrade(before, after, changes, [], git.text("rev-parse", "HEAD"))
    conflicts = git.names("diff", "-z", "--name-only", "--diff-filter=U")
    if not conflicts:
        said = done.stderr.decode(errors="replace").strip()
        raise LabError(f"git could not commit the merge: {said}", f"mend that, or take it back: {TAKE_BACK}")
    return Upgrade(before, after, changes, sorted(set(conflicts)), None)


def _take_back(git: Git, head: str, tree: str, fresh: list[str]) -> None:
    """After an interrupt: the work tree as it was, which is that of `head`. A commit that was made stays."""
    if git.text("rev-parse", "HEAD") != head:
        return
    (git.folder / git.text("rev-parse", "--git-path", "index.lock")).unlink(missing_ok=True)
    git.run("cherry-pick", "--quit", may_fail=True)
    git.run("reset", "-q", "--hard", head)
    for path in fresh:
        there = git.folder / path
        if there.is_file() and git.text("hash-object", "--no-filters", "--", path) == git.text(
            "rev-parse", f"{tree}:{path}"
        ):
            there.unlink()


def _changes(rows: list[str]) -> list[tuple[str, str]]:
    """Git's letter and the path of each; of a rename the path it has now."""
    found, at = [], 0
    while at < len(rows):
        step = 3 if rows[at][:1] in "RC" else 2
        found.append((rows[at][:1], rows[at + step - 1]))
        at += step
    return found


def lines(result: Upgrade) -> list[str]:
    """What was done and what comes next, for people."""
    if result.after == result.before:
        return [
            f"{result.before.source} has nothing newer than {result.before.label}, which this repository is at",
            "another clone or URL: --from; another version: --to",
        ]
    names = {"A": "added", "D": "deleted", "M": "changed", "R": "renamed", "T": "of another type"}
    counts = [f"{sum(how == letter for how, _ in result.changes)} {said}" for letter, said in names.items()]
    said = [
        f"template {result.before.label} -> {result.after.label}: its files "
        + ", ".join(count for count in counts if not count.startswith("0 "))
    ]
    if result.conflicts:
        said += [f"{len(result.conflicts)} files that both changed, in conflict:"]
        said += [f"  {path}" for path in result.conflicts]
        return [*said, f"next: {GO_ON}", f"or take it all back: {TAKE_BACK}"]
    return [*said, f"merged as {str(result.commit)[:10]}; next: make check (git reset --hard HEAD~1 takes it back)"]
