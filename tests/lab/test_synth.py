"""Synthesis: once per content of its inputs, whole or not at all, and its errors in one message."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lab import synth
from lab.errors import LabError, SynthError
from lab.home import Home

APP = """
import json, os, pathlib
out = pathlib.Path(os.environ["CDK_OUTDIR"])
settings = json.loads(os.environ["LAB_OVERRIDES"])
(out / "manifest.json").write_text("{}")
(out / "lab.json").write_text(json.dumps({"region": "eu-west-1", "settings": settings}))
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A lab whose CDK app is four lines."""
    repo = tmp_path / "lab copy"
    for folder in synth.FOLDERS:
        (repo / folder).mkdir(parents=True)
        (repo / folder / "__init__.py").touch()
    (repo / "infra" / "app.py").write_text(APP)
    (repo / "lab.toml").write_text("[lab]\n")
    return Home(repo, repo / ".lab", repo / "lab.toml")


def test_nothing_changed_means_nothing_synthesized(home: Home) -> None:
    first, second = synth.synth(home, {}), synth.synth(home, {})
    assert not first.cached and second.cached and first.path == second.path


@pytest.mark.parametrize("change", ["infra/app.py", "models/__init__.py", "edge/recipes/README.md", "lab.toml"])
def test_a_changed_input_synthesizes_again(home: Home, change: str) -> None:
    first = synth.synth(home, {})
    (home.repo / change).parent.mkdir(exist_ok=True)
    with (home.repo / change).open("a") as stream:
        stream.write("\n")
    assert not synth.synth(home, {}).cached
    assert synth.synth(home, {}).digest != first.digest


def test_overrides_are_an_input_and_reach_the_app(home: Home) -> None:
    plain, tiny = synth.synth(home, {}), synth.synth(home, {"train": {"size": "tiny"}})
    assert plain.path != tiny.path
    assert json.loads((tiny.path / "lab.json").read_text())["settings"] == {"train": {"size": "tiny"}}


def test_compiled_python_is_no_input(home: Home) -> None:
    first = synth.synth(home, {})
    (home.repo / "infra" / "__pycache__").mkdir(exist_ok=True)
    (home.repo / "infra" / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"x")
    assert synth.synth(home, {}).digest == first.digest


def test_an_app_that_fails_leaves_nothing_and_says_why(home: Home) -> None:
    (home.repo / "infra" / "app.py").write_text("raise SystemExit('lab.toml: train.size is huge; allowed: tiny, base')")
    with pytest.raises(SynthError, match="allowed: tiny, base") as caught:
        synth.synth(home, {})
    assert caught.value.exit_code == 1 and caught.value.hint
    assert list(home.synth.iterdir()) == []


def test_a_half_written_assembly_is_never_taken_for_whole(home: Home) -> None:
    half = home.synth / synth.digest_of_inputs(home, {})
    half.mkdir(parents=True)
    (half / "manifest.json").write_text("{}")
    whole = synth.synth(home, {})
    assert not whole.cached and (whole.path / "lab.json").is_file()


def test_old_assemblies_go_and_young_halves_stay(home: Home) -> None:
    for number in range(synth.KEEP + 3):
        old = home.synth / f"{number:032x}"
        old.mkdir(parents=True)
        os.utime(old, (number, number))
    (home.synth / ".half-young").mkdir()
    synth.synth(home, {})
    assert len(list(home.synth.glob("[0-9a-f]*"))) == synth.KEEP
    assert (home.synth / ".half-young").is_dir()


def test_cdk_out_is_replaced_whole_but_a_foreign_folder_stays(home: Home, tmp_path: Path) -> None:
    assembly = synth.synth(home, {})
    out = tmp_path / "cdk.out"
    synth.publish(assembly, out)
    (out / "left-over").touch()
    synth.publish(assembly, out)
    assert sorted(path.name for path in out.iterdir()) == ["lab.json", "manifest.json"]
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.tex").touch()
    with pytest.raises(LabError, match="stays as it is"):
        synth.publish(assembly, foreign)
    assert (foreign / "chapter.tex").is_file()


def test_a_given_assembly_is_taken_as_it_is(home: Home, tmp_path: Path) -> None:
    made = synth.synth(home, {})
    given = synth.given(made.path)
    assert given.path == made.path
    (made.path / "manifest.json").write_text('{"x": 1}')
    assert synth.given(made.path).digest != given.digest
    with pytest.raises(SynthError, match=r"no lab\.json"):
        synth.given(tmp_path)


def test_an_interrupt_ends_the_app_and_leaves_no_half(home: Home) -> None:
    import signal
    import subprocess

    (home.repo / "infra" / "app.py").write_text("import time, pathlib\npathlib.Path('here').touch()\ntime.sleep(60)\n")
    program = (
        "from pathlib import Path; from lab import processes, synth; from lab.home import Home;"
        f"processes.stop_like_ctrl_c(); r = Path({str(home.repo)!r});"
        "synth.synth(Home(r, r / '.lab', r / 'lab.toml'), {})"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen([sys.executable, "-c", program], env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not (home.repo / "here").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) != 0
    assert not list(home.synth.glob(".half-*")) and not list(home.synth.glob("[0-9a-f]*"))


def test_another_environment_is_another_assembly_and_reaches_the_app(home: Home) -> None:
    (home.repo / "infra" / "app.py").write_text(
        "import os, pathlib; out = pathlib.Path(os.environ['CDK_OUTDIR']); "
        "(out / 'lab.json').write_text(os.environ['LAB_OVERRIDES']); assert 'LAB_ENVIRONMENT' not in os.environ"
    )
    plain = synth.synth(home, {})
    prod = synth.synth(replace(home, environment="prod"), {"train": {"size": "base"}})
    assert plain.digest != prod.digest
    assert json.loads((prod.path / "lab.json").read_text()) == {
        "train": {"size": "base"},
        "lab": {"environment": "prod"},
    }


def test_the_region_is_that_of_the_environment_unless_the_overrides_name_one(home: Home) -> None:
    home.config.write_text('[lab]\nregion = "eu-west-1"\n[environments.prod]\nregion = "eu-central-1"\n')
    assert home.region() == "eu-west-1"
    assert replace(home, environment="prod").region() == "eu-central-1"
    assert home.region({"lab": {"environment": "prod"}}) == "eu-central-1"
    assert replace(home, environment="prod").region({"lab": {"region": "us-west-2"}}) == "us-west-2"
