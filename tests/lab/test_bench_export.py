"""`lab bench export`: which children it starts, under what conditions, and what it makes of what they say."""

from pathlib import Path

import pytest

from lab import bench, bench_export
from lab.errors import LabError
from lab.home import Home

TRAIN = """
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
folder.mkdir(parents=True)
(folder / "model.safetensors").write_text("weights")
with (pathlib.Path.cwd() / "trained").open("a") as log: log.write(sys.argv[1] + " ")
"""
CONTEST = """
import json, os, pathlib, sys
print("what a runtime prints")
print(json.dumps({"net": pathlib.Path(sys.argv[1]).name, "threads": os.environ["OMP_NUM_THREADS"]}))
"""
ROWS = 'print(\'{"rows": [{"precision": "fp32"}, {"precision": "int8"}]}\')'
SKIPPED = 'print(\'{"rows": [{"skipped": "no GPU"}]}\')'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A lab whose benchmarks are a few lines each."""
    folder = tmp_path / "repo" / "benchmarks" / "artefacts"
    folder.mkdir(parents=True)
    stubs = {
        "train": TRAIN,
        "contest": CONTEST,
        "ceiling": ROWS,
        "ways": ROWS,
        "cuda": SKIPPED,
        "nets": "",
        "tasks": "",
    }
    for name, code in stubs.items():
        (folder / f"{name}.py").write_text(code)
    return Home(tmp_path / "repo", tmp_path / "home", tmp_path / "lab.toml")


def test_every_net_has_a_row_and_then_come_batch_32_other_ways_and_cuda(home: Home) -> None:
    rows = list(bench_export.export(home, None))
    assert [row["case"] for row in rows] == [*bench_export.NETS, "batch32", "batch32", "ways", "ways", "cuda"]
    assert rows[0] == {"case": "conv", "net": "conv", "threads": "1"}
    assert [row.get("precision") for row in rows[4:6]] == ["fp32", "int8"]
    assert rows[8] == {"case": "cuda", "skipped": "no GPU"}
    assert (home.repo / "trained").read_text().split() == ["conv", "tcn", "transformer", "tabular"]


def test_a_net_is_trained_anew_when_what_makes_it_has_changed(home: Home) -> None:
    for _ in range(2):
        list(bench_export.export(home, "tcn"))
    assert (home.repo / "trained").read_text().split() == ["tcn"]
    (home.repo / "benchmarks/artefacts/nets.py").write_text("# another net")
    list(bench_export.export(home, "tcn"))
    assert (home.repo / "trained").read_text().split() == ["tcn", "tcn"]


def test_a_case_that_is_not_there_is_refused_with_those_that_are(home: Home) -> None:
    with pytest.raises(LabError, match="no case digits") as refused:
        list(bench_export.export(home, "digits"))
    assert (
        refused.value.hint is not None and "conv, tcn, transformer, tabular, batch32, ways, cuda" in refused.value.hint
    )


def test_a_child_that_fails_is_an_error_with_its_last_words(home: Home) -> None:
    (home.repo / "benchmarks/artefacts/contest.py").write_text("raise SystemExit('openvino took 1.90 cores')")
    with pytest.raises(LabError, match=r"(?s)contest .* ended with 1:\nopenvino took 1\.90 cores"):
        list(bench_export.export(home, "tabular"))


def test_a_row_reads_as_a_line_whatever_its_values_are() -> None:
    line = bench.line({"case": "conv", "chosen": "onnx-int8", "vs_eager": 16.2, "by_hand_ms": {"onnxruntime": 1.5}})
    assert line.split() == [
        "conv", "chosen", "onnx-int8", "vs_eager", "16.2", "by_hand_ms", "{'onnxruntime':", "1.5}",
    ]  # fmt: skip
