"""Whole scenarios replayed on an embedded AWS of their own, each chapter checked, the end drawn: `lab story edge`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.home import Home, write_atomically
from lab.progress import Progress

TEMPLATE = Path(__file__).with_name("story.html.j2")


@dataclass
class Chapter:
    """What was to be shown, and what was seen: lines of text, and figures by name."""

    title: str
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Story:
    """The chapters so far. `folder` receives the page and what else a chapter leaves."""

    name: str
    title: str
    folder: Path
    progress: Progress
    chapters: list[Chapter] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)  # caption, SVG

    @contextmanager
    def chapter(self, title: str) -> Iterator[Chapter]:
        """One chapter; what is said in it is shown at once."""
        self.progress.step(title)
        started, one = time.monotonic(), Chapter(title)
        self.chapters.append(one)
        yield one
        one.seconds = time.monotonic() - started

    def say(self, line: str) -> None:
        self.chapters[-1].lines.append(line)
        self.progress.say(f"  {line}")

    def must(self, holds: object, what: str) -> None:
        """Raises LabError when what the story shows did not happen."""
        if not holds:
            raise LabError(
                f"the story '{self.name}' went another way in '{self.chapters[-1].title}': {what} did not hold",
                f"what happened until then is in {self.folder}",
            )

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        chapters = [{**vars(one), "seconds": round(one.seconds, 1)} for one in self.chapters]
        return {"story": self.name, "page": str(self.folder / "story.html"), "chapters": chapters}


Teller = Callable[[Home, Story], None]


def tell(home: Home, name: str, progress: Progress) -> Story:
    """Replays story `name`, leaves `<lab's home>/stories/<name>/story.html`. Raises LabError where it goes wrong."""
    from lab.story_edge import TITLE, edge

    tellers: dict[str, tuple[str, Teller]] = {"edge": (TITLE, edge)}
    title, teller = tellers[name]
    folder = home.root / "stories" / name
    folder.mkdir(parents=True, exist_ok=True)
    story = Story(name, title, folder, progress)
    try:
        teller(home, story)
    finally:
        write_atomically(folder / "story.html", page(story))
        progress.done()
    return story


def page(story: Story) -> str:
    """The story as one HTML page that opens offline."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    drawn = [(caption, Markup(svg)) for caption, svg in story.pictures]
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return str(template.render(story=story, pictures=drawn))
