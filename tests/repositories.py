"""A template of a few files with its history, and repositories that are made of it."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.home import Home

FILES = {
    "pyproject.toml": '[project]\nname = "the-template"\nversion = "1.0.0"\n\n[project.optional-dependencies]\n'
    'lab = ["click"]\nall = ["the-template[lab]"]\n',
    "lab.toml": '[lab]\nname = "ml-lab"       # the prefix\nenvironment = "dev"\n\n[data]\nname = "ml-lab"\n',
    "README.md": "# The template\n\nText.\n",
    "requirements.lock": "click==8.1.0\n",
    ".gitignore": "*.log\n/build/\n",
    "run.sh": "#!/bin/sh\necho run\n",
}


@dataclass(frozen=True)
class Repository:
    """A git repository in a folder, edited and committed as a person would."""

    root: Path

    def git(self, *args: str) -> str:
        done = subprocess.run(["git", *args], cwd=self.root, capture_output=True, text=True)
        assert done.returncode == 0, f"git {args}: {done.stderr}"
        return done.stdout.strip()

    def write(self, files: dict[str, str | bytes | None]) -> None:
        """Files by path; None deletes one."""
        for path, content in files.items():
            there = self.root / path
            there.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                there.unlink()
            else:
                there.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, message: str, files: dict[str, str | bytes | None] | None = None) -> str:
        self.write(files or {})
        self.git("add", "--all")
        self.git("-c", "user.name=someone", "-c", "user.email=someone@localhost", "commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def text(self, path: str) -> str:
        return (self.root / path).read_bytes().decode(errors="replace")

    def conflicts(self) -> set[str]:
        return set(self.git("diff", "--name-only", "--diff-filter=U").splitlines())

    def home(self) -> Home:
        return Home(self.root, self.root / ".lab", self.root / "lab.toml")


def template(at: Path, more: dict[str, str | bytes | None] | None = None) -> Repository:
    """The template at version 1.0.0, which is tagged v1."""
    at.mkdir(parents=True)
    made = Repository(at)
    made.git("init", "-q", "-b", "main")
    made.write({**FILES, **(more or {})})
    (at / "run.sh").chmod(0o755)
    made.commit("version 1")
    made.git("tag", "v1")
    return made


def release(made: Repository, version: str, files: dict[str, str | bytes | None]) -> None:
    """The template's next version, tagged."""
    text = made.text("pyproject.toml").splitlines()
    text[2] = f'version = "{version}"'
    made.commit(f"version {version}", {**files, "pyproject.toml": "\n".join(text) + "\n"})
    made.git("tag", f"v{version}")
