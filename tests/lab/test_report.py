"""The report: whole for a good run, honest for one that stopped early, and one file that needs no network."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lab import flowchart, pictures, report

SECTIONS = ["flow", "data", "training", "quality", "confusion", "mistakes", "gate", "artifacts", "edge", "engine"]
SECTIONS += ["cost"]
FLOW = {
    "StartAt": "ReadManifest",
    "States": {
        "ReadManifest": {"Type": "Task", "Next": "Etl", "Catch": [{"Next": "RecordFailure"}]},
        "Etl": {"Type": "Task", "Next": "Train", "Catch": [{"Next": "RecordFailure"}]},
        "Train": {"Type": "Task", "Next": "GatePassed", "Catch": [{"Next": "RecordFailure"}]},
        "GatePassed": {"Type": "Choice", "Choices": [{"Next": "Register"}], "Default": "Refused"},
        "Register": {"Type": "Task", "End": True, "Catch": [{"Next": "RecordFailure"}]},
        "Refused": {"Type": "Fail"},
        "RecordFailure": {"Type": "Task", "Next": "Failed"},
        "Failed": {"Type": "Fail"},
    },
}
RAN = [
    ("ReadManifest", "aws-sdk:s3:headObject", 0.1),
    ("Etl", "glue:startJobRun.sync", 9.4),
    ("Train", "sagemaker:createTrainingJob.sync", 21.7),
    ("GatePassed", "choice", 0.0),
    ("Register", "lambda:invoke", 0.8),
]


def png(seed: int, pixels: int = 16) -> str:
    """A grey picture as base64."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (pixels, pixels), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def accuracy(value: float, width: float = 0.01) -> dict[str, float]:
    return {
        "accuracy": value,
        "accuracy_low": value - width,
        "accuracy_high": min(1.0, value + width),
        "macro_f1": value - 0.002,
        "log_loss": 0.09,
    }


def states(ran: list[tuple[str, str, float]], flow: str = "flow") -> list[dict[str, Any]]:
    rows, at = [], 1000.0
    for number, (name, resource, seconds) in enumerate(ran, 1):
        log = f"logs/{number:02d}-{name}/log.txt"
        row = {"name": name, "flow": flow, "resource": resource, "status": "SUCCEEDED", "seconds": seconds, "log": log}
        rows.append({**row, "start": at})
        at += seconds + 0.2
    return rows


