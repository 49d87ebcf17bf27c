"""The answers on disk."""

import json
from pathlib import Path

from edge.results import Results


def test_results_are_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl", limit=100_000)
    for number in range(2_000):
        results.add({"source": "x" * 200, "number": number})
    results.flush()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2 and all(size <= 100_000 for size in sizes)
    assert json.loads((tmp_path / "results.jsonl").read_text().splitlines()[-1])["number"] == 1_999


def test_a_disk_that_takes_nothing_costs_answers_and_nothing_else(tmp_path: Path) -> None:
    results = Results(tmp_path / "no such folder" / "results.jsonl")
    results.add({"label": "dark"})
    results.flush()
    assert results.dropped == 1
