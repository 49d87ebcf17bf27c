"""The endpoint's image: what serves, and nothing that learns, builds or remembers."""

import re
from typing import Any

import pytest

from lab import image
from lab.errors import LabError

LEARNS = {"torch", "onnx", "onnxscript", "scikit-learn", "scipy", "pandas", "pyarrow", "mlflow-skinny", "boto3"}
BUILDS = {"cython", "numba", "llvmlite", "triton", "ninja", "cmake", "pybind11", "setuptools", "meson"}
MEGABYTE = 1e6


@pytest.fixture(scope="module")
def serve(assembly: Any) -> dict[str, Any]:
    return image.describe(assembly.path, "serve")


def test_the_endpoints_image_holds_no_framework_and_no_compiler(serve: dict[str, Any]) -> None:
    names = {row["name"].lower() for row in serve["packages"]}
    assert "onnxruntime" in names
    assert not names & (LEARNS | BUILDS)
    assert not [name for name in names if name.startswith("nvidia")]
    assert "slim" in serve["base"]  # the variant of Python's image without a compiler


def test_the_endpoints_image_holds_only_what_it_imports(serve: dict[str, Any]) -> None:
    paths = [row["path"] for row in serve["files"]]
    assert "/opt/program/models/serve.py" in paths
    assert all(re.fullmatch(r"/opt/program/(models|pipelines)/[\w/]+\.py", path) for path in paths)
    for name in ("train", "evaluate", "net", "baseline", "export/onnx"):
        assert f"/opt/program/models/{name}.py" not in paths


def test_nothing_is_cached_and_nothing_installed_by_the_way(assembly: Any) -> None:
    dockerfile = assembly.file_of_image("serve", "Dockerfile")
    runs = [line for line in dockerfile.splitlines() if line.startswith("RUN ")]
    assert runs and all("--no-cache-dir" in line for line in runs if "pip install" in line)
    assert not re.search(r"apt|apk|dnf|gcc|build-essential|conda", dockerfile)


def test_what_is_weighed_is_there(serve: dict[str, Any]) -> None:
    assert serve["absent"] == []
    assert serve["bytes"] == sum(row["bytes"] for row in (*serve["files"], *serve["packages"]))
    weights = {row["name"]: row["bytes"] / MEGABYTE for row in serve["packages"]}
    assert 50 < weights["onnxruntime"] < 150
    *_, last = image.lines(serve)
    assert last.endswith(f"in {len(serve['files'])} files and {len(serve['packages'])} packages")


def test_an_image_that_there_is_not_is_refused_by_name(assembly: Any) -> None:
    with pytest.raises(LabError, match="there is no image edge"):
        image.describe(assembly.path, "edge")
