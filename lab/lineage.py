"""What a customer's repository descends from: the template's trees under the customer's name, and the record of it.

`.template.json` in the customer's repository is the record: which template (`source`), which version of it (`version`,
`commit`; null where the template had no history), and `tree`, git's digest of that version under the customer's name,
which is the base that the next upgrade merges from.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from lab.errors import LabError
from lab.gitrepo import Git, GitError

RECORD = ".template.json"
# As `[lab] name` in infra/tables.py: a bucket's name must hold it.
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_NAME = 16
# A remote that others reach too: a scheme, or ssh's user@host:path.
REMOTE = re.compile(r"(https?|ssh|git)://|[^/@]+@[^/:]+:")


@dataclass(frozen=True)
class Record:
    """The base version of a customer's repository."""

    name: str
    source: str
    version: str
    commit: str | None
    tree: str

    def text(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @property
    def label(self) -> str:
        return f"{self.version} ({self.commit[:10]})" if self.commit else self.version


def read(git: Git) -> Record:
    """The record as the repository's last commit has it. Raises LabError where there is none."""
    done = git.run("show", f"HEAD:{RECORD}", may_fail=True)
    if done.returncode != 0:
        raise LabError(
            f"{git.folder} was not made by `lab new`: its last commit has no {RECORD}", "make a repository: lab new DIR"
        )
    try:
        return Record(**json.loads(done.stdout))
    except (ValueError, TypeError) as error:
        raise LabError(f"{RECORD} cannot be read: {error}", f"take it back: git log -- {RECORD}") from None


@dataclass(frozen=True)
class Template:
    """One version of the template: its tree in a repository's object store."""

    git: Git
    source: str
    commit: str | None
    tree: str

    def file(self, path: str) -> bytes:
        return self.git.run("cat-file", "blob", f"{self.tree}:{path}").stdout

    def origin(self) -> str:
        """Where the next version will be found: the URL that a clone came from, else the place itself."""
        here = Path(self.source).expanduser()
        if self.commit and here.is_dir():
            url = self.git.run("config", "--get", "remote.origin.url", may_fail=True).stdout.decode().strip()
            return _without_credentials(url) if REMOTE.match(url) else str(here.resolve())
        return str(here.resolve()) if here.is_dir() else _without_credentials(self.source)

    def version(self) -> str:
        """The version in its pyproject.toml. Raises LabError where the tree is no lab."""
        try:
            return str(tomllib.loads(self.file("pyproject.toml").decode())["project"]["version"])
        except (GitError, ValueError, KeyError, TypeError):
            raise LabError(f"{self.source} is no lab: it has no version in a pyproject.toml") from None


@contextlib.contextmanager
def template(source: str, at: str | None = None) -> Iterator[Template]:
    """The template in a folder or at a git URL, as commit or tag `at` has it; without, as its last commit.

    What a repository has not committed is left out. A folder that is no repository is taken as it lies there, without
    what its .gitignore names, and has no version but that one.
    """
    here = Path(source).expanduser()
    with tempfile.TemporaryDirectory(prefix="lab-template-") as scratch:
        if here.is_dir():
            git = Git(here.resolve())
            if not git.is_root():
                yield _unversioned(here.resolve(), Path(scratch), at)
                return
        else:
            git = Git(Path(scratch))
            git.run("clone", "-q", "--bare", "--", source, ".")
        yield _at(git, source, at)


def _at(git: Git, source: str, at: str | None) -> Template:
    done = git.run("rev-parse", "-q", "--verify", "--end-of-options", f"{at or 'HEAD'}^{{commit}}", may_fail=True)
    if done.returncode != 0:
        raise LabError(f"{source} has no version {at or 'HEAD'}", f"list them: git -C {git.folder} tag")
    commit = done.stdout.decode().strip()
    return Template(git, source, commit, git.text("rev-parse", f"{commit}^{{tree}}"))


def _unversioned(folder: Path, scratch: Path, at: str | None) -> Template:
    if at:
        raise LabError(f"{folder} is no git repository, so it has no version {at}", "name a clone of the template")
    Git(scratch).run("init", "-q", "--bare")
    git = Git(folder, {"GIT_DIR": str(scratch), "GIT_WORK_TREE": str(folder)})
    git.run("-c", "core.autocrlf=false", "add", "--all", "--force", "--", *_plain(git))
    return Template(git, str(folder), None, git.text("write-tree"))


def _plain(git: Git) -> list[str]:
    """What lies at the top of a folder and is not ignored there."""
    found = git.names("ls-files", "-z", "--others", "--exclude-standard", "--directory", "--no-empty-directory")
    if not found:
        raise LabError(f"{git.folder} holds nothing that could be a template")
    return found


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return url


def render(git: Git, made: Template, name: str) -> str:
    """Writes the template under the customer's name into a repository; returns the tree, which has no record in it."""
    git.take(made.git, made.tree)
    with tempfile.TemporaryDirectory(prefix="lab-index-") as scratch:
        staged = Git(git.folder, {**git.env, "GIT_INDEX_FILE": str(Path(scratch) / "index")})
        staged.run("read-tree", made.tree)
        staged.run("update-index", "--force-remove", "--", RECORD)
        for path, rename in RENAMED.items():
            mode, _, _ = staged.text("ls-files", "-s", "--", path).partition(" ")
            if mode:
                blob = git.text("hash-object", "-w", "--stdin", given=rename(made.file(path).decode(), name).encode())
                staged.run("update-index", "--cacheinfo", f"{mode},{blob},{path}")
        return staged.text("write-tree")


def with_record(git: Git, tree: str, record: Record) -> str:
    """The same tree with the record in it."""
    with tempfile.TemporaryDirectory(prefix="lab-index-") as scratch:
        staged = Git(git.folder, {**git.env, "GIT_INDEX_FILE": str(Path(scratch) / "index")})
        staged.run("read-tree", tree)
        blob = git.text("hash-object", "-w", "--stdin", given=record.text().encode())
        staged.run("update-index", "--add", "--cacheinfo", f"100644,{blob},{RECORD}")
        return staged.text("write-tree")


def check_name(name: str, pins: str) -> None:
    """Raises LabError unless `name` can be the lab's and the distribution's; `pins` is requirements.lock."""
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise LabError(
            f"{name!r} cannot be a lab's name: lower-case letters, digits and single dashes, a letter first, "
            f"at most {LONGEST_NAME} characters, since every bucket's name holds it",
            "give one: lab new DIR --name NAME",
        )
    if re.search(rf"(?mi)^{re.escape(name)}==", pins):
        raise LabError(f"{name!r} is the name of a package that the lab installs", "give another: --name NAME")


def _project(text: str, name: str) -> str:
    """The distribution's name, and the extras that refer to it."""
    found = re.search(r'(?m)^name = "([^"]+)"', text)
    if not found:
        return text
    text = text[: found.start(1)] + name + text[found.end(1) :]
    return text.replace(f'"{found.group(1)}[', f'"{name}[')


def _settings(text: str, name: str) -> str:
    """`[lab] name`; the comment behind it keeps its column."""

    def renamed(found: re.Match[str]) -> str:
        value = f'{found.group(1)}"{name}"'
        return value.ljust(len(found.group(0)) - 1) + " " if found.group(3) else value

    return re.sub(r'(\[lab\]\n(?:[^\[\n]*\n)*?name = )("[^"\n]*")( *)', renamed, text, count=1)


def _readme(text: str, name: str) -> str:
    return re.sub(r"\A# [^\n]*", f"# {name}", text)


# What bears the product's name and should bear the customer's. What the code says of itself it reads from these.
RENAMED: dict[str, Callable[[str, str], str]] = {
    "pyproject.toml": _project,
    "lab.toml": _settings,
    "README.md": _readme,
}