def write_run(folder: Path, *, definitions: dict[str, Any] | None = None, rows: Any = None) -> Path:
    """A run's folder as a whole successful run leaves it."""
    classes = [str(number) for number in range(10)]
    confusion = [[30 if i == j else int((i * j) % 11 == 7) for j in range(10)] for i in range(10)]
    record = {
        "run": "0f9c2a71-1f0e-4a3c-9d51-7a1c5c2e9b10",
        "status": "SUCCEEDED",
        "dataset": "digits",
        "modality": "image",
        "task": "classification",
        "version": "1.0.141256873",
        "seconds": 96.4,
        "states": rows or states(RAN),
        "metrics": {
            "test": accuracy(0.9889, 0.009),
            "baseline": {"majority": accuracy(0.1, 0.02), "logistic_regression": accuracy(0.9611, 0.02)},
            "champion": None,
        },
        "gate": {"passed": True, "reasons": ["accuracy 0.9889 >= 0.95", "beats logistic_regression by 0.0278"]},
        "artifacts": [
            {
                **dict.fromkeys(["skipped"]),
                "format": "onnx-fp32",
                "target": target,
                "bytes": 412_345,
                "p50_ms": 0.21,
                "p95_ms": 0.34,
                "metric": 0.9889,
                "metric_drop": 0.0,
                "agreement": 1.0,
                "max_abs_diff": 2.4e-7,
                "chosen": True,
            }
            for target in ("cloud-cpu", "edge-x86")
        ],
        "model_package": "arn:aws:sagemaker:us-east-1:123456789012:model-package/ml-lab-dev-models/1",
        "approval": "Approved",
        "endpoint": {
            "name": "ml-lab-dev-endpoint",
            "status": "InService",
            "sample": {"file": "0/00001.png", "answer": {"label": "0", "confidence": 0.998}, "model_version": "1.0.1"},
        },
        "edge": {
            "deployment": "4a6b",
            "devices": [{"thing": "ml-lab-dev-desk-1", "status": "HEALTHY", "model_version": "1.0.141256873"}],
        },
        "engine": {
            "overhead_seconds": 14.2,
            "phases": {"synth": 6.1, "start": 2.2, "deploy": 1.9, "data": 2.6, "polling": 1.1, "finish": 0.3},
        },
        "cost": {
            "estimate_usd": 0.031,
            "idle_month_usd": 1.3,
            "rows": [{"what": "Train", "how": "21.7 s on 1 × ml.m5.xlarge", "usd": 0.0014}],
            "prices": {"date": "2026-11-22", "region": "us-east-1", "note": "List prices."},
        },
    }
    evaluation = {
        "classes": classes,
        "confusion": confusion,
        "per_class": [
            {"class": name, "precision": 0.99, "recall": 0.98, "f1": 0.985, "support": 30} for name in classes
        ],
        "worst": [
            {"source": f"raw/digits/8/{i:05d}.png", "label": "8", "predicted": "1", "confidence": 0.97 - i / 50}
            | {"png_base64": png(i)}
            for i in range(7)
        ],
        "samples": [{"label": name, "png_base64": png(100 + 7 * int(name) + i)} for name in classes for i in range(3)],
        "history": [
            {
                "epoch": epoch,
                "train_loss": 2.2 * 0.8**epoch + 0.03,
                "validation_loss": 2.2 * 0.8**epoch + 0.08,
                "val_accuracy": 1 - 0.8 * 0.75**epoch,
            }
            for epoch in range(1, 26)
        ],
    }
    counts = {
        "train": {name: 125 + int(name) for name in classes},
        "validation": dict.fromkeys(classes, 26),
        "test": dict.fromkeys(classes, 27),
    }
    data = {
        "passed": True,
        "checks": [
            {"name": "every_class_in_every_split", "passed": True, "detail": "10 classes in 3 splits"},
            {"name": "corrupt_share", "passed": True, "detail": "1 of 1797 (0.06 %), limit 1 %"},
        ],
        "counts": counts,
        "corrupt": [{"source": "3/00017.png", "why": "truncated PNG"}],
    }
    contract = {"shape": [1, 32, 32], "classes": classes, "mean": [77.9], "std": [96.1], "counts": counts}
    for path, document in {
        "record.json": record,
        "flow.json": definitions or {"flow": FLOW, "release": FLOW},
        "evaluate/report.json": evaluation,
        "curated/data_report.json": data,
        "curated/contract.json": contract,
        "settings.json": {
            "gate": {"accuracy": 0.95, "log_loss": None, "beat_baseline": True, "min_agreement": 0.995},
            "targets": {"edge-x86": {"p95_ms": 50.0}},
        },
        "recipes/ml-lab-dev.Model-1.0.141256873.json": {},
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(document))
    return folder


