"""Lanes: where wheels are unpacked, one thing at a time in each; and a lane of this process.

A lane keeps what it unpacks of files that still arrive, by number; the same lane makes the tree of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pkgc_daemon.store import trees
from pkgc_daemon.store.laying import Outlay
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.rows import TreeRow
from pkgc_daemon.vocabulary import Manifest


class Job(NamedTuple):
    """One wheel to unpack: the arguments of `trees.build`, and the bytes of the wheel."""

    cache: str
    artifact: str
    filename: str
    sha256: str
    boot: str
    size: int
    outlay: Outlay | None = None
    """What is to be laid out of it at once."""


class Unpacked(NamedTuple):
    """What came of a `Job`."""

    row: TreeRow
    manifest: Manifest
    """`Workers.unpack` gives it without its files."""
    note: dict[str, Any] | None
    """Of the outlay, if it was made too."""


class Growth(NamedTuple):
    """How much of a wheel is there."""

    number: int
    """Of the wheel, in this lane; the daemon gives each once."""
    cache: str
    path: str
    total: int
    """Bytes that it will have."""
    available: int
    """Bytes that are in the file and will not change."""


class Lane(Protocol):
    """One lane. Its methods block, and are called by one thread at a time."""

    def start(self) -> None:
        """Prepare for the first job."""

    def rest(self) -> None:
        """Give back what it holds while there is nothing to do; the next job finds it as ready as ever."""

    def build(self, job: Job, number: int | None) -> Unpacked:
        """`trees.build`, with what was unpacked under `number`, if that is still there.

        Raises:
            PkgcError: as `trees.build`.
        """

    def lay(self, cache: str, outlays: Sequence[tuple[str, Outlay]]) -> list[dict[str, Any] | None]:
        """See `workers.Workers.lay`."""

    def advance(self, growth: Growth) -> bool:
        """Unpack what has arrived. False: there is no use in calling it again for this number."""

    def drop(self, number: int) -> None:
        """Throw away what was unpacked under `number`; an unknown one is fine."""

    def close(self) -> None:
        """Throw everything away."""


class LocalLane:
    """A lane in this process."""

    def __init__(self) -> None:
        self._ahead: dict[int, trees.Ahead] = {}

    def start(self) -> None:
        """See `Lane.start`."""

    def rest(self) -> None:
        """See `Lane.rest`: there is nothing to give back."""

    def build(self, job: Job, number: int | None) -> Unpacked:
        """See `Lane.build`; it lays nothing out."""
        ahead = self._ahead.pop(number, None) if number is not None else None
        layout = Layout(Path(job.cache))
        row, manifest = trees.build(layout, Path(job.artifact), job.filename, job.sha256, job.boot, ahead)
        return Unpacked(row, manifest, None)

    def lay(self, cache: str, outlays: Sequence[tuple[str, Outlay]]) -> list[dict[str, Any] | None]:
        """See `Lane.lay`: it takes a process of its own."""
        return [None for _ in outlays]

    def advance(self, growth: Growth) -> bool:
        """See `Lane.advance`."""
        try:
            ahead = self._ahead.get(growth.number)
            if ahead is None:
                layout = Layout(Path(growth.cache))
                ahead = trees.Ahead(layout, Path(growth.path), growth.total)
                self._ahead[growth.number] = ahead
            ahead.arriving.advance(growth.available)
        except OSError:
            # A full disk, most likely: the file itself needs the room more.
            self.drop(growth.number)
            return False
        return not ahead.arriving.stopped

    def drop(self, number: int) -> None:
        """See `Lane.drop`."""
        ahead = self._ahead.pop(number, None)
        if ahead is not None:
            ahead.close()

    def close(self) -> None:
        """See `Lane.close`."""
        for number in list(self._ahead):
            self.drop(number)
