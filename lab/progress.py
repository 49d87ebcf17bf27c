"""What a run shows while it works: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from lab.history import State


class Progress(Protocol):
    """Where a run tells what it does."""

    def say(self, text: str) -> None:
        """One line for people."""

    def step(self, name: str) -> None:
        """A phase of the lab itself begins (synth, start, deploy, data)."""

    def states(self, states: list[State]) -> None:
        """The states of a flow as they are now; called again and again with the same growing list."""

    def epoch(self, line: str) -> None:
        """One line that the training job wrote about an epoch."""

    def done(self) -> None:
        """Nothing more comes."""


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        pass

    def step(self, name: str) -> None:
        pass

    def states(self, states: list[State]) -> None:
        pass

    def epoch(self, line: str) -> None:
        pass

    def done(self) -> None:
        pass


class Plain:
    """Lines on a stream: each state once when it ends, each epoch once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told: set[tuple[str, str]] = set()

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def step(self, name: str) -> None:
        self.say(f"• {name}")

    def states(self, states: list[State]) -> None:
        for state in states:
            if state.end is not None and (state.flow, state.name) not in self._told:
                self._told.add((state.flow, state.name))
                self.say(f"  {state.name:<20} {state.resource:<40} {state.seconds:7.1f} s  {_word(state)}")

    def epoch(self, line: str) -> None:
        self.say(f"    {line}")

    def done(self) -> None:
        self._stream.flush()


class OnTerminal:
    """A table that grows while the flow runs, with the newest epoch under it."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
        self._live: Live | None = None
        self._epoch = ""
        self._settled = 0
        self._states: list[State] = []

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def step(self, name: str) -> None:
        self._stop()
        self._console.print(f"[bold cyan]•[/] {name}")

    def states(self, states: list[State]) -> None:
        from rich.live import Live

        self._states = states
        if self._live is None:
            self._live = Live(self._table(), console=self._console, refresh_per_second=8, transient=False)
            self._live.start()
        self._live.update(self._table())

    def epoch(self, line: str) -> None:
        self._epoch = line
        if self._live is not None:
            self._live.update(self._table())

    def done(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._live is not None:
            self._epoch = ""
            self._live.update(self._table())
            self._live.stop()
            self._live = None

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 1), show_header=False)
        table.add_column(width=2)
        table.add_column(min_width=18)
        table.add_column(style="dim", overflow="ellipsis", no_wrap=True)
        table.add_column(justify="right")
        now = time.time()
        for state in self._states:
            seconds = state.seconds if state.end is not None else state.seconds + now - state.start
            mark, style = _MARKS[state.status]
            table.add_row(Text(mark, style), Text(state.name, style), state.resource, f"{max(0.0, seconds):.1f} s")
        if self._epoch:
            table.add_row("", Text(self._epoch, "italic"), "", "")
        return table


_MARKS = {"SUCCEEDED": ("✔", "green"), "FAILED": ("✘", "bold red"), "RUNNING": ("●", "bold yellow")}


def _word(state: State) -> str:
    if state.caught:
        return f"caught {state.caught}"
    return "done" if state.status == "SUCCEEDED" else state.status.lower()


def progress(*, to_stderr: bool, quiet: bool = False) -> Progress:
    """The progress for this process's streams: a table on a terminal, lines elsewhere, nothing when quiet."""
    if quiet:
        return Silent()
    stream = sys.stderr if to_stderr else sys.stdout
    return OnTerminal(stream) if stream.isatty() else Plain(stream)


@contextmanager
def shown(reporter: Progress) -> Iterator[Progress]:
    """Ends the display with the block, so that an error is printed below it and never into it."""
    try:
        yield reporter
    finally:
        reporter.done()
