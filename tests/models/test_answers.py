"""What a client gets: each form says the same, Accept decides, and an answer to look at is marked."""

import csv
import io
import json
from collections.abc import Callable

import numpy as np
import pytest

from models import answers
from models.contract import Column, Contract, Target
from models.payload import BadRequest

Make = Callable[..., Contract]


@pytest.fixture
def regression(contract: Make) -> Contract:
    return contract(
        modality="tabular", task="regression", shape=(1,), classes=(), mean=(0.0,), std=(1.0,),
        columns=(Column(name="x"),), target=Target(name="price", mean=100.0, std=10.0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", answers.JSON),
        ("*/*", answers.JSON),
        ("application/*", answers.JSON),
        ("text/*", answers.CSV),
        ("TEXT/CSV; header=present", answers.CSV),
        ("application/json;q=0.4, application/x-npy", answers.NPY),
        ("text/html, text/csv;q=0.1", answers.CSV),
        ("application/json;q=0, */*", answers.CSV),
        ("text/csv;q=nonsense", answers.CSV),
    ],
)
def test_the_form_is_the_one_that_the_client_likes_best(accept: str, form: str) -> None:
    assert answers.form_of(accept) == form


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "x" * 1000])
def test_a_client_that_takes_none_of_ours_gets_a_406(accept: str) -> None:
    with pytest.raises(BadRequest) as refused:
        answers.form_of(accept)
    assert refused.value.status == 406
    assert "application/x-npy" in str(refused.value)


def test_classes_come_with_label_confidence_and_doubt(contract: Make) -> None:
    found = json.loads(answers.as_json(np.float32([[0.25, 0.75], [0.45, 0.55]]), contract(), "v7"))
    assert found["model_version"] == "v7"
    assert found["predictions"] == [
        {"label": "odd", "index": 1, "confidence": 0.75, "uncertain": False, "probabilities": [0.25, 0.75]},
        {
            "label": "odd", "index": 1, "confidence": pytest.approx(0.55), "uncertain": True,
            "probabilities": pytest.approx([0.45, 0.55]),
        },
    ]  # fmt: skip


def test_a_number_far_from_all_that_was_trained_on_is_in_doubt(regression: Contract) -> None:
    found = json.loads(answers.as_json(np.float32([[129], [131], [-20], [np.nan]]), regression, "v"))
    assert found["predictions"] == [
        {"value": 129.0, "uncertain": False},
        {"value": 131.0, "uncertain": True},
        {"value": -20.0, "uncertain": True},
        {"value": None, "uncertain": True},
    ]


def test_no_number_is_null_and_never_breaks_the_json(contract: Make) -> None:
    text = answers.as_json(np.float32([[np.nan, np.inf]]), contract(), "v").decode()
    (row,) = json.loads(text, parse_constant=pytest.fail)["predictions"]
    assert (row["confidence"], row["uncertain"], row["probabilities"]) == (None, True, [None, None])


def test_lines_hold_what_the_json_holds(contract: Make, regression: Contract) -> None:
    classes = contract(classes=("a,b", 'say "c"'))
    head, row = csv.reader(io.StringIO(answers.as_csv(np.float32([[0.25, 0.75]]), classes, "v").decode()))
    assert head == ["label", "confidence", "uncertain", "p_a,b", 'p_say "c"']
    assert row == ['say "c"', "0.75", "false", "0.25", "0.75"]
    assert answers.as_csv(np.float32([[200]]), regression, "v") == b"value,uncertain\r\n200.0,true\r\n"


def test_numpys_form_is_the_models_own_numbers(contract: Make) -> None:
    given = np.float32([[0.25, 0.75]])
    np.testing.assert_array_equal(np.load(io.BytesIO(answers.as_npy(given, contract(), "v"))), given)