class Page(HTMLParser):
    """The sections of a page, what it links to, and whether its tags are balanced."""

    VOID = ("meta", "link", "img", "br", "rect", "circle", "line", "path", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [value for key in ("src", "href") if (value := values.get(key))]
        if tag == "section":
            self.sections.append(str(values["id"]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_a_whole_run_has_every_section_and_nothing_from_the_network(tmp_path: Path) -> None:
    text = report.render(write_run(tmp_path)).read_text()
    page = Page(text)
    assert page.sections == SECTIONS and page.open == []
    assert all(link.startswith(("data:", "logs/", "recipes/")) for link in page.links)
    assert "<script" not in text and "did not get as far" not in text
    assert "default-src 'none'" in text
    for expected in ("0.9889", "ml-lab-dev-desk-1", "onnx-fp32", "truncated PNG", "1.0.141256873", "InService"):
        assert expected in text


def test_candidates_stand_with_their_picture_skipped_ones_with_the_reason(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    record = json.loads((folder / "record.json").read_text())
    (fp32, _) = record["artifacts"]
    figures = {"p99_ms": 0.5, "throughput_per_s": 4200.0, "cold_start_s": 0.21, "peak_mb": 71.4, "install_mb": 135.0}
    slow = {**fp32, **figures, "format": "openvino-bf16", "chosen": False, "dropped": "p95_ms is 9, <b>too slow</b>"}
    absent = {**fp32, "format": "aoti-cpu", "chosen": False, "skipped": "needs a C++ compiler", "p50_ms": None}
    arm = {**fp32, **figures, "target": "edge-arm64", "proxy": True}
    (folder / "record.json").write_text(json.dumps(record | {"artifacts": [absent, slow, fp32, arm]}))
    (folder / "export").mkdir()
    (folder / "export" / "cloud-cpu.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>")
    text = report.render(folder).read_text()
    assert text.count('src="data:image/svg+xml;base64,') == 1 and "<script" not in text
    assert text.index("skipped: needs a C++ compiler") > text.index("openvino-bf16")
    assert "&lt;b&gt;too slow" in text and "<b>too slow" not in text
    for expected in ("4,200", "71 MB", "135 MB", "0.21", "Figures of edge-arm64 are by proxy"):
        assert expected in text
    assert "Figures of cloud-cpu are by proxy" not in text


def test_the_gate_shows_what_was_asked_and_what_was_reached(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    record, settings = (json.loads((folder / name).read_text()) for name in ("record.json", "settings.json"))
    assert report.criteria(record, settings) == [
        ("accuracy", "0.9500", "0.9889"),
        ("beat_baseline", "yes", "majority 0.1000, logistic regression 0.9611"),
        ("min_agreement", "0.9950", "1.0000"),
        ("edge-x86: p95 ms", "50.00", "0.3400"),
    ]


def test_a_run_that_stopped_early_says_what_it_did_not_reach(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    record = json.loads((folder / "record.json").read_text())
    rows = states(RAN[:2])
    rows[-1] |= {"status": "FAILED", "error": "States.TaskFailed", "cause": "<b>no space</b>"}
    record |= {"status": "FAILED", "states": rows, "metrics": {"test": {}, "baseline": {}}, "artifacts": []}
    record |= dict.fromkeys(["gate", "endpoint", "edge", "model_package", "approval", "version"])
    (folder / "record.json").write_text(json.dumps(record))
    for gone in ("evaluate/report.json", "curated/data_report.json", "curated/contract.json"):
        (folder / gone).unlink()
    text = report.render(folder).read_text()
    page = Page(text)
    assert page.sections == ["failure", *SECTIONS]
    assert text.count("did not get as far") == 8
    assert "&lt;b&gt;no space" in text and "<b>no space" not in text


def test_a_pending_model_says_how_to_approve_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    record = json.loads((folder / "record.json").read_text())
    record |= {"approval": "PendingManualApproval", "endpoint": None, "edge": None}
    (folder / "record.json").write_text(json.dumps(record))
    assert "lab approve 1.0.141256873" in report.render(folder).read_text()


def test_a_picture_that_is_no_png_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    path = folder / "evaluate" / "report.json"
    evaluation = json.loads(path.read_text())
    evaluation["worst"][0]["png_base64"] = '"><script>alert(1)</script>'
    evaluation["worst"][1]["png_base64"] = base64.b64encode(b"GIF89a").decode()
    path.write_text(json.dumps(evaluation))
    text = report.render(folder).read_text()
    assert "alert(1)" not in text and text.count("taken for <b>") == 5


def test_every_state_has_its_own_row_and_the_trunk_is_the_way_through() -> None:
    places = flowchart.place(flowchart.read(FLOW), {"ReadManifest"})
    assert sorted(spot.row for spot in places.values()) == list(range(len(FLOW["States"])))  # type: ignore[arg-type]
    trunk = [name for name, spot in places.items() if spot.trunk]
    assert trunk == ["ReadManifest", "Etl", "Train", "GatePassed", "Register"]
    assert list(places)[-2:] == ["RecordFailure", "Failed"]


def test_a_state_that_failed_is_drawn_with_the_way_of_its_error() -> None:
    rows = states([*RAN[:2], ("RecordFailure", "lambda:invoke", 0.3), ("Failed", "fail", 0.0)])
    rows[1]["status"] = "FAILED"
    svg = flowchart.draw(FLOW, rows, "flow")
    assert svg.count('class="edge error"') == 1 and svg.count('class="node failed"') == 1


@pytest.mark.parametrize("history", [[], [{"epoch": 1, "note": "x"}]])
def test_curves_of_nothing_are_nothing(history: list[dict[str, Any]]) -> None:
    assert pictures.curves(history, "loss", "loss") == ""


def test_curves_keep_inside_their_frame_for_one_epoch_and_for_equal_values() -> None:
    for history in ([{"train_loss": 0.5}], [{"train_loss": 0.0}, {"train_loss": 0.0}]):
        numbers = [float(text) for text in re.findall(r'c[xy]="([\d.-]+)"', pictures.curves(history, "loss", "loss"))]
        assert numbers and all(0 <= number <= 500 for number in numbers)


def test_a_confusion_matrix_of_many_classes_stays_small() -> None:
    count = 60
    matrix = [[int(i == j) for j in range(count)] for i in range(count)]
    svg = pictures.confusion(matrix, [f"class {number}" for number in range(count)])
    assert svg.count("<rect") == count * count and 'class="cell' not in svg
