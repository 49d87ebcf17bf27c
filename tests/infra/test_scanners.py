"""The checks that customers run, over the template in either network: clean, and what is accepted is really there."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.accepted import ACCEPTED

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CHECKOV = ROOT / ".venv-audit" / "bin" / "checkov"
BOTH = pytest.mark.parametrize("which", ["assembly", "private"])
# The line of infra/app.py that lays the table over the stack.
ACCEPT = "    accepted.accept(stack, settings)\n"


def template_of(made: Any) -> Path:
    path: Path = made.path / made.lab["template"]
    return path


def failing(project: Any) -> dict[tuple[str, str], list[str]]:
    """Synthesizes a project that must not pass; what validation found: (pack, rule) -> paths."""
    out = project.root / "found"
    env = {"PATH": os.environ["PATH"], "CDK_OUTDIR": str(out), "PYTHONPATH": str(project.root)}
    done = subprocess.run(
        [sys.executable, "-m", "infra.app"], cwd=project.root, env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode != 0 and not (out / "lab.json").exists()
    report = json.loads((out / "validation-report.json").read_text("utf-8"))
    return {
        (pack["pluginName"], violation["ruleName"]): [row["constructPath"] for row in violation["violatingConstructs"]]
        for pack in report["pluginReports"]
        for violation in pack["violations"]
    }


@BOTH
def test_cfn_lint_finds_nothing(which: str, request: pytest.FixtureRequest) -> None:
    """W3005: the CDK names dependencies that references make anyway."""
    lint = str(Path(sys.executable).with_name("cfn-lint"))
    path = template_of(request.getfixturevalue(which))
    done = subprocess.run(
        [lint, "--ignore-checks", "W3005", "--template", str(path)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout


@BOTH
@pytest.mark.skipif(not CHECKOV.exists(), reason="checkov is not installed: make audit")
def test_checkov_finds_nothing_that_is_not_accepted(which: str, request: pytest.FixtureRequest) -> None:
    argv = [str(CHECKOV), "--framework", "cloudformation", "--skip-download", "--compact", "-o", "json"]
    path = template_of(request.getfixturevalue(which))
    done = subprocess.run([*argv, "--file", str(path)], capture_output=True, text=True, timeout=240)
    found = json.loads(done.stdout)
    assert [(row["check_id"], row["resource"]) for row in found["results"]["failed_checks"]] == []
    assert found["summary"]["parsing_errors"] == 0 and found["summary"]["passed"] > 200
    skipped = {row["check_id"]: row["check_result"]["suppress_comment"] for row in found["results"]["skipped_checks"]}
    network = "vpc" if which == "private" else "none"
    wanted = {row.checkov: row.reason for row in ACCEPTED if row.checkov and row.network in ("", network)}
    assert skipped == wanted, "an accepted finding that is not found any more goes from infra/accepted.py"


def test_every_accepted_finding_has_a_reason_and_is_found_without_it(project: Any) -> None:
    """With the table emptied, validation finds exactly what the table accepts in this network."""
    assert all(len(row.reason.split()) >= 8 and (row.nist or row.checkov) for row in ACCEPTED)
    project.edit("infra/app.py", lambda text: text.replace(ACCEPT, ""))
    found = failing(project)
    assert {rule for _, rule in found} == {
        f"NIST.800.53.R5-{row.nist}" for row in ACCEPTED if row.nist and row.network in ("", "none")
    }
    for row in ACCEPTED:
        if row.only and row.nist:
            assert all(path.endswith(row.only) for path in found["NIST.800.53.R5", f"NIST.800.53.R5-{row.nist}"])


def test_a_bare_bucket_ends_synthesis_by_both_packs(project: Any) -> None:
    bare = f'    aws_cdk.aws_s3.CfnBucket(stack, "Bare")\n{ACCEPT}'
    project.edit("infra/app.py", lambda text: text.replace(ACCEPT, bare))
    found = failing(project)
    assert found["AwsSolutions", "AwsSolutions-S10"] == ["ml-lab-dev/Bare"]
    assert found["NIST.800.53.R5", "NIST.800.53.R5-S3BucketSSLRequestsOnly"] == ["ml-lab-dev/Bare"]
