"""`lab new` and `lab upgrade`: a customer's repository out of the template, and later versions of it merged in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lab.call import Call, answer, json_option


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", help="The lab's name, which every resource's name starts with; else DIR's own.")
@json_option
@click.pass_obj
def new(call: Call, directory: Path, name: str | None) -> int:
    """Make DIR a customer's repository: this lab copied and renamed, with a first commit.

    \b
    lab new ../acme-defects
    """
    from lab import new as making
    from lab import processes

    processes.stop_like_ctrl_c()
    born = making.new(call.home(), directory, name)
    said = {"path": str(born.path), "files": born.files, **asdict(born.record)}
    answer(call, said, "\n".join(making.lines(born)))
    return 0


@click.command()
@click.option("--from", "source", metavar="PATH|URL", help="A clone of the template, or its git URL; else as recorded.")
@click.option("--to", metavar="TAG|COMMIT", help="The template's version; else its last commit.")
@json_option
@click.pass_obj
def upgrade(call: Call, source: str | None, to: str | None) -> int:
    """Merge a later version of the template into this repository; exit 1 where both changed the same lines.

    \b
    lab upgrade --to v0.2.0
    """
    from lab import processes
    from lab import upgrade as merging

    processes.stop_like_ctrl_c()
    done = merging.upgrade(call.home(), source, to)
    said = {
        "before": asdict(done.before),
        "after": asdict(done.after),
        "changes": [{"how": how, "path": path} for how, path in done.changes],
        "conflicts": done.conflicts,
        "commit": done.commit,
    }
    answer(call, said, "\n".join(merging.lines(done)))
    return 1 if done.conflicts else 0
