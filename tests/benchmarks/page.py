"""The page docs/performance.md: what was measured goes between two marks, the rest is written by hand."""

from __future__ import annotations

from pathlib import Path

BEGIN = "<!-- measured: written by ./check bench, do not edit -->"
END = "<!-- end of what was measured -->"


def filled(text: str, measured: str) -> str:
    """The page with `measured` between its marks, and the rest of it untouched.

    Raises:
        ValueError: the marks are not there, each once and in their order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise ValueError(f"the page must have the lines {BEGIN!r} and {END!r} once each, in this order")
    return f"{before}{BEGIN}\n\n{measured.strip()}\n\n{END}{after}"


def write(path: Path, measured: str) -> None:
    """Put `measured` into the page at `path`.

    Raises:
        ValueError: see `filled`.
    """
    path.write_text(filled(path.read_text("utf-8"), measured), "utf-8")
