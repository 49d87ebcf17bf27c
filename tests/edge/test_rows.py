"""Rows of a table at the edge: each answered, each with the version that computed it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.frames import Frame
from edge.inference import Service
from edge.switch import Serving
from models.contract import Column, Contract, Target
from models.runtime import Model


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A device whose model answers a + 2 b."""
    folder = tmp_path / "package"
    folder.mkdir()
    weights = numpy_helper.from_array(np.array([[1.0], [2.0]], np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["samples", "w"], ["answers"])],
        "net",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("answers", TensorProto.FLOAT, ["N", 1])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / "model.onnx").write_bytes(onnx.ModelProto.SerializeToString(made))
    shares = {"edges": [0.0, 5.0, 10.0], "shares": [0.5, 0.5]}
    Contract(
        schema=2,
        dataset="plant",
        modality="tabular",
        task="regression",
        shape=(2,),
        classes=(),
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        counts={"train": {"all": 9}},
        profile={"a": shares, "b": shares},
        columns=(Column(name="a"), Column(name="b")),
        target=Target(name="yield", mean=0.0, std=1.0),
    ).save(folder / "contract.json")
    inputs = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.savez(folder / "golden.npz", inputs=inputs, outputs=inputs @ [[1.0], [2.0]])
    about: dict[str, Any] = {"schema": 1, "version": "1.0.7", "opset": 18, "p95_ms": None, "tolerance": 1e-4}
    about["sha256"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    (folder / "model.json").write_text(json.dumps(about))
    device = Service(tmp_path, "press-4", None)
    device.prepare()
    model = Model.load(folder, 1)
    device.switch.current = Serving(model, "1.0.7", model.sha256)
    return device


def answer(device: Service, name: str, data: bytes) -> None:
    device.pipeline.answer(Frame(name, data))
    device.results.flush()


def results(device: Service) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (device.work / "results.jsonl").read_text().splitlines()]


def test_every_row_of_a_file_gets_its_value(service: Service) -> None:
    answer(service, "shift-1.csv", b"b,a\n10,1\n20,2\n")
    found = results(service)
    assert [(row["source"], row["sample"], row["value"]) for row in found] == [
        ("shift-1.csv", 0, 21.0),
        ("shift-1.csv", 1, 42.0),
    ]
    assert {row["model_version"] for row in found} == {"1.0.7"}


def test_a_number_has_no_confidence_and_still_counts(service: Service) -> None:
    answer(service, "shift-1.csv", b"a,b\n1,10\n2,20\n")
    message = json.loads(service.telemetry.report(service.switch.current, service.drift.take(), {}))
    assert (message["count"], message["errors"], message["confidence_mean"]) == (2, 0, None)


def test_a_file_that_is_no_table_is_an_error_and_not_the_end(service: Service) -> None:
    answer(service, "broken.csv", b"a,b\n1,ten\n")
    assert "column 'b', row 1: 'ten' is no number" in results(service)[0]["error"]


def test_what_the_device_sees_is_compared_with_the_training_data(service: Service) -> None:
    rows = "".join(f"{number % 10},{number % 10}\n" for number in range(200))
    answer(service, "like-training.csv", f"a,b\n{rows}".encode())
    like = service.drift.take()
    assert like is not None and like.psi == pytest.approx(0.0, abs=0.01)
    rows = "9,9\n" * 200
    answer(service, "all-at-the-top.csv", f"a,b\n{rows}".encode())
    moved = service.drift.take()
    assert moved is not None and moved.psi > 0.25 and set(moved.features) == {"a", "b"}
