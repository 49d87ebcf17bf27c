"""A child of the engine has its own bundle, runtime, role and time limit, and leaves nothing behind."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from lab import child
from lab.engine import Engine
from lab.errors import EngineError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "engine" / "jobs" / "test" / "one" / "code"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "__init__.py").touch()
    (folder / "models" / "gate.py").write_text("LIMIT = 3\n")
    return folder


def given(bundle: Path, code: str, runtime: str = "lambda", **more: object) -> child.Child:
    argv = ["python", "-c", code]
    return child.Child("job", "test", "one", argv, bundle, {}, runtime, [bundle], **more)  # type: ignore[arg-type]


def test_a_child_imports_its_bundle_and_what_its_runtime_brings(desk: Engine, bundle: Path) -> None:
    result = child.run(given(bundle, "import boto3, json, models.gate; print(models.gate.LIMIT)"), desk)
    assert (result.rc, result.log.read_text()) == (0, "3\n")


@pytest.mark.parametrize("name", ["numpy", "lab", "infra", "pytest"])
def test_what_the_runtime_does_not_bring_is_refused_by_name(desk: Engine, bundle: Path, name: str) -> None:
    result = child.run(given(bundle, f"import {name}"), desk)
    assert result.rc == 1
    assert f"the lambda runtime does not bring '{name}'; add it to the 'lambda' extra" in result.log.read_text()


def test_a_module_that_the_bundle_lacks_is_not_taken_from_the_repository(desk: Engine, bundle: Path) -> None:
    result = child.run(given(bundle, "import models.contract"), desk)
    assert result.rc == 1
    assert "No module named 'models.contract'" in result.log.read_text()


def test_a_library_that_looks_for_an_optional_package_is_told_that_it_is_absent(desk: Engine, bundle: Path) -> None:
    code = "from importlib import metadata, util; print(util.find_spec('numpy'), metadata.version('boto3') > '1')"
    assert child.run(given(bundle, code), desk).log.read_text() == "None True\n"


def test_a_package_of_the_runtime_may_put_its_own_folder_on_the_path(desk: Engine, bundle: Path) -> None:
    """onnxruntime.transformers does, and imports its modules by their bare names; what lies beside it stays refused."""
    code = "from onnxruntime import transformers; import fusion_utils; print(fusion_utils.FusionUtils.__name__)"
    assert child.run(given(bundle, code, runtime="job"), desk).log.read_text() == "FusionUtils\n"
    refused = child.run(given(bundle, "from onnxruntime import transformers; import moto", runtime="job"), desk)
    assert "the job runtime does not bring 'moto'" in refused.log.read_text()


def test_an_archive_is_a_bundle_too(desk: Engine, bundle: Path, tmp_path: Path) -> None:
    import zipfile

    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("edge_of_zip.py", "WORD = 'zipped'\n")
    what = child.Child(
        "job", "test", "one", ["python", "-c", "import edge_of_zip as e; print(e.WORD)"], bundle, {}, "serve", [archive]
    )
    assert child.run(what, desk).log.read_text() == "zipped\n"


def test_a_child_acts_with_its_roles_session_and_never_with_ours(
    desk: Engine, bundle: Path, role: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = role("job-role", "sagemaker")
    monkeypatch.setenv("AWS_PROFILE", "customer")
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "1")
    code = (
        "import boto3, os; print(boto3.client('sts').get_caller_identity()['Arn']);"
        "print('AWS_PROFILE' in os.environ or 'SECRET_OF_THE_SHELL' in os.environ)"
    )
    result = child.run(given(bundle, code, role_arn=arn), desk)
    assert result.log.read_text().split() == ["arn:aws:sts::123456789012:assumed-role/job-role/one", "False"]


def test_a_time_limit_ends_the_child_and_all_that_it_started(desk: Engine, bundle: Path) -> None:
    code = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid); time.sleep(60)"
    result = child.run(given(bundle, code, timeout_s=0.7), desk)
    assert result.timed_out and result.rc < 0
    assert gone(int(result.log.read_text().split()[0]))


def test_what_a_child_leaves_in_its_group_ends_with_it(desk: Engine, bundle: Path) -> None:
    result = child.run(given(bundle, "import subprocess; print(subprocess.Popen(['sleep', '60']).pid)"), desk)
    assert result.rc == 0
    assert gone(int(result.log.read_text().split()[0]))


def test_stop_all_ends_children_that_run_on(desk: Engine, bundle: Path) -> None:
    running = child.start(given(bundle, "import time; time.sleep(60)"), desk)
    child.stop_all()
    result = running.poll()
    assert result is not None and result.rc < 0


def test_the_ledger_has_a_line_for_each_finished_child(desk: Engine, bundle: Path) -> None:
    child.run(given(bundle, "raise SystemExit(3)"), desk)
    row = json.loads((desk.root / "ledger.jsonl").read_text())
    assert {key: row[key] for key in ("kind", "service", "name", "rc", "log")} == {
        "kind": "job", "service": "test", "name": "one", "rc": 3, "log": "jobs/test/one/log.txt"
    }  # fmt: skip
    assert row["start"] < row["end"] <= time.time()


def test_a_pin_that_is_not_what_is_installed_is_an_error(desk: Engine, bundle: Path) -> None:
    document = desk.root / "assembly" / "lab.json"
    document.write_text(json.dumps({"runtimes": {"lambda": ["boto3==1.0.0"]}}))
    with pytest.raises(EngineError, match=r"pins boto3==1\.0\.0, but"):
        child.run(given(bundle, "pass"), desk)


def test_children_die_with_an_engine_that_was_killed(desk: Engine, bundle: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from lab import child
from lab.engine import Engine
engine = Engine(Path({str(desk.root)!r}), "http://127.0.0.1:1", "us-east-1", "123456789012", None)
code = "import subprocess, time; subprocess.run(['sleep', '60'])"
folder = Path({str(bundle)!r})
print(child.start(child.Child("job", "t", "n", ["python", "-c", code], folder, {{}}, "lambda", [folder]), engine).pid)
sys.stdout.flush()
sys.stdin.read()
"""
    repo = Path(__file__).parents[2]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=repo, text=True, **pipes) as engine:  # type: ignore[call-overload]
        assert engine.stdout is not None
        pid = int(engine.stdout.readline())
        sleeper = until(lambda: psutil.Process(pid).children())[0].pid
        engine.kill()
        engine.wait()
    assert gone(pid) and gone(sleeper)


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 10
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def gone(pid: int) -> bool:
    def ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return until(ended) and os.getpid() != pid
