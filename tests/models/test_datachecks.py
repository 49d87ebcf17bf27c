"""The hard data checks: a sound data set passes, and each way to be unsound fails its own check with figures."""

from typing import Any

import pytest

from models import datachecks

CLASSES = ("good", "bad")


def report(**other: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "classes": CLASSES,
        "counts": {split: dict.fromkeys(CLASSES, 30) for split in ("train", "validation", "test")},
        "total": 180,
        "corrupt_total": 0,
        "corrupt": [],
        "corrupt_share": 0.01,
        "duplicates_total": 0,
        "duplicates": [],
        "conflicts_total": 0,
        "conflicts": [],
    }
    return datachecks.check(**given | other)


def failed(found: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["detail"] for row in found["checks"] if not row["passed"]}


def test_a_sound_data_set_passes_every_check() -> None:
    found = report()
    assert found["passed"]
    assert failed(found) == {}
    names = [row["name"] for row in found["checks"]]
    assert names == ["files", "corrupt", "classes", "conflicts", "enough-train", "enough-validation", "enough-test"]


def test_an_empty_manifest_fails() -> None:
    found = report(total=0, classes=(), counts={})
    assert not found["passed"]
    assert failed(found)["files"] == "0 files in the manifest"


def test_too_many_corrupt_files_fail_with_their_share() -> None:
    rows = [{"source": "bad/1.png", "why": "is empty"}]
    found = report(total=100, corrupt_total=2, corrupt=rows)
    assert failed(found) == {"corrupt": "2 of 100 files cannot be used; at most 1.0% may be so"}
    assert found["corrupt"] == rows


def test_as_many_corrupt_files_as_allowed_pass() -> None:
    assert report(total=100, corrupt_total=1)["passed"]
    assert report(total=100, corrupt_total=50, corrupt_share=0.5)["passed"]


def test_one_class_fails() -> None:
    found = report(classes=("good",))
    assert failed(found) == {"classes": "1 classes: at least two are needed"}


def test_more_than_one_in_a_hundred_conflicts_fail() -> None:
    rows = [{"sources": ["good/1.png", "bad/1.png"], "labels": ["bad", "good"]}]
    assert report(total=200, conflicts_total=2)["passed"]
    found = report(total=200, conflicts_total=3, conflicts=rows)
    assert list(failed(found)) == ["conflicts"]
    assert failed(found)["conflicts"].startswith("3 contents bear more than one label")
    assert found["conflicts"] == rows


def test_duplicates_are_reported_and_do_not_fail() -> None:
    found = report(duplicates_total=40, duplicates=[{"source": "a", "same_as": "b"}])
    assert found["passed"]
    assert found["duplicates_total"] == 40


@pytest.mark.parametrize(("split", "least"), [("train", 5), ("validation", 1), ("test", 2)])
def test_a_class_that_is_too_rare_in_a_split_fails_by_name(split: str, least: int) -> None:
    counts = {name: dict.fromkeys(CLASSES, 30) for name in ("train", "validation", "test")}
    counts[split]["bad"] = least
    assert report(counts=counts)["passed"]
    counts[split]["bad"] = least - 1
    found = report(counts=counts)
    assert failed(found) == {f"enough-{split}": f"each class needs {least} in {split}; bad has {least - 1}"}


def test_a_split_that_is_not_there_fails() -> None:
    assert "enough-test" in failed(report(counts={"train": dict.fromkeys(CLASSES, 9)}))


def test_many_rare_classes_are_summed_up() -> None:
    classes = [f"class {n}" for n in range(12)]
    detail = failed(report(classes=classes, counts={}))["enough-train"]
    assert "class 4 has 0 and 7 more" in detail
    assert "class 5" not in detail


def numbers(**other: Any) -> dict[str, Any]:
    counts = {"train": {"all": 20}, "validation": {"all": 5}, "test": {"all": 5}}
    given: dict[str, Any] = {"task": "regression", "unit": "rows", "classes": (), "counts": counts, "span": (1.0, 2.5)}
    return report(**given | other)


def test_numbers_need_a_target_that_varies() -> None:
    assert numbers()["passed"]
    assert failed(numbers(span=(3.0, 3.0))) == {
        "target": "every row of training has the target 3; choose another target"
    }
    assert failed(numbers(span=None)) == {"target": "no row of training has a target"}


@pytest.mark.parametrize(("split", "least"), [("train", 20), ("validation", 5), ("test", 5)])
def test_numbers_need_more_samples_than_a_class(split: str, least: int) -> None:
    counts = {"train": {"all": 20}, "validation": {"all": 5}, "test": {"all": 5}} | {split: {"all": least - 1}}
    wanted = f"a target that is a number needs {least} in {split}; all has {least - 1}"
    assert failed(numbers(counts=counts)) == {f"enough-{split}": wanted}


def test_more_than_ten_thousand_classes_fail() -> None:
    classes = [f"name {at}" for at in range(10_001)]
    assert failed(report(classes=classes, counts={}))["classes"].startswith("more than 10000 classes: is the target")


def test_of_anomalies_training_needs_none_and_a_test_without_one_says_what_that_means() -> None:
    counts = {split: {"normal": 30, "anomaly": 0} for split in ("train", "validation", "test")}
    found = report(task="anomaly", classes=("normal", "anomaly"), counts=counts)
    assert found["passed"]
    said = {row["name"]: row["detail"] for row in found["checks"]}
    assert said["anomalies"] == "0 anomalies in test: how well one is found cannot be measured"
    counts["validation"]["normal"] = 0
    found = report(task="anomaly", classes=("normal", "anomaly"), counts=counts)
    assert failed(found) == {"enough-validation": "what is normal needs 1 in validation; normal has 0"}


def test_equal_rows_with_several_labels_are_no_fault_of_a_table() -> None:
    found = report(unit="rows", conflicts_total=90, more={"units": 4})
    assert found["passed"]
    assert (found["conflicts_total"], found["units"]) == (90, 4)
    assert "90 of 180 rows" in failed(report(unit="rows", corrupt_total=90))["corrupt"]
