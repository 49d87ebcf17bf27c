"""The fleet's picture, from what cores leave in their folders."""

import json
import re
from pathlib import Path
from typing import Any

from lab import fleetpicture

FLEET = [
    {"thing": "lab-dev-desk-1", "groups": ["canary"]},
    {"thing": "lab-dev-desk-2", "groups": ["fleet"]},
    {"thing": "lab-dev-desk-3", "groups": ["fleet"]},
]


def core(folder: Path, number: int, messages: list[tuple[float, dict[str, Any]]], deployments: list[Any]) -> None:
    home = folder / f"lab-dev-desk-{number}"
    home.mkdir(parents=True)
    said = [{"time": time, "topic": "t", "payload": json.dumps(payload)} for time, payload in messages]
    done = [
        {
            "time": time,
            "target": f"arn:x:thinggroup/lab-dev-{group}",
            "status": status,
            "reason": reason,
            "components": {},
        }
        for time, group, status, reason in deployments
    ]
    for name, rows in (("published", said), ("deployments", done)):
        (home / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def story(folder: Path) -> Path:
    """A canary takes 1.0.1, rejects 1.0.2, takes 1.0.3 and goes back; one of the fleet takes 1.0.1, one fails."""
    one, three = {"model_version": "1.0.1"}, {"model_version": "1.0.3"}
    reject = {**one, "kind": "reject", "version": "1.0.2", "reason": "golden"}
    revert = {**one, "kind": "revert", "version": "1.0.3", "reason": "errors"}
    canary = [
        (100, {"model_version": None}),
        (110, one),
        (130, reject),
        (131, one),
        (150, three),
        (170, revert),
        (200, one),
    ]
    refused = "Model 1.0.2: version 1.0.2 is refused: golden"
    core(folder, 1, canary, [(105, "canary", "SUCCEEDED", ""), (125, "canary", "FAILED", refused)])
    core(folder, 2, [(120, one), (190, one)], [(115, "fleet", "SUCCEEDED", "")])
    core(folder, 3, [], [(116, "fleet", "FAILED", "SHA-256 is not what it was")])
    return folder


def test_a_core_served_what_its_messages_say_until_another_version_or_now(tmp_path: Path) -> None:
    first, second, third = fleetpicture.read(story(tmp_path), FLEET)
    assert first.spans == [(110, 150, "1.0.1"), (150, 170, "1.0.3"), (170, 200, "1.0.1")]
    assert second.spans == [(120, 200, "1.0.1")], "what served last serves still"
    assert third.spans == []


def test_rejections_reverts_and_other_failures_are_marked_once_each(tmp_path: Path) -> None:
    first, second, third = fleetpicture.read(story(tmp_path), FLEET)
    assert first.marks == [(130, "reject", "1.0.2 rejected: golden"), (170, "revert", "1.0.3 taken back: errors")]
    assert second.marks == []
    assert third.marks == [(116, "failed", "SHA-256 is not what it was")]
    assert [words for _, words in first.deployments] == ["lab-dev-canary: SUCCEEDED; ", "lab-dev-canary: FAILED; "]


def test_the_picture_has_a_row_for_each_core_and_a_colour_for_each_version(tmp_path: Path) -> None:
    svg = fleetpicture.draw(fleetpicture.read(story(tmp_path), FLEET))
    assert re.findall(r">(desk-\d)</text>", svg) == ["desk-1", "desk-2", "desk-3"]
    assert re.findall(r'class="(v\d)"[^>]*>\s*<title>lab-dev-desk-1 served ([\d.]+)', svg) == [
        ("v0", "1.0.1"), ("v1", "1.0.3"), ("v0", "1.0.1"),
    ]  # fmt: skip
    assert "<title>1.0.2 rejected: golden</title>" in svg and svg.count('class="sign reject"') == 2
    assert svg.count("<g") == svg.count("</g>")


def test_the_picture_begins_when_the_first_model_comes_however_long_the_cores_had_waited(tmp_path: Path) -> None:
    served = [(5_000, {"model_version": "1.0.1"}), (5_060, {"model_version": "1.0.1"})]
    core(tmp_path, 1, served, [(10, "core", "SUCCEEDED", ""), (4_998, "canary", "SUCCEEDED", "")])
    svg = fleetpicture.draw(fleetpicture.read(tmp_path, FLEET[:1]))
    assert "lab-dev-canary: SUCCEEDED" in svg and "lab-dev-core" not in svg
    assert ">0 s</text>" in svg and " min</text>" not in svg


def test_a_fleet_that_did_nothing_is_no_picture_and_half_a_line_is_passed_over(tmp_path: Path) -> None:
    assert fleetpicture.draw(fleetpicture.read(tmp_path, FLEET)) == ""
    story(tmp_path)
    with (tmp_path / "lab-dev-desk-2" / "published.jsonl").open("a") as stream:
        stream.write('{"time": 200, "pay')
    assert len(fleetpicture.read(tmp_path, FLEET)[1].spans) == 1
