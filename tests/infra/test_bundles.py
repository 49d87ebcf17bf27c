"""Bundles: exactly what the entries import, each import met by the bundle, the runtime or the standard library."""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from packaging.requirements import Requirement

from infra import bundles, pins, tables
from infra.bundles import Bundle, BundleError
from models.export import formats

ROOT = Path(__file__).parents[2]
BY_NAME = {bundle.name: bundle for bundle in bundles.ALL}
# What comes with NVIDIA's images and JetPack, and so is in no extra.
OF_NVIDIA = {"tensorrt", "cuda"}
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


def closure(runtime: str, extras: Iterable[str] = ()) -> set[str]:
    """Top-level import names of everything that the pins of a runtime and of more extras bring, as installed here."""
    names, seen = set(), set()
    queue = [re.split("==", pin)[0] for pin in pins.pins(ROOT, runtime, extras)]
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


def unmet(received: Bundle, brought: set[str]) -> Iterator[tuple[str, str, bool]]:
    """Of a bundle: file, name that it imports and neither it nor what is `brought` has, whether at the top."""
    for path in sorted(received.files(ROOT)):
        if not path.endswith(".py"):
            continue
        at_import = {name for node in ast.parse((ROOT / path).read_text("utf-8")).body for name in named(node)}
        for imported in bundles.imported(ROOT, path):
            top = imported.split(".")[0]
            if top not in {*bundles.OURS, *brought} and (received.runtime, top) not in DOES_WITHOUT:
                yield path, top, top in at_import


def named(node: ast.stmt) -> set[str]:
    """The top-level names that one statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    return {(node.module or "").split(".")[0]} if isinstance(node, ast.ImportFrom) else set()


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - {"processing"}))
def test_each_import_of_a_bundle_is_met_by_its_runtime(name: str) -> None:
    received = BY_NAME[name]
    assert list(unmet(received, closure(received.runtime) | set(sys.stdlib_module_names))) == []


def test_the_export_job_imports_what_its_runtime_lacks_only_inside_the_functions_of_a_format() -> None:
    """Its bundle holds every exporter and engine; which of their packages are there is `[targets]`'s business."""
    received = BY_NAME["processing"]
    optional = {pin.split("==")[0] for pin in pins.pins(ROOT, "exporters")}
    found = list(unmet(received, closure(received.runtime) | set(sys.stdlib_module_names)))
    assert {top for _, top, _ in found} <= optional | OF_NVIDIA
    assert {str(Path(path).parent) for path, _, _ in found} <= {"models/export", "models/engines"}
    assert not [path for path, _, at_import in found if at_import]


EVERY_FORMAT = get_args(tables.FORMAT)


@pytest.mark.parametrize("form", EVERY_FORMAT)
@pytest.mark.parametrize("name", ["serve", "edge"])
def test_what_receives_a_format_receives_its_engine_and_what_that_requires(name: str, form: str) -> None:
    received = bundles.running(BY_NAME[name], [form])
    optional = {pin.split("==")[0] for extra in received.extras for pin in pins.pins(ROOT, extra)}
    brought = closure(received.runtime, received.extras) | set(sys.stdlib_module_names) | optional | OF_NVIDIA
    assert list(unmet(received, brought)) == []
    assert f"models/engines/{formats.BY_NAME[form].runtime}.py" in received.files(ROOT)


@pytest.mark.parametrize("name", ["serve", "edge"])
def test_where_only_onnx_formats_may_ship_nothing_but_onnxruntime_travels(name: str) -> None:
    received = bundles.running(BY_NAME[name], ["onnx-fp32", "onnx-int8"])
    assert received.extras == ()
    engines = {path for path in received.files(ROOT) if path.startswith("models/engines/")}
    assert engines == {f"models/engines/{file}.py" for file in ("__init__", "engine", "onnxruntime")}


def test_the_settings_know_the_formats_that_the_registry_knows_and_the_packages_that_each_needs() -> None:
    assert set(EVERY_FORMAT) == set(formats.BY_NAME)
    for name, form in formats.BY_NAME.items():
        extras = bundles.running(BY_NAME["serve"], [name]).extras
        runs = {pin.split("==")[0] for pin in pins.pins(ROOT, "serve", extras)}
        assert set(form.runs) - runs <= {"tensorrt", "cuda-bindings"}, name
        makes = {pin.split("==")[0] for pin in pins.pins(ROOT, "job", bundles.exporting([name]))}
        assert set(form.makes) <= makes, name


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
    exporting = {path for path in files if path.startswith("models/export/")}
    assert exporting == {"models/export/__init__.py", "models/export/measure.py"}
