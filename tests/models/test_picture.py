"""The picture of candidates: every measured one is a point where its figures are, the chosen one is marked."""

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.export import formats, picture

SVG = "{http://www.w3.org/2000/svg}"
NAMES = [form.name for form in formats.ALL]


def row(name: str, p50: float | None, metric: float = 0.9, drop: float = 0.0, **more: Any) -> dict[str, Any]:
    given = {"format": name, "target": "cloud-cpu", "skipped": None, "dropped": None, "chosen": False, "proxy": False}
    ends = {"metric_drop_low": drop - 0.01, "metric_drop_high": drop + 0.01}
    return {**given, "p50_ms": p50, "metric": metric, "metric_drop": drop, **ends, **more}


def drawn(rows: list[dict[str, Any]], classes: bool = True) -> ElementTree.Element:
    return ElementTree.fromstring(picture.draw("cloud-cpu", rows, classes))


def points(svg: ElementTree.Element) -> dict[str, tuple[str, float, float]]:
    """By format: its mark, and where it stands."""
    found = {}
    for circle in svg.iter(f"{SVG}circle"):
        title = circle.find(f"{SVG}title")
        if title is not None:
            name = str(title.text).partition(":")[0]
            found[name] = (circle.attrib["class"], float(circle.attrib["cx"]), float(circle.attrib["cy"]))
    return found


def texts(svg: ElementTree.Element) -> list[str]:
    return ["".join(node.itertext()) for node in svg.iter(f"{SVG}text")]


def test_faster_is_left_better_is_up_and_each_mark_says_what_became_of_it() -> None:
    svg = drawn([
        row("onnx-fp32", 2.0), row("onnx-int8", 0.5, 0.85, 0.05, dropped="agreement"),
        row("openvino-bf16", 0.7, 0.899, 0.001, chosen=True), row("aoti-cpu", None, skipped="no compiler"),
    ])  # fmt: skip
    found = points(svg)
    assert {name: mark for name, (mark, _, _) in found.items()} == {
        "onnx-fp32": "fits", "onnx-int8": "dropped", "openvino-bf16": "chosen"
    }  # fmt: skip
    assert found["onnx-int8"][1] < found["openvino-bf16"][1] < found["onnx-fp32"][1]
    assert found["onnx-int8"][2] > found["openvino-bf16"][2] > found["onnx-fp32"][2], "SVG counts downwards"
    assert len([node for node in svg.iter(f"{SVG}circle") if node.attrib["class"] == "ring"]) == 1
    assert "1 skipped, see the table" in texts(svg)


def test_an_error_is_drawn_upside_down_so_that_up_stays_better() -> None:
    found = points(drawn([row("onnx-fp32", 2.0, 15.0), row("onnx-int8", 0.5, 18.0, 0.2)], classes=False))
    assert found["onnx-int8"][2] > found["onnx-fp32"][2]


def test_a_share_of_right_answers_has_no_tick_above_one() -> None:
    svg = drawn([row("onnx-fp32", 2.0, 1.0), row("onnx-fp16", 2.1, 1.0)])
    ticks = [float(text) for text in texts(svg) if text.replace(".", "").isdigit()]
    assert 1.0 in ticks and not [tick for tick in ticks if 1.0 < tick < 1.5]


def test_a_target_of_another_kind_of_machine_says_that_it_is_measured_by_proxy() -> None:
    assert "by proxy" in texts(drawn([row("onnx-fp32", 2.0, proxy=True)]))[0]
    assert "by proxy" not in texts(drawn([row("onnx-fp32", 2.0)]))[0]


def test_a_target_where_nothing_was_measured_has_no_picture() -> None:
    rows = [row("onnx-fp32", 1.0), row("aoti-cuda", None, skipped="needs a GPU", target="cloud-gpu")]
    assert set(picture.pictures({"artifacts": rows, "contract": {"classes": ["a", "b"]}})) == {"cloud-cpu"}


@pytest.mark.parametrize("classes", [True, False])
@given(
    figures=st.lists(
        st.tuples(st.floats(1e-3, 1e4), st.floats(1e-3, 1.0), st.floats(-0.5, 0.5)), min_size=1, max_size=len(NAMES)
    )
)
def test_whatever_is_measured_stays_within_the_picture_and_labels_do_not_cover_each_other(
    classes: bool, figures: list[tuple[float, float, float]]
) -> None:
    rows = [row(name, *numbers) for name, numbers in zip(NAMES, figures, strict=False)]
    svg = drawn(rows, classes)
    found = points(svg)
    assert len(found) == len(figures)
    for _, x, y in found.values():
        assert picture.LEFT <= x <= picture.WIDTH - picture.RIGHT
        assert picture.TOP <= y <= picture.HEIGHT - picture.BOTTOM
    labels = [
        (float(node.attrib["x"]), float(node.attrib["y"]), picture.LETTER * len(str(node.text)))
        for node in svg.iter(f"{SVG}text")
        if node.text in found
    ]
    assert len(labels) == len(figures)
    for place, (x, y, wide) in enumerate(labels):
        assert x > 0 and x + wide <= picture.WIDTH
        others = labels[place + 1 :]
        assert not [
            other for other in others if abs(other[1] - y) < 10 and x < other[0] + other[2] and other[0] < x + wide
        ]
