"""The release: what it writes for each target, that it can be made again byte by byte, and what it measures."""

import dataclasses
import hashlib
import io
import json
import platform
import re
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models import curated as reader
from models import gate, net
from models.contract import Contract
from models.export import formats, package, release, trials
from models.runtime import Model

Released = tuple[Path, dict[str, Any]]
LIMITS = {"min_agreement": 0.995, "max_metric_drop": 0.01}
FILES = ["contract.json", "golden.npz", "model.json", "model.onnx"]
ROW = {
    "format", "target", "file", "sha256", "bytes", "p50_ms", "p95_ms", "p99_ms", "throughput_per_s", "cold_start_s",
    "peak_mb", "install_mb", "cpu_per_wall", "metric", "metric_drop", "metric_drop_low", "metric_drop_high",
    "agreement", "max_abs_diff", "logit_slope", "logit_l2", "chosen", "skipped", "dropped", "proxy", "notes",
}  # fmt: skip
QUICK = {"threads": 1, "batch": 4, "p95_ms": 5000.0, "measure": "allowed"}
NOT_MADE = "no exporter makes tflite-int8; there are onnx-fp32, onnx-fp16, "


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def again(trained: Path, curated: Path, targets: Any, tmp_path_factory: pytest.TempPathFactory) -> Released:
    """The same release, made a second time somewhere else."""
    out = tmp_path_factory.mktemp("again")
    copy = shutil.copytree(trained, tmp_path_factory.mktemp("elsewhere") / "a model")
    manifest = release.release(copy, curated, out, targets, "run-1")
    return out / manifest["version"], manifest


def test_a_release_has_a_manifest_and_a_package_for_every_target(released: Released, trained: Path) -> None:
    folder, manifest = released
    assert json.loads((folder / "manifest.json").read_text("utf-8")) == manifest
    assert (manifest["schema"], manifest["run"]) == (1, "run-1")
    assert manifest["version"] == folder.name
    assert manifest["model_sha256"] == sha256(trained / "model.safetensors")
    there = {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}
    del there["manifest.json"]
    assert manifest["files"] == there and "endpoint/model.tar.gz" in there
    assert manifest["contract"] == Contract.load(trained / "contract.json").document()
    for path in ("endpoint/model.tar.gz", "edge-x86/model.zip", "endpoint/model.onnx", "edge-x86/model.onnx"):
        assert (folder / path).is_file()


def test_every_row_has_every_figure_and_the_chosen_ones_are_the_files(released: Released) -> None:
    folder, manifest = released
    assert [(row["target"], row["format"]) for row in manifest["artifacts"]] == [
        ("cloud-cpu", "onnx-fp32"),
        ("edge-x86", "onnx-fp32"),
        ("edge-x86", "tflite-int8"),
    ]
    for row in manifest["artifacts"]:
        assert set(row) == ROW
        if not row["chosen"]:
            continue
        place = Path(row["file"]).relative_to(f"releases/{manifest['version']}")
        graph = (folder / place).parent / "model.onnx"
        assert (folder / place).is_file()
        assert (row["sha256"], row["bytes"]) == (sha256(graph), graph.stat().st_size)
        assert row["skipped"] is None
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert 0 < row["cold_start_s"] < 60 and row["throughput_per_s"] > 0
        assert 20 < row["peak_mb"] < 500, "a child that serves ONNX imports no torch"
        assert 20 < row["install_mb"] < 500
        assert row["proxy"] is (platform.machine() not in ("x86_64", "AMD64"))


def test_the_export_agrees_with_the_trained_net(released: Released, trained: Path, curated: Path) -> None:
    pixels, labels, _ = reader.read(curated, "test")
    accuracy = (net.answers(net.load(trained)[0], pixels).argmax(1) == labels).mean()
    for row in released[1]["artifacts"][:2]:
        assert row["agreement"] == 1.0
        assert row["max_abs_diff"] < 1e-4
        assert row["metric_drop"] == row["metric_drop_low"] == row["metric_drop_high"] == 0.0
        assert (row["logit_slope"], row["logit_l2"]) == pytest.approx((1.0, 0.0), abs=1e-3)
        assert row["metric"] == pytest.approx(accuracy)


