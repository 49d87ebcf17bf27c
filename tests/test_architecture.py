"""The rules of the tree, as tests: who may import whom, what a folder may hold, and that README shows what is there."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("models", "pipelines", "edge", "infra", "lab")

# Per folder: which of our own modules it may import. A prefix admits all below it.
MAY_IMPORT = {
    "models": ("models",),
    "pipelines": ("pipelines", "models"),
    "edge": ("edge", "models.contract", "models.features", "models.runtime"),
    "infra": ("infra",),
    "lab": ("lab",),
}
STDLIB_ONLY = ("models/contract.py", "models/gate.py", "models/datachecks.py", "edge/stager.py")
NO_TORCH = ("models/features.py", "models/runtime.py", "models/drift.py", "models/serve.py")
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    """Every dotted name that a file imports, at the top or inside a function; `from a import b` counts as `a.b` too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the dotted path that handlers and tests use"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(allowed + ".")


@pytest.mark.parametrize("folder", OURS)
def test_a_folder_imports_only_what_its_place_in_the_tree_allows(folder: str) -> None:
    for path in sources(folder):
        for name in imports(path):
            if name.split(".")[0] in OURS:
                assert any(within(name, allowed) for allowed in MAY_IMPORT[folder]), f"{path.relative_to(ROOT)}: {name}"


def closure(path: Path) -> set[str]:
    """Top-level names of everything that importing a file pulls in, following our own modules."""
    seen: set[Path] = set()
    names: set[str] = set()
    queue = [path]
    while queue:
        current = queue.pop()
        if current in seen:
            continue
        seen.add(current)
        for name in imports(current):
            if name.split(".")[0] not in OURS:
                names.add(name.split(".")[0])
                continue
            for candidate in (name, name.rpartition(".")[0]):
                file = ROOT / (candidate.replace(".", "/") + ".py")
                if file.is_file():
                    queue.append(file)
    return names


@pytest.mark.parametrize("relative", STDLIB_ONLY)
def test_what_a_lambda_or_a_device_runs_bare_uses_the_standard_library_alone(relative: str) -> None:
    foreign = closure(ROOT / relative) - set(sys.stdlib_module_names)
    assert not foreign, f"{relative} reaches {sorted(foreign)}"


@pytest.mark.parametrize("relative", NO_TORCH)
def test_what_serves_and_what_runs_at_the_edge_never_reaches_torch(relative: str) -> None:
    assert "torch" not in closure(ROOT / relative)


def test_models_know_no_cloud() -> None:
    for path in sources("models"):
        found = re.search(r"\b(boto3|s3)\b|SM_", path.read_text("utf-8"))
        assert not found, f"{path.relative_to(ROOT)} says {found.group() if found else ''}"


def test_package_markers_are_empty() -> None:
    for folder in OURS:
        for path in (ROOT / folder).rglob("__init__.py"):
            assert path.stat().st_size == 0, path


def test_no_entry_file_shadows_the_standard_library_and_no_name_says_nothing() -> None:
    for folder in OURS:
        for path in sources(folder):
            assert path.stem not in FORBIDDEN_NAMES, path
    # Jobs are started by path too, which puts their own folder first on sys.path.
    for path in sources("pipelines/jobs") + sources("edge"):
        assert path.stem == "__init__" or path.stem not in sys.stdlib_module_names, path


@pytest.mark.parametrize("name", OURS)
def test_our_names_resolve_inside_the_repository(name: str) -> None:
    code = f"import importlib.util as u; print(u.find_spec({name!r}).origin)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).resolve() == ROOT / name / "__init__.py"


def test_every_module_opens_with_a_docstring() -> None:
    for folder in OURS:
        for path in sources(folder):
            if path.name != "__init__.py":
                assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path


def tracked() -> set[str]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listing.stdout.splitlines())


def first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.strip().splitlines()[0].rstrip(".:")


def tree_lines(folder: Path, depth: int, real: set[Path]) -> Iterator[str]:
    """The README's lines below `folder`: files first, each with its docstring's first line."""
    below = {path for path in real if path.is_relative_to(folder)}
    for path in sorted(path for path in below if path.parent == folder):
        comment = first_line(path) if path.suffix == ".py" else ""
        yield f"{'  ' * depth}{path.name}  {comment}".rstrip()
    for child in sorted({path.relative_to(folder).parts[0] for path in below if path.parent != folder}):
        yield f"{'  ' * depth}{child}/"
        yield from tree_lines(folder / child, depth + 1, real)


def test_the_readme_tree_is_the_real_tree() -> None:
    """Each file of our five folders stands in the README's tree, its docstring's first line as the comment."""
    shown = (ROOT / "README.md").read_text("utf-8")
    for folder in OURS:
        real = {ROOT / name for name in tracked() if name.startswith(folder + "/") and not name.endswith("__init__.py")}
        expected = "\n".join(tree_lines(ROOT / folder, 1, real))
        assert expected in shown, f"README.md's tree of {folder}/ should read:\n{expected}"


def test_the_lock_pins_every_direct_dependency() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    locked = {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    }
    for requirement in {item for extra in extras.values() for item in extra}:
        name = re.sub(r"[-_.]+", "-", re.split(r"[\[=<>]", requirement)[0]).lower()
        assert name in locked or name == project["name"], f"{requirement} has no pin in requirements.lock"


def test_no_foreign_package_of_our_names_is_installed() -> None:
    for name in OURS:
        spec = importlib.util.find_spec(name)
        assert spec and spec.origin and Path(spec.origin).is_relative_to(ROOT), spec
