"""`lab label`: the queue of what devices were unsure of, fetched for a person and taken back filled in."""

from __future__ import annotations

from pathlib import Path

import click

from lab.call import Call, answer, json_option


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dataset", metavar="NAME", help="Another data set than the stack's.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="labelling", show_default=True)
@json_option
@click.pass_obj
def label(call: Call, file: Path | None, dataset: str | None, out: Path) -> int:
    """Fetch the samples that wait for a label; with FILE, the filled labels.csv, take them back.

    What was labelled joins the raw data set, whose new manifest starts the flow.

    \b
    lab label --out labelling         # labels.csv, the samples, and a page that shows them
    lab label labelling/labels.csv    # once the column `label` is filled in
    """
    from lab import label as labelling
    from lab import stack

    deployed = stack.deployed(call.server().engine())
    if file is None:
        found = labelling.fetch(deployed, dataset, out)
        answer(call, found, f"{found['rows']} samples of {found['dataset']} wait in {out}; look at {found['page']}")
        return 0
    found = labelling.take(call.home(), deployed, file)
    counts = ", ".join(f"{count} {name}" for name, count in found["labels"].items())
    answer(call, found, f"{found['added']} samples joined {found['dataset']} ({counts}); the flow starts: lab status")
    return 0
