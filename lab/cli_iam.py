"""`lab iam`: what each role may do, what the recorded runs used of it, and what defends the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from lab.call import Call, json_option, print_json


@click.command()
@click.option("--role", metavar="NAME", help="This role alone: a part of its logical id.")
@click.option("--unused", is_flag=True, help="Only what no recorded run used.")
@json_option
@click.pass_obj
def iam(call: Call, role: str | None, unused: bool) -> int:
    """Show what each role may do and what no run used; exit 1 when an unused grant has no reason.

    It reads what the runs in .lab/runs recorded. A grant without use is a mistake or a case that no run came to: the
    template must say which.
    """
    from lab import grants, show

    whole = grants.of_runs(call.home())
    rows = [row for row in grants.grants(whole) if role is None or role.lower() in row.role.lower()]
    denied = grants.denied(whole)
    statements, spare = grants.survivors(whole)
    shown = [row for row in rows if not (unused and row.used)]
    if call.as_json:
        said: dict[str, Any] = {
            "grants": [asdict(row) for row in shown],
            "denied": denied,
            "statements": statements,
            "spare": [asdict(one) for one in spare],
        }
        print_json(said)
    else:
        show.grants(shown)
        show.access(rows, denied, statements, len(spare))
    return 1 if any(not row.used and not row.reason for row in rows) else 0
