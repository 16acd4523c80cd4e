"""Reporting: the one narrow way in which stages tell a person what is going on.

Stages call it; serving/ decides how it looks (text, live block, JSON, nothing).  Calls are cheap and
made on the event loop's thread only.
"""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """What a stage may say while it works."""

    def started(self, key: str, label: str, total: int | None) -> None:
        """A transfer or another long piece of work begins; `total` in bytes when known."""

    def advanced(self, key: str, amount: int) -> None:
        """`amount` more bytes of `key` have arrived (negative when a transfer starts over)."""

    def finished(self, key: str) -> None:
        """The work named `key` has ended, well or not."""

    def warning(self, message: str, code: str = "warning") -> None:
        """Something a person should know; in JSON output it becomes an entry of `warnings`."""

    def detail(self, message: str) -> None:
        """Shown with -v only."""

    def retrying(self, message: str) -> None:
        """An attempt failed and will be made again: shown now and then, so that waiting has a reason."""

    def count(self, what: str, amount: int = 1) -> None:
        """Add to a counter of the run: ``index_requests``, ``downloaded_files``, ``downloaded_bytes``."""


class Silent:
    """A Reporter that says nothing and counts."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.warnings: list[str] = []

    def started(self, key: str, label: str, total: int | None) -> None:
        """See `Reporter.started`."""

    def advanced(self, key: str, amount: int) -> None:
        """See `Reporter.advanced`."""

    def finished(self, key: str) -> None:
        """See `Reporter.finished`."""

    def warning(self, message: str, code: str = "warning") -> None:
        """See `Reporter.warning`."""
        self.warnings.append(message)

    def detail(self, message: str) -> None:
        """See `Reporter.detail`."""

    def retrying(self, message: str) -> None:
        """See `Reporter.retrying`."""

    def count(self, what: str, amount: int = 1) -> None:
        """See `Reporter.count`."""
        self.counts[what] = self.counts.get(what, 0) + amount
