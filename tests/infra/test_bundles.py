"""Bundles: exactly what the entries import, each import met by the bundle, the runtime or the standard library."""

import importlib.metadata
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from infra import bundles, pins
from infra.bundles import Bundle, BundleError

ROOT = Path(__file__).parents[2]
BY_NAME = {bundle.name: bundle for bundle in bundles.ALL}
# What a runtime lacks by intention: the endpoint says that it cannot read Parquet, whose reader is twice its image.
DOES_WITHOUT = {("serve", "pyarrow")}


def tree(folder: Path, **files: str) -> Path:
    """A small repository; `__` in a name stands for a folder."""
    for name, content in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    for package in [path for path in folder.rglob("*") if path.is_dir()]:
        (package / "__init__.py").touch()
    return folder


def bundle(*entries: str, **more: object) -> Bundle:
    return Bundle(name="b", runtime="lambda", entries=entries, **more)  # type: ignore[arg-type]


def test_imports_are_followed_from_the_entry_and_nothing_else_travels(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        pipelines__functions__gate="import json\nfrom models import gate\n",
        pipelines__functions__other="import models.net\n",
        models__gate="from models.contract import Contract\n",
        models__contract="def late():\n    from models.export import onnx\n",
        models__export__onnx="import numpy\n",
        models__net="import torch\n",
    )
    assert set(bundle("pipelines/functions/gate.py").files(root)) == {
        "pipelines/__init__.py",
        "pipelines/functions/__init__.py",
        "pipelines/functions/gate.py",
        "models/__init__.py",
        "models/gate.py",
        "models/contract.py",
        "models/export/__init__.py",
        "models/export/onnx.py",
    }


def test_an_entry_or_a_data_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path, pipelines__functions__gate="")
    with pytest.raises(BundleError, match=r"bundle 'b' .* asks for pipelines/functions/none.py, which does not exist"):
        bundle("pipelines/functions/none.py").files(root)
    with pytest.raises(BundleError, match=r"asks for edge/recipes/model\.json"):
        bundle("pipelines/functions/gate.py", data=("edge/recipes/model.json",)).files(root)


def test_an_import_of_ours_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path, pipelines__functions__gate="from models.gaet import decide\n")
    with pytest.raises(BundleError, match=r"pipelines/functions/gate.py imports models\.gaet\.decide"):
        bundle("pipelines/functions/gate.py").files(root)


def test_a_source_that_does_not_parse_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path, pipelines__functions__gate="def (:\n")
    with pytest.raises(BundleError, match=r"pipelines/functions/gate.py, line 1: invalid syntax"):
        bundle("pipelines/functions/gate.py").files(root)


def closure(runtime: str) -> set[str]:
    """Top-level import names of everything that a runtime's pins bring, as installed here."""
    names, seen = set(), set()
    queue = [re.split("==", pin)[0] for pin in pins.pins(ROOT, runtime)]
    while queue:
        name = queue.pop()
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        names |= {(path.parts[0]).removesuffix(".py") for path in distribution.files or () if path.suffix == ".py"}
        wanted = [Requirement(text) for text in distribution.requires or ()]
        queue += [need.name for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})]
    return names


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_each_import_of_a_bundle_is_met_by_its_runtime(name: str) -> None:
    received = BY_NAME[name]
    brought = closure(received.runtime) | set(sys.stdlib_module_names)
    for path in received.files(ROOT):
        if not path.endswith(".py"):
            continue
        for imported in bundles.imported(ROOT, path):
            top = imported.split(".")[0]
            if top in bundles.OURS or (received.runtime, top) in DOES_WITHOUT:
                continue
            assert top in brought, f"{path} imports {top}, which the runtime '{received.runtime}' does not bring"


@pytest.mark.parametrize("name", ["gate", "register", "release", "failure", "feedback"])
def test_a_function_receives_nothing_that_learns(name: str) -> None:
    received = [path for path in BY_NAME[name].files(ROOT) if path.startswith("models/")]
    assert set(received) <= {"models/__init__.py", "models/contract.py", "models/gate.py"}


def test_the_edge_bundle_lists_its_requirements_and_knows_no_training() -> None:
    files = BY_NAME["edge"].files(ROOT)
    assert b"onnxruntime==" in files["requirements.txt"]
    assert "edge/stager.py" in files and "edge/inference.py" in files
    learning = ("baseline", "evaluate", "metrics", "net", "serve", "train")
    assert not {f"models/{name}.py" for name in learning} & set(files)
