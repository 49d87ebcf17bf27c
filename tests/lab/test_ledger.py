"""Where the time went: unions of intervals, and which child a state started."""

import json
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lab import ledger
from lab.clock import Clock
from lab.history import State
from lab.ledger import Entry


def entry(kind: str, name: str, start: float, end: float) -> Entry:
    return Entry(kind, "service", name, start, end, 0, f"jobs/service/{name}/log.txt")


def test_overlapping_children_count_once() -> None:
    entries = [entry("job", "a", 10, 20), entry("job", "b", 15, 30), entry("function", "c", 40, 41)]
    assert ledger.outside(entries, 0, 50) == 50 - 21


def test_only_the_part_inside_the_window_counts() -> None:
    assert ledger.outside([entry("device", "d", -5, 5), entry("job", "j", 8, 100)], 0, 10) == 3


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100))))
def test_a_union_is_as_long_as_the_seconds_it_covers(pairs: list[tuple[int, int]]) -> None:
    intervals = [(float(min(pair)), float(max(pair))) for pair in pairs]
    covered = {second for low, high in intervals for second in range(int(low), int(high))}
    assert ledger.union(intervals) == len(covered)


def test_an_engine_without_a_ledger_has_no_entries(tmp_path: Path) -> None:
    assert ledger.read(tmp_path) == []


def test_entries_come_in_the_order_in_which_they_started(tmp_path: Path) -> None:
    rows = [
        {"kind": "job", "service": "glue", "name": name, "start": start, "end": start + 1, "rc": 0, "log": ""}
        for name, start in (("later", 2.0), ("sooner", 1.0))
    ]
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.name for row in ledger.read(tmp_path)] == ["sooner", "later"]


def state(resource: str, start: float, end: float, **parameters: str) -> State:
    return State("S", "flow", resource, start, end, end - start, parameters=dict(parameters))


def test_two_calls_of_one_function_each_find_their_own_log() -> None:
    entries = [entry("function", "ml-lab-dev-gate", 10, 11), entry("function", "ml-lab-dev-gate", 20, 21)]
    first = ledger.of_state(state("lambda:invoke", 9.9, 11.1, FunctionName="ml-lab-dev-gate"), entries)
    second = ledger.of_state(state("lambda:invoke", 19.9, 21.1, FunctionName="ml-lab-dev-gate"), entries)
    assert first is entries[0] and second is entries[1]


def test_an_endpoint_starts_after_the_call_that_made_it_returned() -> None:
    entries = [entry("endpoint", "ml-lab-dev-endpoint", 13, 15)]
    assert ledger.of_state(state("aws-sdk:sagemaker:createEndpoint", 10, 10.1), entries) is entries[0]


def test_a_state_that_calls_nothing_of_ours_has_no_child() -> None:
    assert ledger.of_state(state("choice", 0, 100), [entry("job", "a", 1, 2)]) is None


def test_phases_add_up_to_the_overhead() -> None:
    clock = Clock()
    with clock.phase("synth"):
        time.sleep(0.02)
    start = time.time()
    with clock.phase("polling"):
        time.sleep(0.05)
    account = clock.account([entry("job", "a", start + 0.01, start + 0.04)])
    assert abs(sum(account["phases"].values()) - account["overhead_seconds"]) < 0.01
    assert account["overhead_seconds"] < clock.seconds() - 0.02
    assert account["phases"]["synth"] >= 0.02
