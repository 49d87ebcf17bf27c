"""Settings: the default file holds, and each wrong one is answered in one line that says what is allowed."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra import config
from infra.builtin import BUILT_IN
from infra.config import ConfigError, Settings

ROOT = Path(__file__).parents[2]


def message(tables: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        config.parse(tables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_file_in_the_repository_is_valid_and_names_the_prefix() -> None:
    settings = config.load({"LAB_CONFIG": str(ROOT / "lab.toml")})
    assert settings.prefix == f"{settings.lab.name}-{settings.lab.environment}"
    assert set(settings.targets) >= {"cloud-cpu", "edge-x86"}


def test_an_empty_file_is_the_default_lab() -> None:
    assert config.parse({}) == Settings()


def test_what_is_unset_is_left_out_of_the_resolved_settings() -> None:
    resolved = Settings().resolved()
    assert "log_loss" not in resolved["gate"]
    assert "email" not in resolved["budget"]
    assert json.loads(json.dumps(resolved)) == resolved


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"train": {"size": "huge"}}, "lab.toml: [train] size = 'huge' is not allowed; allowed: tiny, base"),
        ({"train": {"accumulate": 0}}, "[train] accumulate = 0 is not allowed; input should be greater than"),
        ({"train": {"instances": 0}}, "[train] instances = 0 is not allowed; input should be greater than"),
        (
            {"train": {"instances": 21}},
            "[train] instances = 21 is not allowed; input should be less than or equal to 20",
        ),
        ({"train": {"batch": 1}}, "[train] batch = 1 is not allowed; input should be greater than or equal to 2"),
        ({"train": {"precision": "fp8"}}, "[train] precision = 'fp8' is not allowed; allowed: auto, fp32, bf16"),
        ({"train": {"compile": True}}, "[train] compile = True is not allowed; allowed: auto, on, off"),
        (
            {"trian": {}},
            "lab.toml: [trian] is unknown; allowed: budget, data, delivery, edge, environments, gate, lab, security",
        ),
        ({"gate": {"acuracy": 0.9}}, "lab.toml: [gate] acuracy is unknown; allowed: accuracy, auroc"),
        ({"gate": {"accuracy": 95}}, "lab.toml: [gate] accuracy = 95 is not allowed; input should be less than"),
        ({"gate": {"accuracy": True}}, "lab.toml: [gate] accuracy = True is not allowed"),
        ({"gate": {"accuracy": float("nan")}}, "lab.toml: [gate] accuracy = nan is not allowed"),
        ({"lab": {"name": "My Lab"}}, "lab.toml: [lab] name = 'My Lab' is not allowed; it must match"),
        ({"lab": {"name": "a-name-that-is-too-long"}}, "at most 16 characters"),
        ({"data": {"modality": "sound"}}, "[data] modality = 'sound' is not allowed; allowed: image"),
        ({"train": 3}, "lab.toml: [train] = 3 is not allowed"),
        ({"targets": {"moon": {}}}, "lab.toml: [targets] moon is unknown; allowed: cloud-cpu, edge-x86, cloud-gpu"),
        ({"targets": {"cloud-cpu": {}}}, "lab.toml: [targets.edge-x86] is missing"),
        (
            {"targets": {"cloud-cpu": {"fomats": []}, "edge-x86": {}}},
            "[targets.cloud-cpu] fomats is unknown; allowed: batch, disk_mb, formats",
        ),
        ({"targets": {"cloud-cpu": {"formats": ["onnx-int4"]}, "edge-x86": {}}}, "allowed: onnx-fp32"),
        ({"gate": {"beat_baseline": True}}, "[gate] names no metric, so any model would pass; give one of accuracy"),
        ({"serving": {"memory_mb": 1000}}, "allowed: 1024, 2048, 3072, 4096, 5120, 6144"),
        ({"serving": {"max_instances": 3}}, "[serving] max_instances needs serverless = false"),
        ({"serving": {"capture_percent": 10}}, "[serving] capture_percent needs serverless = false"),
        ({"serving": {"delete_at": "20:00"}}, "[serving] delete_at needs serverless = false"),
        ({"train": {"size": "huge", "epochs": 0}}, "(and 1 more)"),
        ({"train": {"mlflow": "https://me:pw@mlflow"}}, "[train] mlflow holds a user or a password"),
        ({"security": {"network": "nat"}}, "[security] network = 'nat' is not allowed; allowed: none, vpc"),
        ({"security": {"network": "vpc"}}, "set [serving] serverless = false, which bills an instance by the hour"),
        (
            {"security": {"network": "vpc"}, "serving": {"serverless": False}, "train": {"mlflow": "http://mlflow"}},
            "[train] mlflow = 'http://mlflow' cannot be reached with [security] network = 'vpc'",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(tables: dict[str, Any], said: str) -> None:
    assert said in message(tables)


def test_overrides_lie_over_the_file_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text('[train]\nsize = "tiny"\nepochs = 7\n', "utf-8")
    overrides = json.dumps({"train": {"size": "base"}, "data": {"dataset": "surface-defects"}})
    settings = config.load({"LAB_CONFIG": str(path), "LAB_OVERRIDES": overrides})
    assert (settings.train.size, settings.train.epochs, settings.data.dataset) == ("base", 7, "surface-defects")


@pytest.mark.parametrize("overrides", ["{", "[]", '"x"'])
def test_overrides_that_are_no_json_object_are_refused(overrides: str) -> None:
    with pytest.raises(ConfigError, match="LAB_OVERRIDES"):
        config.load({"LAB_CONFIG": str(ROOT / "lab.toml"), "LAB_OVERRIDES": overrides})


def test_a_missing_file_and_a_broken_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        config.load({"LAB_CONFIG": str(tmp_path / "none.toml")})
    (tmp_path / "bad.toml").write_text("[lab", "utf-8")
    with pytest.raises(ConfigError, match="not valid TOML"):
        config.load({"LAB_CONFIG": str(tmp_path / "bad.toml")})


def test_the_longest_prefix_still_gives_a_valid_bucket_name() -> None:
    settings = config.parse({"lab": {"name": "a" * 16, "environment": "b" * 8, "region": "ap-southeast-2"}})
    assert len(f"{settings.prefix}-artifacts-123456789012-{settings.lab.region}") <= 63


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_built_in_set_brings_its_own_data_table_and_criteria(name: str, tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text('[data]\ndataset = "mine"\npixels = 99\n[gate]\nmacro_f1 = 0.5\nmin_agreement = 0.9\n', "utf-8")
    found = config.load({"LAB_CONFIG": str(path), "LAB_OVERRIDES": json.dumps({"data": {"dataset": name}})})
    assert found.data.dataset == name and found.data.pixels == 0
    assert found.gate.macro_f1 is None and found.gate.min_agreement == 0.9
    asked = {key: value for key, value in BUILT_IN[name]["gate"].items() if key != "beat_baseline"}
    assert asked and all(getattr(found.gate, key) == value for key, value in asked.items())


def test_the_file_s_own_set_keeps_the_file_s_tables(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text('[data]\ndataset = "digits"\npixels = 16\n[gate]\nmacro_f1 = 0.5\n', "utf-8")
    found = config.load({"LAB_CONFIG": str(path), "LAB_OVERRIDES": '{"data": {"dataset": "digits"}}'})
    assert (found.data.pixels, found.gate.macro_f1) == (16, 0.5)


def test_a_task_that_the_modality_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[data\] task = 'rul' is none of tabular: classification, regression"):
        config.parse({"data": {"modality": "tabular", "task": "rul"}})


def test_a_regression_without_a_target_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[data\] target is missing"):
        config.parse({"data": {"modality": "tabular", "task": "regression"}})


ENVIRONMENTS = """
[lab]
name = "acme"
[gate]
accuracy = 0.9
[budget]
run_usd = 1.0
[environments.dev]
[environments.staging]
promote_from = "dev"
[environments.prod]
account = "222222222222"
region = "eu-west-1"
promote_from = "staging"
gate.accuracy = 0.97
budget.month_usd = 500.0
"""


@pytest.fixture
def several(tmp_path: Path) -> str:
    path = tmp_path / "lab.toml"
    path.write_text(ENVIRONMENTS, "utf-8")
    return str(path)


def test_one_file_gives_each_environment_its_own_settings(several: str) -> None:
    dev = config.load({"LAB_CONFIG": several})
    prod = config.load({"LAB_CONFIG": several, "LAB_ENVIRONMENT": "prod"})
    assert (dev.prefix, dev.lab.account, dev.gate.accuracy, dev.budget.month_usd) == ("acme-dev", None, 0.9, 100.0)
    assert (prod.prefix, prod.lab.account, prod.lab.region) == ("acme-prod", "222222222222", "eu-west-1")
    assert (prod.gate.accuracy, prod.budget.month_usd, prod.budget.run_usd) == (0.97, 500.0, 1.0)
    assert {name: place.account for name, place in dev.places.items()} == {
        "dev": None,
        "staging": None,
        "prod": "222222222222",
    }
    assert dev.places == prod.places and "environments" not in prod.resolved()


def test_a_private_network_takes_no_model_from_another_region(several: str) -> None:
    over = json.dumps({"security": {"network": "vpc"}, "serving": {"serverless": False}})
    with pytest.raises(ConfigError, match=r"'vpc' has no route to us-east-1, where promote_from = 'staging' lies"):
        config.load({"LAB_CONFIG": several, "LAB_ENVIRONMENT": "prod", "LAB_OVERRIDES": over})


def test_overrides_choose_an_environment_and_lie_over_it(several: str) -> None:
    over = json.dumps({"lab": {"environment": "prod"}, "gate": {"accuracy": 0.5}})
    found = config.load({"LAB_CONFIG": several, "LAB_ENVIRONMENT": "staging", "LAB_OVERRIDES": over})
    assert (found.prefix, found.gate.accuracy, found.budget.month_usd) == ("acme-prod", 0.5, 500.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("gate.accuracy = 0.97", "gate.acuracy = 1", "lab.toml, [environments.prod]: [gate] acuracy is unknown"),
        ("gate.accuracy = 0.97", "accuracy = 1", "lab.toml, [environments.prod]: [lab] accuracy is unknown"),
        ('account = "222222222222"', 'account = "22"', "lab.toml, [environments.prod]: [lab] account = '22' is not"),
        (
            '"staging"',
            '"qa"',
            "[environments.prod] promote_from = 'qa' is not allowed; the other environments: dev, staging",
        ),
        ('"staging"', '"prod"', "[environments.prod] promote_from = 'prod' is not allowed"),
        ("[environments.dev]\n", "", "lab.toml: environment 'dev' is unknown; there are: staging, prod"),
        ("[environments.dev]\n", "[environments]\ndev = 1\n", "[environments] holds one table for each environment"),
    ],
)
def test_what_is_wrong_in_any_environment_is_told_in_every_one(several: str, old: str, new: str, said: str) -> None:
    path = Path(several)
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load({"LAB_CONFIG": several})
    assert said in str(caught.value) and "\n" not in str(caught.value)