def test_a_format_that_is_not_made_is_skipped_with_the_reason(released: Released) -> None:
    row = released[1]["artifacts"][2]
    assert row["skipped"].startswith(NOT_MADE)
    assert (row["chosen"], row["file"], row["agreement"]) == (False, None, None)


def test_a_target_with_nothing_made_has_no_package_and_fails_the_gate(
    trained: Path, curated: Path, tmp_path: Path
) -> None:
    targets = {"edge-npu": {"formats": ["tflite-int8"], **QUICK}}
    manifest = release.release(trained, curated, tmp_path, targets, "run-1")
    assert [path.name for path in (tmp_path / manifest["version"]).iterdir()] == ["manifest.json"]
    decision = gate.decide_release(manifest, LIMITS, {"edge-npu": {"p95_ms": 5.0}})
    (reason,) = decision.reasons
    assert reason.startswith(f"edge-npu: no artefact: tflite-int8: {NOT_MADE}")


def test_what_is_made_passes_the_release_gate(released: Released) -> None:
    targets = {"cloud-cpu": {"p95_ms": 5000.0}, "edge-x86": {"p95_ms": 5000.0}}
    assert gate.decide_release(released[1], LIMITS, targets) == gate.Decision(True, [])


@pytest.mark.parametrize("path", ["endpoint/model.tar.gz", "edge-x86/model.zip", "endpoint/model.onnx"])
def test_packages_made_twice_are_equal_byte_by_byte(released: Released, again: Released, path: str) -> None:
    assert (released[0] / path).read_bytes() == (again[0] / path).read_bytes()


def test_both_archives_hold_the_same_package_and_nothing_else(released: Released) -> None:
    with tarfile.open(released[0] / "endpoint" / "model.tar.gz") as archive:
        assert archive.getnames() == FILES
        tarred = {name: archive.extractfile(name).read() for name in FILES}  # type: ignore[union-attr]
        assert {member.mtime for member in archive} == {0}
    with zipfile.ZipFile(released[0] / "edge-x86" / "model.zip") as archive:
        assert archive.namelist() == FILES
        assert tarred == {name: archive.read(name) for name in FILES}


def test_the_edge_package_loads_as_it_is_unpacked(released: Released, tmp_path: Path) -> None:
    with zipfile.ZipFile(released[0] / "edge-x86" / "model.zip") as archive:
        archive.extractall(tmp_path)
    assert Model.load(tmp_path, threads=1).version == released[1]["version"]


def test_a_package_describes_itself(served: Path, released: Released) -> None:
    about = json.loads((served / "model.json").read_text("utf-8"))
    assert (about["version"], about["run"]) == (released[1]["version"], "run-1")
    assert (about["format"], about["task"]) == ("onnx-fp32", "classification")
    assert about["input"] == {"name": "samples", "shape": [1, 16, 16], "dtype": "uint8"}
    assert about["sha256"] == {name: sha256(served / name) for name in FILES if name != "model.json"}


def test_golden_samples_are_real_ones_with_the_artefacts_own_answers(served: Path, trained: Path) -> None:
    with np.load(served / "golden.npz") as data:
        inputs, outputs = data["inputs"], data["outputs"]
    assert inputs.shape == (package.GOLDEN, 1, 16, 16)
    np.testing.assert_array_equal(outputs, Model.load(served, threads=1).predict(inputs).answers)
    np.testing.assert_allclose(outputs, net.answers(net.load(trained)[0], inputs), atol=1e-4)


