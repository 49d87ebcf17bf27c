"""lab.toml after adapt: new [data], fitting metrics, and everything else as it was."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.adapt import settings
from models.adapt.problem import AdaptError

BEFORE = """\
# Our lab.

[lab]
name = "plant-7"   # short

# What we learn from.
[data]
# agreed with the customer
dataset = "digits"   # a name
exclude = [
  "a [x]",
  "b",
]
corrupt_share = 0.05

# Signed on day one.
[gate]
accuracy = 0.95
rmse = 3.0
beat_baseline = true  # always
min_agreement = 0.995

[targets.cloud-cpu]
formats = ["onnx-fp32"]
"""


def test_only_data_and_the_metrics_change() -> None:
    text = settings.updated(BEFORE, {"dataset": "pump", "task": "anomaly"}, {"auroc": 0.7}, "lab.toml")
    expected = tomllib.loads(BEFORE)
    expected["data"] = {"dataset": "pump", "task": "anomaly", "corrupt_share": 0.05}
    expected["gate"] = {"beat_baseline": True, "min_agreement": 0.995, "auroc": 0.7}
    assert tomllib.loads(text) == expected


def test_comments_stay() -> None:
    text = settings.updated(BEFORE, {"dataset": "pump"}, {"auroc": 0.7}, "lab.toml")
    for comment in (
        "# Our lab.",
        "# short",
        "# What we learn from.",
        "# agreed with",
        "# a name",
        "# Signed",
        "# always",
    ):
        assert comment in text, comment
    assert text.index("# Signed") > text.index("corrupt_share") and text.index("[gate]") > text.index("# Signed")


def test_the_same_twice_is_the_same() -> None:
    once = settings.updated(BEFORE, {"dataset": "pump", "exclude": ["x" * 60, "y" * 60]}, {"auroc": 0.7}, "lab.toml")
    assert settings.updated(once, {"dataset": "pump", "exclude": ["x" * 60, "y" * 60]}, {"auroc": 0.7}, "x") == once


@pytest.mark.parametrize("before", ["", "[lab]\nname = 'x'\n", "[gate]\nr2 = 0.1\n", "[data]\n[train]\nepochs = 1\n"])
def test_tables_that_lack_are_added(before: str) -> None:
    found = tomllib.loads(settings.updated(before, {"dataset": "pump"}, {"auroc": 0.7}, "lab.toml"))
    assert found == {**tomllib.loads(before), "data": {"dataset": "pump"}, "gate": {"auroc": 0.7}}


@pytest.mark.parametrize("before", ["data = { dataset = 'digits' }\n", "data.dataset = 'digits'\n", "gate.r2 = 1\n"])
def test_a_form_that_cannot_be_edited_safely_is_refused(before: str) -> None:
    with pytest.raises(AdaptError, match="cannot be replaced safely"):
        settings.updated(before, {"dataset": "pump"}, {"auroc": 0.7}, "lab.toml")


@given(names=st.lists(st.text(min_size=1, max_size=40), max_size=8))
def test_any_column_name_comes_back_as_it_was(names: list[str]) -> None:
    names = [name for name in names if name.isprintable() or not any(0xD800 <= ord(letter) < 0xE000 for letter in name)]
    text = settings.updated(BEFORE, {"dataset": "pump", "exclude": names, "header": False}, {"auroc": 0.7}, "lab.toml")
    assert tomllib.loads(text)["data"]["exclude"] == names


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    settings.write(tmp_path / "lab.toml", "a = 1\n")
    settings.write(tmp_path / "lab.toml", "b = 2\n")
    assert [path.name for path in tmp_path.iterdir()] == ["lab.toml"]
    assert (tmp_path / "lab.toml").read_text() == "b = 2\n"
