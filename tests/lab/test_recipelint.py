"""The lint of component recipes: ours pass, and each rule is tripped by the one change that it is there for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import recipelint
from lab.errors import SynthError
from lab.recipe import parse
from lab.synth import check_recipes

REPO = Path(__file__).parents[2]
GOOD: dict[str, Any] = {
    "RecipeFormatVersion": "2020-01-25",
    "ComponentName": "lab.Inference",
    "ComponentVersion": "1.0.0",
    "ComponentConfiguration": {"DefaultConfiguration": {"interval_s": 60, "word": "hello"}},
    "ComponentDependencies": {"lab.Other": {"VersionRequirement": ">=1.0.0", "DependencyType": "SOFT"}},
    "Manifests": [
        {
            "Platform": {"os": "linux", "architecture": "aarch64", "runtime": "*"},
            "Lifecycle": {
                "Setenv": {"A": "1"},
                "install": {"Script": "cd {work:path} && exec python3 -m a", "Timeout": 900},
                "startup": {"Script": "exec python3 -m b --work {work:path}", "Timeout": 60},
            },
            "Artifacts": [
                {"Uri": "s3://b/a.zip", "Unarchive": "ZIP", "Permission": {"Read": "OWNER", "Execute": "NONE"}}
            ],
        }
    ],
}
Change = Callable[[dict[str, Any], dict[str, Any]], Any]
# By rule: changes of a recipe, given whole and by its lifecycle, each of which trips that rule and no other.
MUTATIONS: dict[str, list[Change]] = {
    "platform-runtime": [lambda whole, _: whole["Manifests"][0]["Platform"].pop("runtime")],
    "platform-architecture": [
        lambda whole, _: whole["Manifests"][0]["Platform"].update(architecture="arm64"),
        lambda whole, _: whole["Manifests"][0]["Platform"].update(architecture="x86_64"),
    ],
    "key-case": [
        lambda _, steps: steps.update(Install=steps.pop("install")),
        lambda _, steps: steps["startup"].update(script=steps["startup"].pop("Script")),
        lambda _, steps: steps["install"].update(timeout=900),
        lambda _, steps: steps.update(SetEnv=steps.pop("Setenv")),
        lambda whole, _: whole["Manifests"][0]["Artifacts"][0].update(URI="s3://b/a.zip"),
        lambda whole, _: whole.update(componentDescription="x"),
    ],
    "no-run": [lambda _, steps: steps.pop("startup"), lambda _, steps: steps.clear()],
    "foreign-variable": [
        lambda _, steps: steps["startup"].update(Script="exec python3 {lab.Model:artifacts:decompressedPath}/m"),
    ],
    "brace": [
        lambda _, steps: steps["startup"].update(Script="exec python3 ${HOME}/b"),
        lambda _, steps: steps["Setenv"].update(A="${B}"),
        lambda _, steps: steps["install"].update(Setenv={"A": "{work:paths}"}),
    ],
    "configuration-in-script": [
        lambda _, steps: steps["startup"].update(Script="exec python3 -m b {configuration:/interval_s}"),
    ],
    "one-exec": [
        lambda _, steps: steps["startup"].update(Script="python3 -m b"),
        lambda _, steps: steps["startup"].update(Script="exec python3 -m b\necho done"),
        lambda _, steps: steps.update(run="rm -rf x; exec python3"),
    ],
    "script-size": [lambda _, steps: steps["startup"].update(Script="exec python3 " + "x" * 10_300)],
    "install-timeout": [
        lambda _, steps: steps["install"].pop("Timeout"),
        lambda _, steps: steps["install"].update(Timeout=120),
        lambda _, steps: steps["install"].update(Timeout="900"),
    ],
    "startup-timeout": [lambda _, steps: steps["startup"].pop("Timeout")],
    "permission": [
        lambda whole, _: whole["Manifests"][0]["Artifacts"][0].pop("Permission"),
        lambda whole, _: whole["Manifests"][0]["Artifacts"][0]["Permission"].pop("Execute"),
    ],
    "configuration-type": [
        lambda whole, _: whole["ComponentConfiguration"]["DefaultConfiguration"].update(interval_s="60"),
        lambda whole, _: whole["ComponentConfiguration"]["DefaultConfiguration"].update(deep={"on": "true"}),
    ],
    "configuration-size": [
        lambda whole, _: whole["ComponentConfiguration"]["DefaultConfiguration"].update(word="x" * 1025),
        lambda whole, _: whole["ComponentConfiguration"].update(
            DefaultConfiguration={f"k{number}": number for number in range(81)}
        ),
    ],
    "soft-dependency": [
        lambda whole, _: whole["ComponentDependencies"]["lab.Other"].update(DependencyType="HARD"),
        lambda whole, _: whole["ComponentDependencies"]["lab.Other"].pop("DependencyType"),
    ],
    "runtime-on-model": [
        lambda whole, _: whole.update(
            ComponentDependencies={"lab.Model": {"VersionRequirement": ">=1.0.0", "DependencyType": "SOFT"}}
        ),
    ],
    "recipe-size": [lambda whole, _: whole.update(ComponentDescription="x" * 16_400)],
}


def rules(text: str) -> set[str]:
    return {finding.rule for finding in recipelint.lint(text)}


def test_a_recipe_that_keeps_all_rules_has_no_finding_and_the_desk_takes_it() -> None:
    assert recipelint.lint(json.dumps(GOOD)) == []
    assert parse(
        json.dumps(
            GOOD | {"Manifests": [{**GOOD["Manifests"][0], "Platform": {"os": "linux", "runtime": "*"}}]}
        ).encode()
    )


@pytest.mark.parametrize(
    ("rule", "change"), [(rule, change) for rule, changes in MUTATIONS.items() for change in changes]
)
def test_a_change_trips_its_rule_and_no_other(rule: str, change: Change) -> None:
    recipe = json.loads(json.dumps(GOOD))
    change(recipe, recipe["Manifests"][0]["Lifecycle"])
    assert rules(json.dumps(recipe)) == {rule}


def test_every_rule_has_a_change_that_trips_it() -> None:
    assert set(MUTATIONS) == {*recipelint.RULES, "recipe-size"}


def test_a_recipe_in_yaml_is_one_finding() -> None:
    [finding] = recipelint.lint("RecipeFormatVersion: '2020-01-25'\n")
    assert finding.rule == "json" and "YAML" in finding.do


def test_a_finding_says_where_what_and_what_to_do() -> None:
    recipe = json.loads(json.dumps(GOOD))
    recipe["Manifests"][0]["Platform"].pop("runtime")
    [finding] = recipelint.lint(json.dumps(recipe))
    said = str(finding)
    assert said.startswith("lab.Inference Manifests[0].Platform: it has no runtime [platform-runtime]; write")


def test_the_recipes_of_the_repository_and_of_the_synthesized_template_keep_all_rules(synthesized: Path) -> None:
    documents = [json.loads(path.read_text()) for path in synthesized.glob("*.template.json")]
    texts = [text for document in documents for text in recipelint.template(document)]
    assert len(texts) >= 1 and all('"ComponentName"' in text for text in texts)
    assert len(list((REPO / "edge" / "recipes").glob("*.json"))) >= 2
    assert recipelint.every(synthesized, REPO) == []


def test_a_template_with_a_bad_recipe_is_refused_with_each_finding(tmp_path: Path) -> None:
    recipe = json.loads(json.dumps(GOOD))
    recipe["Manifests"][0]["Artifacts"][0].pop("Permission")
    joined = {"Fn::Join": ["", [json.dumps(recipe)[:-1], ', "ComponentPublisher": "', {"Ref": "AWS::AccountId"}, '"}']]}
    resource = {"Type": "AWS::GreengrassV2::ComponentVersion", "Properties": {"InlineRecipe": joined}}
    (tmp_path / "x.template.json").write_text(json.dumps({"Resources": {"Runtime": resource}}))
    with pytest.raises(SynthError, match=r"Artifacts\[0\]: its Permission is not stated \[permission\]"):
        check_recipes(tmp_path)
