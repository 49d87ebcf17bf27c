"""The package gate: a good package answers as the trained net does, and each kind of bad one is refused by its code."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from models import curated as reader
from models import features, net, runtime
from models.contract import Contract


def seal(package: Path, **changed: Any) -> Path:
    """Writes `model.json` again, with the digests of the files as they are now."""
    about = json.loads((package / "model.json").read_text("utf-8"))
    about["sha256"] = {
        name: hashlib.sha256((package / name).read_bytes()).hexdigest()
        for name in ("contract.json", "golden.npz", "model.onnx")
    }
    (package / "model.json").write_text(json.dumps(about | changed), "utf-8")
    return package


def refused(package: Path) -> runtime.PackageError:
    with pytest.raises(runtime.PackageError) as caught:
        runtime.Model.load(package, threads=1)
    assert str(caught.value) == f"{caught.value.code}: {caught.value.detail}"
    assert caught.value.reason_code == caught.value.code
    return caught.value


def golden(package: Path) -> dict[str, np.ndarray]:
    with np.load(package / "golden.npz") as data:
        return {name: data[name] for name in data.files}


@pytest.fixture(scope="module")
def model(served: Path) -> runtime.Model:
    return runtime.Model.load(served, threads=1)


def test_a_package_answers_as_the_trained_net(model: runtime.Model, trained: Path, curated: Path) -> None:
    for split in ("test", "validation", "train"):
        pixels = reader.read(curated, split)[0]
        expected = net.answers(net.load(trained)[0], pixels)
        got = model.predict(pixels).probabilities
        np.testing.assert_allclose(got, expected, atol=1e-4)
        np.testing.assert_array_equal(got.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("count", [1, 2, 33])
def test_any_batch_size_is_answered(model: runtime.Model, count: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 1, 16, 16), np.uint8)
    found = model.predict(pixels)
    assert found.probabilities.shape == (count, 4)
    assert found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(1), 1.0, atol=1e-5)
    assert found.labels == tuple(model.contract.classes[i] for i in found.indices)
    np.testing.assert_array_equal(found.confidences, found.probabilities.max(1))


def test_encoded_pictures_are_decoded_as_in_training(model: runtime.Model) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    found = model.predict_bytes([buffer.getvalue()] * 2)
    expected = model.predict(np.stack([pixels[None]] * 2))
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)


def test_a_picture_that_does_not_decode_is_refused(model: runtime.Model) -> None:
    with pytest.raises(features.CorruptSample):
        model.predict_bytes([b"no picture"])


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 1, 16, 16), np.float32),
        np.zeros((1, 1, 16, 16), np.int8),
        np.zeros((1, 16, 16), np.uint8),
        np.zeros((1, 3, 16, 16), np.uint8),
        np.zeros((1, 1, 16, 17), np.uint8),
    ],
)
def test_another_kind_or_shape_is_refused_with_what_is_expected(model: runtime.Model, batch: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[N, 1, 16, 16\], got"):
        model.predict(batch)


def test_a_package_names_its_version_its_graph_and_its_contract(
    model: runtime.Model, served: Path, released: tuple[Path, dict[str, Any]]
) -> None:
    assert model.version == released[1]["version"]
    assert model.sha256 == hashlib.sha256((served / "model.onnx").read_bytes()).hexdigest()
    assert model.contract == Contract.load(served / "contract.json")


def test_a_watch_counts_against_the_training_split(model: runtime.Model, curated: Path) -> None:
    watch = model.watch()
    watch.add(reader.read(curated, "train")[0])
    assert watch.worst() == pytest.approx(0.0, abs=1e-6)
    watch.reset()
    watch.add(np.zeros((50, 1, 16, 16), np.uint8))
    assert watch.worst() > 0.25


def test_each_timing_is_a_positive_number_of_milliseconds(model: runtime.Model) -> None:
    taken = runtime.timed(model, np.zeros((1, 1, 16, 16), np.uint8), 5)
    assert len(taken) == 5
    assert min(taken) > 0


def test_a_sealed_copy_is_as_good(package: Path) -> None:
    assert runtime.Model.load(seal(package)).predict(np.zeros((1, 1, 16, 16), np.uint8)).labels


@pytest.mark.parametrize("name", ["model.json", "model.onnx", "contract.json", "golden.npz"])
def test_a_missing_file_is_named(package: Path, name: str) -> None:
    (package / name).unlink()
    error = refused(package)
    assert (error.code, error.detail) == ("missing", f"{name} is not in the package")


def test_an_empty_folder_is_no_package(tmp_path: Path) -> None:
    assert refused(tmp_path).code == "missing"
    assert refused(tmp_path / "nowhere").code == "missing"


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", "golden.npz"])
def test_a_file_without_a_digest_is_not_trusted(package: Path, name: str) -> None:
    about = json.loads((package / "model.json").read_text("utf-8"))
    del about["sha256"][name]
    (package / "model.json").write_text(json.dumps(about))
    error = refused(package)
    assert (error.code, error.detail) == ("missing", f"model.json names no digest of {name}")


def test_a_file_outside_the_package_is_not_looked_at(package: Path) -> None:
    outside = package.parent / "outside"
    outside.write_bytes(b"x")
    about = json.loads((package / "model.json").read_text("utf-8"))
    about["sha256"]["../outside"] = hashlib.sha256(b"x").hexdigest()
    (package / "model.json").write_text(json.dumps(about))
    assert refused(package).code == "missing"


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", "golden.npz"])
@pytest.mark.parametrize("place", [0, -1])
def test_one_changed_bit_is_found(package: Path, name: str, place: int) -> None:
    data = bytearray((package / name).read_bytes())
    data[place] ^= 1
    (package / name).write_bytes(data)
    error = refused(package)
    assert error.code == "digest"
    assert error.detail.startswith(f"{name} has sha256 ")


def test_a_truncated_graph_is_found(package: Path) -> None:
    data = (package / "model.onnx").read_bytes()
    (package / "model.onnx").write_bytes(data[: len(data) // 2])
    assert refused(package).code == "digest"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"sha256": 3}', "\udcff"])
def test_a_model_json_that_is_none_is_refused(package: Path, text: str) -> None:
    (package / "model.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert refused(package).code == "schema"


@pytest.mark.parametrize(
    "changed",
    [
        {"schema": 2},
        {"schema": "one"},
        {"opset": None},
        {"tolerance": "little"},
        {"tolerance": None},
        {"p95_ms": "fast"},
        {"p95_ms": float("nan")},
        {"p95_ms": -1.0},
        {"tolerance": float("inf")},
    ],
)
def test_a_field_that_this_runtime_does_not_read_is_refused(package: Path, changed: dict[str, Any]) -> None:
    assert refused(seal(package, **changed)).code == "schema"


@pytest.mark.parametrize("key", ["schema", "version", "opset", "p95_ms", "tolerance", "sha256"])
def test_a_field_that_is_missing_is_refused(package: Path, key: str) -> None:
    about = json.loads((package / "model.json").read_text("utf-8"))
    del about[key]
    (package / "model.json").write_text(json.dumps(about))
    error = refused(package)
    assert error.code == "schema"
    assert key in error.detail


def test_a_contract_that_contradicts_itself_is_refused(package: Path) -> None:
    (package / "contract.json").write_text("{}")
    assert refused(seal(package)).code == "schema"


@pytest.mark.parametrize("opset", [1, 12, 99])
def test_an_opset_that_this_runtime_does_not_run_is_refused(package: Path, opset: int) -> None:
    error = refused(seal(package, opset=opset))
    assert error.code == "opset"
    assert f"opset {opset}; this runtime runs 13 to " in error.detail


@pytest.mark.parametrize(
    "changed",
    [{"shape": [1, 16, 20]}, {"shape": [3, 16, 16], "mean": [1.0, 1.0, 1.0], "std": [1.0, 1.0, 1.0]}],
)
def test_a_graph_of_another_shape_than_the_contracts_is_refused(package: Path, changed: dict[str, Any]) -> None:
    document = Contract.load(package / "contract.json").document() | changed
    (package / "contract.json").write_text(json.dumps(document))
    assert refused(seal(package)).code == "shape"


def test_a_graph_that_takes_other_numbers_is_refused(package: Path) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["pixels"], ["probabilities"])],
        "net",
        [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["N", 1, 16, 16])],
        [onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", 1, 16, 16])],
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9),
        package / "model.onnx",
    )
    assert refused(seal(package)).code == "shape"


@pytest.mark.parametrize("data", [b"", b"no graph", b"\x00" * 1000])
def test_a_graph_that_does_not_load_is_refused(package: Path, data: bytes) -> None:
    (package / "model.onnx").write_bytes(data)
    assert refused(seal(package)).code in {"load", "shape"}


def moved(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return found | {"outputs": np.roll(found["outputs"], 1, axis=1)}


def fewer_classes(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return found | {"outputs": found["outputs"][:, :2]}


def not_numbers(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return found | {"outputs": np.full_like(found["outputs"], np.nan)}


def other_inputs(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return found | {"inputs": 255 - found["inputs"]}


def other_shape(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return found | {"inputs": found["inputs"][:, :, :8]}


def nothing(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values[:0] for name, values in found.items()}


def unnamed(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"inputs": found["inputs"]}


def objects(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return found | {"outputs": np.array([{"a": 1}], object)}


@pytest.mark.parametrize(
    "change", [moved, fewer_classes, not_numbers, other_inputs, other_shape, nothing, unnamed, objects]
)
def test_golden_samples_that_do_not_agree_are_refused(
    package: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
) -> None:
    np.savez(package / "golden.npz", **change(golden(package)))
    assert refused(seal(package)).code == "golden"


@pytest.mark.parametrize("kind", ["text", "half an archive", "one array", "a pickle"])
def test_golden_samples_that_cannot_be_read_are_refused(package: Path, kind: str) -> None:
    path = package / "golden.npz"
    match kind:
        case "text":
            path.write_bytes(b"no archive")
        case "half an archive":
            path.write_bytes(path.read_bytes()[:500])
        case "one array":
            inputs = golden(package)["inputs"]
            with path.open("wb") as stream:
                np.save(stream, inputs)
        case "a pickle":
            with path.open("wb") as stream:
                np.save(stream, np.array([{"a": 1}], object), allow_pickle=True)
    assert refused(seal(package)).code == "golden"


def test_the_tolerance_is_the_packages_own(package: Path) -> None:
    found = golden(package)
    np.savez(package / "golden.npz", inputs=found["inputs"], outputs=found["outputs"] + np.float32(0.01))
    assert refused(seal(package)).detail.startswith("an answer is off by 0.01")
    assert runtime.Model.load(seal(package, tolerance=0.02))


def test_a_model_over_its_budget_is_refused_with_the_time_it_takes(package: Path) -> None:
    error = refused(seal(package, p95_ms=1e-6))
    assert error.code == "slow"
    assert "the budget is 1e-06 ms" in error.detail


def test_the_first_finding_counts(package: Path) -> None:
    shutil.rmtree(package)
    assert refused(package).code == "missing"
