"""The lines of a RECORD (PEP 376, PEP 627): text to tuples, no file is opened."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple


class RecordLine(NamedTuple):
    """One line of RECORD; `hash` and `size` are as written and may be empty."""

    path: str
    hash: str
    size: str


def parse_record(text: str) -> Iterator[RecordLine]:
    """The lines of a RECORD; lines without a path are passed over.

    Raises:
        csv.Error: it is no csv.
    """
    if '"' not in text:
        # As csv would, several times faster.
        for line in text.splitlines():
            parts = line.split(",")
            if parts[0]:
                yield RecordLine(
                    parts[0], parts[1] if len(parts) > 1 else "", parts[2] if len(parts) > 2 else ""
                )
        return
    for row in csv.reader(io.StringIO(text, newline="")):
        if row and row[0]:
            yield RecordLine(row[0], row[1] if len(row) > 1 else "", row[2] if len(row) > 2 else "")
