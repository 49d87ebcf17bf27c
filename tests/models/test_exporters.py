"""Exporters: whatever makes an artefact, it answers as the trained net does; what is absent says what brings it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models import curated as reader
from models import net, train
from models.export import candidates, formats, onnx, trials
from models.export.calibration import Calibration
from models.export.candidates import Candidates
from models.export.exporter import Exported, Source, Unavailable
from models.export.fidelity import Samples
from models.export.trials import Conditions, Measured
from models.runtime import Model

HERE = [form for form in formats.ALL if set(form.kinds) & set(formats.CPUS)]
ONE = Conditions(threads=1, batch=8)
WHO_SENDS = """
from models.engines import openvino
openvino.module()
from nncf.telemetry import wrapper
from openvino.tools.ovc import telemetry_utils
print(type(wrapper.telemetry).__name__, telemetry_utils.tm.__name__)
"""
INSTALL = "make install-bench && make test runs it"


@pytest.fixture(scope="module")
def row_model(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    train.train(train.Config(epochs=2, seed=3), table, folder / "model", folder / "checkpoints", lambda figures: None)
    return folder / "model"


def tried(model: Path, data: Path, scratch: Path) -> Candidates:
    trained, contract = net.load(model)
    tensors, labels, _ = reader.read(data, "test")
    samples = Samples(tensors, labels, np.full(len(labels), True), net.answers(trained, tensors), contract)
    source = Source(trained, net.Answer(trained, contract).eval(), contract, Calibration(data))
    return Candidates(source, samples, "1.0.1", "run-1", scratch)


def made(given: Candidates, name: str) -> candidates.Made:
    missing = formats.absent(tuple({*formats.BY_NAME[name].makes, *formats.BY_NAME[name].runs}))
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed; {INSTALL}")
    if name == "aoti-cpu" and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler; install g++ and make test runs it")
    return given.made(name, [name])


@pytest.mark.slow
@pytest.mark.parametrize("form", HERE, ids=lambda form: form.name)
@pytest.mark.parametrize("kind", ["pictures", "rows"])
def test_an_artefact_answers_as_the_trained_net_does(
    form: formats.Format, kind: str, trained: Path, curated: Path, row_model: Path, table: Path, tmp_path: Path
) -> None:
    given = tried(*((trained, curated) if kind == "pictures" else (row_model, table)), tmp_path)
    found = made(given, form.name)
    model = Model.load(found.package, threads=1)
    tensors = given.samples.tensors
    whole = model.predict(tensors).answers
    figures = given.samples.figures_of(whole)
    # After three epochs some of 20 answers are undecided, and the least difference decides them anew.
    assert figures["agreement"] >= (0.85 if form.quantised else 0.95)
    assert figures["max_abs_diff"] <= (0.25 if form.quantised else form.tolerance * 2)
    one = model.predict(np.array(tensors[:1])).answers
    np.testing.assert_allclose(one, whole[:1], atol=0.06 if form.quantised else form.tolerance)
    assert model.predict(np.resize(tensors, (100, *tensors.shape[1:]))).answers.shape == (100, whole.shape[1])


@pytest.mark.slow
def test_dynamic_quantisation_and_bf16_are_what_they_are_called(trained: Path, curated: Path, tmp_path: Path) -> None:
    given = tried(trained, curated, tmp_path)
    kinds = {node.op_type for node in onnx.onnx.load(made(given, "onnx-int8").package / "model.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    kinds = {
        node.op_type for node in onnx.onnx.load(made(given, "onnx-int8-dynamic").package / "model.onnx").graph.node
    }
    assert "DynamicQuantizeLinear" in kinds
    whole, half = (made(given, name).bytes for name in ("onnx-fp32", "onnx-fp16"))
    assert half < 0.7 * whole


@pytest.mark.slow
def test_openvino_and_nncf_tell_their_maker_nothing(
    trained: Path, curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    made(tried(trained, curated, tmp_path), "openvino-int8")
    assert sys.modules["openvino_telemetry"] is None
    # In a process of its own: NNCF sends nothing wherever pytest is.
    environment = {name: value for name, value in trials.environment(1).items() if name not in ("CI", "GITHUB_ACTIONS")}
    done = subprocess.run(
        [sys.executable, "-c", WHO_SENDS], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["MagicMock", "openvino.tools.ovc.telemetry_stub"]
    assert list(home.iterdir()) == [], "what reports makes an identity there first"


@pytest.mark.slow
@pytest.mark.parametrize(("end", "unfused"), [("os.kill(os.getpid(), 11)", True), ("raise ImportError", False)])
def test_a_net_whose_fused_code_kills_who_compiles_it_is_compiled_unfused(
    trained: Path, curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, unfused: bool
) -> None:
    (tmp_path / "openvino.py").write_text(f"import os\n{end}\n")
    environment = trials.environment(1)
    path = os.pathsep.join((str(tmp_path), environment["PYTHONPATH"]))
    monkeypatch.setattr(trials, "environment", lambda threads: {**environment, "PYTHONPATH": path})
    given = tried(trained, curated, tmp_path)
    found = made(given, "openvino-fp32")
    assert ("unfused" in found.exported.notes) is unfused
    assert ("<unfused" in (found.package / "model.xml").read_text("utf-8")) is unfused
    answers = Model.load(found.package, threads=1).predict(given.samples.tensors).answers
    np.testing.assert_allclose(answers, given.samples.expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU; make test on a machine with one runs it")
def test_a_package_for_cuda_answers_as_the_trained_net_does_at_any_batch(
    trained: Path, curated: Path, tmp_path: Path
) -> None:
    given = tried(trained, curated, tmp_path)
    model = Model.load(given.made("aoti-cuda", ["aoti-cuda"]).package, threads=1)
    for count in (1, 8, 3, 1):
        expected = given.samples.expected[:count]
        np.testing.assert_allclose(model.predict(given.samples.tensors[:count]).answers, expected, atol=5e-2)


def test_without_a_gpu_or_its_packages_a_format_says_what_it_needs(
    trained: Path, curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = tried(trained, curated, tmp_path)
    with pytest.raises(Unavailable, match="needs a CUDA GPU; run the export job on an instance that has one"):
        given.made("aoti-cuda", ["aoti-cuda"])
    monkeypatch.setattr(formats, "installed", lambda name: name not in ("openvino", "nncf", "tensorrt"))
    with pytest.raises(Unavailable, match="openvino and nncf are not installed here; make install-bench brings it"):
        given.made("openvino-int8", [])
    with pytest.raises(Unavailable, match="tensorrt is not installed here; TensorRT comes with NVIDIA's images"):
        given.made("tensorrt-fp16", [])


def test_what_takes_a_minute_is_made_where_it_may_ship_or_where_the_whole_set_is(
    trained: Path, curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tried(trained, curated, tmp_path)
    asked: list[str] = []

    def noted(self: Candidates, form: formats.Format) -> Unavailable:
        asked.append(form.name)
        return Unavailable("not now")

    monkeypatch.setattr(Candidates, "_make", noted)
    monkeypatch.setattr(formats, "installed", lambda name: name == "torch")
    with pytest.raises(Unavailable, match="compiling it takes a minute"):
        given.made("aoti-cpu", ["onnx-fp32"])
    assert asked == []
    with pytest.raises(Unavailable, match="not now"):
        given.made("aoti-cpu", ["aoti-cpu"])
    assert asked == ["aoti-cpu"]


def test_an_exporter_that_fails_costs_its_own_row_and_is_not_asked_again(
    trained: Path, curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, calls = tried(trained, curated, tmp_path), []

    def export(source: Source, form: str, folder: Path) -> Exported:
        calls.append(form)
        raise RuntimeError("no kernel for this operator\nand a long trace")

    monkeypatch.setattr(onnx, "export", export)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"its exporter failed: RuntimeError: no kernel for this operator$"):
            given.made("onnx-fp32", ["onnx-fp32"])
    assert calls == ["onnx-fp32"]


def test_equal_conditions_are_measured_once_and_a_batch_of_one_takes_what_a_larger_one_gave(
    trained: Path, curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, calls = tried(trained, curated, tmp_path), []

    def measured(self: Candidates, found: candidates.Made, conditions: Conditions) -> Measured:
        calls.append(conditions)
        return Measured({"p50_ms": 0.5, "throughput_per_s": 9000.0}, given.samples.expected, given.samples.expected[:8])

    monkeypatch.setattr(Candidates, "_measure", measured)
    found = candidates.Made(formats.BY_NAME["onnx-fp32"], Exported(("model.onnx",)), tmp_path)
    for threads, batch, throughput in ((1, 8, 9000.0), (1, 8, 9000.0), (1, 1, 2000.0), (2, 1, 9000.0), (1, 4, 9000.0)):
        assert given.measured(found, Conditions(threads, batch)).figures["throughput_per_s"] == throughput
    assert calls == [Conditions(1, 8), Conditions(2, 1), Conditions(1, 4)]


def test_every_target_has_candidates_and_what_it_allows_is_among_them() -> None:
    for target in formats.KINDS:
        assert len(formats.candidates(target, [])) >= 3
    assert formats.candidates("edge-x86", ["aoti-cuda"])[-1] == "aoti-cuda"
    assert "aoti-cuda" not in formats.candidates("edge-x86", [])
