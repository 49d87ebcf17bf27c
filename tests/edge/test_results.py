"""The answers on disk."""

import json
from pathlib import Path

from edge.results import Results


def test_results_are_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl", limit=100_000)
    for number in range(2_000):
        results.add({"source": "x" * 200, "number": number})
        if number % 50 == 0:
            results.flush()
    results.flush()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2 and all(size <= 100_000 for size in sizes)
    assert json.loads((tmp_path / "results.jsonl").read_text().splitlines()[-1])["number"] == 1_999


def test_of_more_lines_than_a_file_may_hold_the_newest_are_written_and_the_others_counted(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl", limit=10_000)
    for number in range(1_000):
        results.add({"number": number})
    results.flush()
    numbers = [json.loads(line)["number"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert numbers == list(range(1_000 - len(numbers), 1_000)) and results.dropped == 1_000 - len(numbers)


def test_a_disk_that_takes_nothing_costs_answers_and_nothing_else(tmp_path: Path) -> None:
    results = Results(tmp_path / "no such folder" / "results.jsonl")
    results.add({"label": "dark"})
    results.flush()
    assert results.dropped == 1
