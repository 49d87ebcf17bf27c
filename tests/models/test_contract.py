"""The contract: what is written is read back, and one that does not hold together is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.contract import Contract, ContractError

Make = Callable[..., Contract]


def test_a_saved_contract_loads_equal(contract: Make, tmp_path: Path) -> None:
    made = contract(classes=("ö", "日本"), shape=(3, 4, 5), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    made.save(tmp_path / "contract.json")
    assert Contract.load(tmp_path / "contract.json") == made


def test_equal_contracts_are_written_as_equal_bytes(contract: Make, tmp_path: Path) -> None:
    contract(counts={"test": {"a": 1}, "train": {"b": 2}}).save(tmp_path / "one")
    contract(counts={"train": {"b": 2}, "test": {"a": 1}}).save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_digest_survives_the_disk_and_changes_with_any_field(contract: Make, tmp_path: Path) -> None:
    made = contract()
    made.save(tmp_path / "contract.json")
    assert Contract.load(tmp_path / "contract.json").digest() == made.digest()
    assert contract(mean=(80.5,)).digest() != made.digest()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("schema", 1, "schema 1; this code reads 2"),
        ("shape", (8, 8), r"shape \[8, 8\] is none of image"),
        ("shape", (1, 0, 8), r"shape \[1, 0, 8\]"),
        ("mean", (1.0, 2.0), "mean and std need 1 values each"),
        ("std", (0.0,), "std above zero"),
        ("std", (-1.0,), "std above zero"),
        ("classes", ("even",), "at least two"),
        ("classes", ("even", "even"), "each once"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(contract: Make, field: str, value: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        contract(**{field: value})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"nowhere\.json is missing"):
        Contract.load(tmp_path / "nowhere.json")


@pytest.mark.parametrize("field", ["schema", "shape", "classes", "profile", "std"])
def test_a_missing_field_is_named(contract: Make, tmp_path: Path, field: str) -> None:
    document = contract().document()
    del document[field]
    path = tmp_path / "contract.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ContractError, match=f"contract.json: the field '{field}' is missing"):
        Contract.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "7", "\x00"])
def test_what_is_no_contract_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "contract.json"
    path.write_text(text)
    with pytest.raises(ContractError, match=r"contract\.json"):
        Contract.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", 8),
        ("shape", ["a", "b", "c"]),
        ("mean", None),
        ("std", ["x"]),
        ("classes", [["a"], ["b"]]),
        ("shape", []),
        ("std", []),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(contract: Make, tmp_path: Path, field: str, value: Any) -> None:
    path = tmp_path / "contract.json"
    path.write_text(json.dumps(contract().document() | {field: value}))
    with pytest.raises(ContractError):
        Contract.load(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ContractError, match="is no contract"):
        Contract.load(path)


def test_unknown_fields_are_left_alone(contract: Make, tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    path.write_text(json.dumps(contract().document() | {"later": 1}))
    assert Contract.load(path) == contract()
