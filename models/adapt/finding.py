"""One thing that adapt found in the data, with its evidence."""

from __future__ import annotations

from dataclasses import dataclass

NOTE, WARN, EXCLUDED = "note", "warn", "excluded"


@dataclass(frozen=True)
class Finding:
    """`kind` is a short name such as leak; `subject` the column, file or class; `evidence` a sentence with figures."""

    kind: str
    subject: str
    evidence: str
    level: str = WARN
