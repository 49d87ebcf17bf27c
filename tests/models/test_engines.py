"""Engines: whatever runs a package, the same door, the same checks, the same refusals."""

import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import net
from models.engines import engine
from models.export import openvino as export
from models.export.calibration import Calibration
from models.export.exporter import Source
from models.runtime import Model, PackageError

ROOT = Path(__file__).parents[2]


def changed(package: Path, **about: Any) -> Path:
    found = json.loads((package / "model.json").read_text("utf-8"))
    (package / "model.json").write_text(json.dumps(found | about))
    return package


def refusal(package: Path) -> PackageError:
    with pytest.raises(PackageError) as caught:
        Model.load(package, threads=1)
    return caught.value


@pytest.mark.parametrize("runtime", ["tflite", "os", "../onnxruntime", "engine"])
def test_a_runtime_that_no_engine_runs_is_refused_by_name(package: Path, runtime: str) -> None:
    error = refusal(changed(package, runtime=runtime))
    assert error.code == "runtime"
    assert f"no engine runs '{runtime}'; there are onnxruntime, openvino" in error.detail


def test_a_runtime_that_is_not_installed_is_refused_with_what_to_install(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    error = refusal(changed(package, runtime="openvino", format="openvino-bf16"))
    assert error.code == "runtime"
    assert "openvino-bf16 runs on openvino, which is not installed" in error.detail


def test_an_engine_that_the_bundle_does_not_carry_is_refused_with_the_setting_that_brings_it(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "models.engines.executorch", None)
    error = refusal(changed(package, runtime="executorch", format="executorch-int8"))
    assert error.code == "runtime"
    assert "allow executorch-int8 in its [targets" in error.detail


def test_a_package_that_names_no_file_or_one_outside_of_it_is_refused(package: Path) -> None:
    assert refusal(changed(package, files=[])).code == "schema"
    assert refusal(changed(package, files=["model.xml"])).code == "missing"
    digest = hashlib.sha256(b"").hexdigest()
    about = json.loads((package / "model.json").read_text("utf-8"))
    assert refusal(changed(package, files=["../a"], sha256=about["sha256"] | {"../a": digest})).code == "missing"


def test_a_package_from_the_time_of_one_format_still_loads(package: Path) -> None:
    about = json.loads((package / "model.json").read_text("utf-8"))
    for key in ("runtime", "files"):
        del about[key]
    (package / "model.json").write_text(json.dumps(about))
    model = Model.load(package, threads=1)
    assert (model.about["runtime"], model.about["file"]) == ("onnxruntime", "model.onnx")


def test_every_engine_imports_without_its_runtime_and_knows_no_training() -> None:
    for name in engine.NEEDS:
        text = (ROOT / "models" / "engines" / f"{name}.py").read_text("utf-8")
        assert not re.search(r"^(import|from) (torch|openvino|executorch|tensorrt|cuda|onnxruntime)", text, re.M), name
        assert importlib.util.find_spec(f"models.engines.{name}") is not None
        assert callable(importlib.import_module(f"models.engines.{name}").load)


@pytest.mark.slow
def test_an_engine_that_shares_memory_answers_the_same_for_batches_of_any_layout(
    trained: Path, curated: Path, tmp_path: Path
) -> None:
    """A read-only batch is copied, and the copy has to live as long as the request: freed, its memory gave noise."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed; make install-bench && make test runs it")
    model, contract = net.load(trained)
    source = Source(model, net.Answer(model, contract).eval(), contract, Calibration(curated))
    export.export(source, "openvino-fp32", tmp_path)
    loaded = engine.load("openvino", tmp_path / "model.xml", "openvino-fp32", 1)
    batch = np.ascontiguousarray(source.calibration.tensors[:32])
    expected = loaded.run(batch.copy())
    frozen = batch.copy()
    frozen.setflags(write=False)
    for given in (frozen, np.asfortranarray(batch), batch.repeat(2, axis=0)[::2]):
        for _ in range(20):
            np.testing.assert_array_equal(loaded.run(given), expected)
            np.ones_like(batch)  # takes the place of what was freed


def test_tensorrt_keeps_an_engine_by_model_version_and_gpu(tmp_path: Path) -> None:
    from models.engines import tensorrt

    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    names = [
        tensorrt._kept(file, version, gpu).name
        for file, version, gpu in (
            (one, "10.9", "Orin NX"), (two, "10.9", "Orin NX"), (one, "11.4", "Orin NX"), (one, "10.9", "H100 / MIG"),
        )
    ]  # fmt: skip
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"[\w.-]+\.engine", name) for name in names)


def test_tensorrt_runs_a_package_on_a_gpu(package: Path) -> None:
    if importlib.util.find_spec("tensorrt") is None:
        pytest.skip(
            "tensorrt is not installed; on a machine with an NVIDIA GPU, pip install tensorrt cuda-python runs it"
        )
    model = Model.load(changed(package, runtime="tensorrt", format="tensorrt-fp16", tolerance=1e-2), threads=1)
    assert model.predict(np.zeros((3, *model.contract.shape), np.uint8)).answers.shape == (3, 4)
