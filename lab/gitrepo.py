"""Git as the lab calls it: one repository, its own environment, an error in git's own words."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError

# What a caller's hook or alias would point at another repository.
REDIRECTS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
# Who commits where git knows nobody.
NOBODY = {"NAME": "lab", "EMAIL": "lab@localhost"}


class GitError(LabError):
    """Git is missing, or refused; the message is its own."""


@dataclass(frozen=True)
class Git:
    """A repository: `folder` is where git runs, `env` what its calls see beside the caller's environment."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *args: str, given: bytes | None = None, may_fail: bool = False) -> subprocess.CompletedProcess[bytes]:
        """One call. Raises GitError where git is missing, or fails and may not."""
        program = shutil.which("git")
        if program is None:
            raise GitError("git is not on the PATH, and this command keeps and merges versions with it", "install git")
        inherited = {name: value for name, value in os.environ.items() if name not in REDIRECTS}
        done = subprocess.run(
            [program, *args],
            cwd=self.folder,
            env={**inherited, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", **self.env},
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
        )
        if done.returncode != 0 and not may_fail:
            said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
            raise GitError(f"git {args[0]} in {self.folder}: {said}")
        return done

    def text(self, *args: str, given: bytes | None = None) -> str:
        """What a call prints, without the end of its last line."""
        return os.fsdecode(self.run(*args, given=given).stdout).rstrip("\n")

    def names(self, *args: str) -> list[str]:
        """What a call prints with `-z`: paths, whatever is in their names."""
        return [os.fsdecode(name) for name in self.run(*args).stdout.split(b"\0") if name]

    def holds(self, *args: str) -> bool:
        """Whether a call succeeds."""
        return self.run(*args, may_fail=True).returncode == 0

    def is_root(self) -> bool:
        """Whether `folder` is a repository, with a work tree or bare, and not merely somewhere inside another's."""
        done = self.run("rev-parse", "--is-bare-repository", "--show-cdup", may_fail=True)
        return done.returncode == 0 and done.stdout.split() in ([b"false"], [b"true"])

    def identified(self) -> Git:
        """The same, able to commit where nobody told git a name."""
        env = dict(self.env)
        for who in ("AUTHOR", "COMMITTER"):
            if not self.holds("-c", "user.useConfigOnly=true", "var", f"GIT_{who}_IDENT"):
                env.update({f"GIT_{who}_{part}": value for part, value in NOBODY.items()})
        return Git(self.folder, env)

    def take(self, source: Git, tree: str) -> None:
        """Copies a tree with everything below it out of another repository; no history comes along."""
        pack = source.run("pack-objects", "--revs", "--stdout", "-q", given=f"{tree}\n".encode()).stdout
        self.run("unpack-objects", "-q", given=pack)
