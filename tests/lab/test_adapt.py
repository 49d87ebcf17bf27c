"""`lab adapt` as a person meets it: a table for people, settings the lab accepts, one message for bad data."""

import json
import tomllib
from pathlib import Path

import pytest
from adapted import folders, measures, table

from infra import config
from lab import cli
from lab.engine import Engine

HEADER = ["width", "height", "label"]
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with no settings and no credentials of the caller's."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("LAB_CONFIG", "LAB_HOME", "LAB_OVERRIDES", "LAB_DEBUG", "AWS_PROFILE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return folder


def settings(path: Path) -> config.Settings:
    """What the stack reads from a lab.toml."""
    return config.parse(tomllib.loads(path.read_text("utf-8")))


def test_a_table_becomes_settings_that_the_stack_accepts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(here / "parts.csv", HEADER, measures())
    assert cli.main(["adapt", "parts.csv"]) == 0
    said = capsys.readouterr().out
    assert "target     label" in said and "findings" in said and "lab run" in said and "data-card.html" in said
    data = settings(here / "lab.toml").data
    assert (data.path, data.modality, data.target) == ("./parts.csv", "tabular", "label")
    assert (here / ".lab" / "data-card.html").is_file()


def test_pictures_become_settings_that_the_stack_accepts(here: Path) -> None:
    folders(here / "Größe 7", good=60, bad=5)
    assert cli.main(["adapt", "Größe 7"]) == 0
    found = settings(here / "lab.toml")
    assert (found.data.task, found.data.dataset, found.gate.auroc) == ("anomaly", "gr-e-7", 0.7)


def test_names_with_spaces_and_other_letters_are_taken_as_they_are(here: Path) -> None:
    table(here / "Güte 7" / "Maße & Güte.csv", ["Länge [mm]", "Höhe über Grund", "Güte (neu)"], measures())
    assert cli.main(["adapt", "Güte 7/Maße & Güte.csv", "--target", "Güte (neu)"]) == 0
    data = settings(here / "lab.toml").data
    assert (data.path, data.target) == ("Güte 7/Maße & Güte.csv", "Güte (neu)")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("metal-tags", {"modality": "image", "task": "classification", "labels": "labels.csv", "patch": 112}),
        ("machine-temperature", {"modality": "timeseries", "task": "anomaly", "time": "timestamp", "window": 72}),
    ],
)
def test_real_data_of_a_customer_are_understood(here: Path, name: str, expected: dict[str, object]) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not on this machine")
    assert cli.main(["adapt", str(SHARED / name)]) == 0
    data = settings(here / "lab.toml").data
    assert {key: getattr(data, key) for key in expected} == expected


def test_the_repository_s_settings_are_the_start_where_there_are_none(here: Path) -> None:
    table(here / "parts.csv", HEADER, measures())
    assert cli.main(["adapt", "parts.csv"]) == 0
    ours = tomllib.loads((Path(__file__).parents[2] / "lab.toml").read_text("utf-8"))
    found = tomllib.loads((here / "lab.toml").read_text("utf-8"))
    assert {key: found[key] for key in ("lab", "train", "targets")} == {
        key: ours[key] for key in ("lab", "train", "targets")
    }


def test_named_settings_are_the_ones_written(here: Path, tmp_path: Path) -> None:
    table(here / "parts.csv", HEADER, measures())
    other = tmp_path / "other" / "plant.toml"
    other.parent.mkdir()
    other.write_text('[lab]\nname = "plant"\n')
    assert cli.main(["--config", str(other), "adapt", "parts.csv"]) == 0
    found = settings(other)
    assert found.lab.name == "plant" and found.data.path == str(here / "parts.csv")
    assert not (here / "lab.toml").exists()


def test_options_are_handed_on(here: Path) -> None:
    rows = [[n % 6, *row, n % 7] for n, row in enumerate(measures(120))]
    table(here / "parts.csv", ["-patient", *HEADER, "grade"], rows)
    given = ["--target", "grade", "--task", "regression", "--group=-patient", "--missing", "good", "--missing", "none"]
    assert cli.main(["adapt", "parts.csv", *given]) == 0
    data = settings(here / "lab.toml").data
    assert (data.target, data.task, data.group, data.missing) == ("grade", "regression", "-patient", ["good"])


def test_bad_data_are_one_message_and_leave_the_settings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = measures()
    rows[3].append("more")
    table(here / "parts.csv", HEADER, rows)
    (here / "lab.toml").write_text("# mine\n")
    assert cli.main(["adapt", "parts.csv"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines()[0].startswith("lab: parts.csv, line 5 has 4 cells")
    assert "  try: " in said.err and (here / "lab.toml").read_text() == "# mine\n"


def test_json_is_one_document_also_for_an_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(here / "parts.csv", HEADER, measures())
    assert cli.main(["adapt", "parts.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["target"] == "label"
    assert cli.main(["adapt", "nowhere", "--json"]) == 1
    assert "nowhere" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_wrong_task_is_a_wrong_call(here: Path) -> None:
    assert cli.main(["adapt", "parts.csv", "--task", "magic"]) == 2


def test_a_bucket_without_credentials_is_refused_with_the_way_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["adapt", "s3://some-bucket/data"]) == 1
    said = capsys.readouterr().err
    assert "no AWS credentials" in said and "aws s3 cp" in said and not (here / "lab.toml").exists()


def test_a_bucket_is_fetched_once_and_learned_from(here: Path, desk: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    source = table(here / "parts.csv", HEADER, measures())
    s3 = desk.client("s3")
    s3.create_bucket(Bucket="plant")
    for key in ("data/parts.csv", "database/other.csv", "data/empty/"):
        s3.put_object(Bucket="plant", Key=key, Body=source.read_bytes() if key.endswith("csv") else b"")
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("ENDPOINT_URL", desk.endpoint)):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert cli.main(["adapt", "s3://plant/data"]) == 0
    path = Path(str(settings(here / "lab.toml").data.path))
    assert path.is_relative_to(here / ".lab" / "downloads" / "plant-data")
    assert [found.name for found in (here / ".lab" / "downloads" / "plant-data").iterdir()] == ["parts.csv"]
    assert cli.main(["adapt", "s3://plant/nothing"]) == 1