def test_the_graph_takes_raw_pixels_in_any_number_and_holds_no_path_of_this_machine(served: Path) -> None:
    graph = onnx.load(served / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    (pixels,) = graph.graph.input
    assert (pixels.name, pixels.type.tensor_type.elem_type) == ("samples", onnx.TensorProto.UINT8)
    assert pixels.type.tensor_type.shape.dim[0].dim_param
    assert str(Path.cwd()).encode() not in (served / "model.onnx").read_bytes()


def test_the_version_depends_on_what_goes_into_a_release_and_on_nothing_else(
    trained: Path, tmp_path: Path, released: Released, targets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "copy"))
    contract = Contract.load(trained / "contract.json")

    def version(folder: Path = copy, contract: Contract = contract, made_for: Any = targets, limits: Any = None) -> str:
        return release.version_of(folder, contract, made_for, limits or {})

    (copy / "history.json").write_text("[]")
    (copy / "model.json").write_text("{}")
    same = released[1]["version"]
    assert version() == version(trained) == same and re.fullmatch(r"1\.0\.\d+", same)
    others = {
        version(contract=dataclasses.replace(contract, classes=tuple(f"{name}!" for name in contract.classes))),
        version(made_for={"cloud-cpu": targets["cloud-cpu"]}),
        version(limits=LIMITS),
    }
    monkeypatch.setattr(formats, "tools", lambda: {"onnx": "0.1"})
    others.add(version())
    monkeypatch.undo()
    (copy / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes() + b" ")
    others.add(version())
    assert len(others - {same}) == 5


def test_a_model_that_is_too_slow_and_too_large_for_a_target_is_dropped_with_its_figures(
    trained: Path, curated: Path, tmp_path: Path
) -> None:
    tight = {"formats": ["onnx-fp32"], "p95_ms": 1e-6, "memory_mb": 5, "disk_mb": 1, "measure": "allowed"}
    (row,) = release.release(trained, curated, tmp_path, {"edge-x86": tight}, "run-1")["artifacts"]
    slow, large, heavy = row["dropped"].split("; ")
    assert slow.startswith("p95_ms is ") and slow.endswith("p95_ms wants at most 1e-06")
    assert large.startswith("peak_mb is ") and large.endswith("memory_mb wants at most 5")
    assert heavy.startswith("disk_mb is ") and heavy.endswith("disk_mb wants at most 1")
    assert not row["chosen"] and row["p50_ms"] > 0
    assert not list(tmp_path.rglob("model.zip"))


def test_the_figures_are_those_that_the_choice_was_made_by(
    trained: Path, curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured alone, the one may look faster; asked in turn, the other was."""
    in_turn = {"onnx-fp32": 30.0, "onnx-fp16": 20.0}
    monkeypatch.setattr(trials, "contest", lambda packages, *_: {name: in_turn[name] for name in packages})
    monkeypatch.setattr(release, "CLOSE", 1e6)
    either = {**QUICK, "formats": list(in_turn)}
    loose = {"min_agreement": 0.0, "max_metric_drop": 1.0}
    rows = release.release(trained, curated, tmp_path, {"cloud-cpu": either}, "run-1", loose)["artifacts"]
    assert {row["format"]: row["p50_ms"] for row in rows} == in_turn
    assert [row["format"] for row in rows if row["chosen"]] == ["onnx-fp16"]
    assert all(row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] and "in turn" in row["notes"] for row in rows)


def test_archives_do_not_depend_on_times_owners_or_order(tmp_path: Path) -> None:
    made = []
    for number, order in enumerate((("a", "b"), ("b", "a"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in order:
            (folder / name).write_text(name)
            (folder / name).chmod(0o600 if number else 0o644)
        package.tarred(folder, tmp_path / f"{number}.out" / "x.tar.gz")
        package.zipped(folder, tmp_path / f"{number}.out" / "x.zip")
        made.append([sha256(tmp_path / f"{number}.out" / name) for name in ("x.tar.gz", "x.zip")])
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "0.out" / "x.tar.gz").read_bytes())) as archive:
        assert archive.getnames() == ["a", "b"]
