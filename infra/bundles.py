"""Which files each job, function, image and device receives, and which runtime it finds there.

A bundle names its entries: what the cloud starts. Everything of ours that an entry imports, and what that imports in
turn, travels with it, and nothing else does; data files are listed. Paths in a bundle equal paths in the repository.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from infra import archives, pins

OURS = ("models", "pipelines", "edge")


class BundleError(Exception):
    """A bundle asks for what is not there, in one line."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One unit of code that travels: its entries, the data files it reads, and the runtime that receives it."""

    name: str
    runtime: Literal["lambda", "glue", "job", "serve", "edge"]
    entries: tuple[str, ...]
    data: tuple[str, ...] = ()
    form: Literal["zip", "tar.gz"] = "zip"
    lists_requirements: bool = False
    extras: tuple[str, ...] = ()

    def files(self, root: Path) -> dict[str, bytes]:
        """Path inside the bundle -> content. Raises BundleError for what is not there or does not parse."""
        for path in (*self.entries, *self.data):
            if not (root / path).is_file():
                raise BundleError(f"bundle '{self.name}' of infra/bundles.py asks for {path}, which does not exist")
        paths = closure(root, self.entries) | set(self.data)
        files = {path: (root / path).read_bytes() for path in paths}
        if self.lists_requirements:
            files["requirements.txt"] = requirements(root, self.runtime, self.extras)
        return files

    def archive(self, root: Path, extra: Mapping[str, bytes] | None = None) -> bytes:
        """The bundle as the archive that the cloud unpacks, `extra` files included."""
        files = {**self.files(root), **(extra or {})}
        return archives.zipped(files) if self.form == "zip" else archives.tarred(files)


def requirements(root: Path, runtime: str, extras: Iterable[str] = ()) -> bytes:
    """A runtime's pins, and those of more extras, as the text of a `requirements.txt`."""
    return ("\n".join(pins.pins(root, runtime, extras)) + "\n").encode()


def running(bundle: Bundle, formats: Iterable[str]) -> Bundle:
    """The bundle with the engines that these formats run on, and with what those require."""
    engines = sorted({ENGINES[form.partition("-")[0]] for form in formats})
    entries = dict.fromkeys((*bundle.entries, *(f"models/engines/{engine}.py" for engine in engines)))
    return replace(bundle, entries=tuple(entries), extras=tuple(name for name in engines if name in RUNS))


def exporting(formats: Iterable[str]) -> tuple[str, ...]:
    """The extras that the export job needs to make and measure these formats."""
    runtimes = {ENGINES[form.partition("-")[0]] for form in formats}
    return tuple(sorted(MAKES[name] for name in runtimes if name in MAKES))


def closure(root: Path, entries: tuple[str, ...]) -> set[str]:
    """Every file of ours that importing the entries reads, package markers included. Raises BundleError."""
    seen: set[str] = set()
    queue = list(entries)
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        markers = (f"{parent}/__init__.py" for parent in Path(path).parents if parent != Path())
        queue += [marker for marker in markers if (root / marker).is_file()]
        for name in imported(root, path):
            if name.split(".")[0] in OURS:
                queue += _modules(root, name, path)
    return seen


def imported(root: Path, path: str) -> Iterator[str]:
    """Every dotted name that a file imports, at the top or inside a function; `from a import b` counts as `a.b` too."""
    try:
        tree = ast.parse((root / path).read_text("utf-8"))
    except SyntaxError as error:
        raise BundleError(f"{path}, line {error.lineno}: {error.msg}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _modules(root: Path, name: str, importer: str) -> list[str]:
    """The file that a dotted name stands for: the module itself, else the one that defines the name."""
    for dotted in (name, name.rpartition(".")[0]):
        stem = dotted.replace(".", "/")
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if (root / path).is_file():
                return [path]
    raise BundleError(f"{importer} imports {name}, which does not exist")


def _function(name: str, *data: str) -> Bundle:
    return Bundle(name=name, runtime="lambda", entries=(f"pipelines/functions/{name}.py",), data=data)


def _jobs(*names: str) -> tuple[str, ...]:
    return tuple(f"pipelines/jobs/{name}.py" for name in names)


# What runs a format, by the first part of its name; models.engines imports it by this name, so no import shows it.
ENGINES = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "executorch": "executorch",
    "aoti": "aoti",
    "tensorrt": "tensorrt",
}
# Extras of pyproject.toml: what runs a runtime's artefacts beside onnxruntime, and what makes them. TensorRT has none:
# it comes with NVIDIA's images and JetPack.
RUNS = ("aoti", "executorch", "openvino")
MAKES = {"executorch": "executorch-export", "openvino": "openvino-export"}
EVERY_ENGINE = tuple(f"models/engines/{engine}.py" for engine in ENGINES.values())
EVERY_EXPORTER = tuple(
    f"models/export/{name}.py" for name in ("onnx", "onnx_int8", "openvino", "executorch", "aoti", "tensorrt")
)

GATE = _function("gate")
REGISTER = _function("register")
RELEASE = _function("release", "edge/recipes/model.json")
VERDICT = _function("verdict")
FAILURE = _function("failure")
FEEDBACK = _function("feedback")
LABELLING = _function("labelling")
PROVISION = _function("provision")
HALT = _function("halt")
PROMOTE = _function("promote")
ETL = Bundle(name="etl", runtime="glue", entries=_jobs("etl"))
TRAIN = Bundle(name="train", runtime="job", entries=_jobs("train"), form="tar.gz")
PROCESSING = Bundle(
    name="processing", runtime="job", entries=(*_jobs("evaluate", "export", "watch"), *EVERY_EXPORTER, *EVERY_ENGINE)
)
SERVE = Bundle(name="serve", runtime="serve", entries=(*_jobs("serve"), "models/engines/onnxruntime.py"))
EDGE = Bundle(
    name="edge",
    runtime="edge",
    # The measurement is there for the first canary device, where a target's figures are by proxy.
    entries=(
        *("edge/inference.py", "edge/install.py", "edge/stager.py"),
        *("models/engines/onnxruntime.py", "models/export/measure.py"),
    ),
    lists_requirements=True,
)

ALL = (
    *(GATE, REGISTER, RELEASE, VERDICT, FAILURE, FEEDBACK, LABELLING, PROVISION, HALT, PROMOTE),
    *(ETL, TRAIN, PROCESSING, SERVE, EDGE),
)
