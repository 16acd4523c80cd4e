"""What one call says: lines of text or one JSON object, and the live block; decides looks, does no I/O.

Results go to stdout; warnings, errors, details and news of transfers to stderr.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.serving.calls import STDERR, STDOUT, ColorChoice, OutputFormat, Terminal
from pkgc_daemon.serving.documents import JSON_SCHEMA, counters, json_text
from pkgc_daemon.serving.live import Live, Transfer, counted
from pkgc_daemon.serving.text import (
    Style,
    error_text,
    format_bytes,
    format_duration,
    harmless,
    harmless_lines,
    plural,
)
from pkgc_daemon.vocabulary import Origin

LARGE = 1_000_000
"""Bytes from which a transfer is worth a line where there is no live block."""
PERIOD = 10.0
"""Seconds between two lines about one long transfer."""


RETRY_NEWS = 2.0
"""Seconds between two lines about attempts that failed and are made again."""


class Sink(Protocol):
    """Where output goes: frames of the connection, or a list in a test."""

    def write(self, stream: int, data: str) -> None:
        """Print `data` on stream 1 or 2; never lost."""

    def live(self, text: str) -> None:
        """Show these lines below the output in place of the last ones; '' takes them away; may be lost."""


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """One package that was (or with --dry-run would be) installed."""

    name: str
    version: str
    """'' (in JSON null): only what has to be downloaded or built will tell."""
    origin: Origin | None = None
    sha256: str | None = None
    came_from: Literal["store", "network", "build"] = "store"
    reason: str = ""
    """Why, as the plan says."""


@dataclass(frozen=True, slots=True)
class RemovedPackage:
    """One package that was (or would be) removed, also when another version takes its place."""

    name: str
    version: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync did; with `dry_run` (--dry-run, --check), what it would do."""

    venv: str
    installed: Sequence[InstalledPackage] = ()
    removed: Sequence[RemovedPackage] = ()
    kept: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Phase -> seconds; ``total`` is always there."""
    dry_run: bool = False

    def document(self) -> dict[str, Any]:
        """The object of design.md, section 5, without counters, warnings and errors."""
        return {
            "venv": self.venv,
            "dry_run": self.dry_run,
            "installed": [
                {
                    "name": one.name,
                    "version": one.version or None,
                    "origin": _origin_document(one.origin),
                    "sha256": one.sha256,
                    "from": one.came_from,
                    "reason": one.reason or None,
                }
                for one in self.installed
            ],
            "removed": [
                {"name": one.name, "version": one.version, "reason": one.reason or None}
                for one in self.removed
            ],
            "kept": self.kept,
            "seconds": {"total": 0.0, **{name: round(value, 6) for name, value in self.seconds.items()}},
        }


class Output:
    """The Reporter of one call, and everything else that the call says.

    Call it on the event loop's thread only; `tick` a few times a second while work is under way, `close`
    at the end. Every text may come from files or the network: it is made harmless here.

    Args:
        sink: where it goes.
        terminal: the client's.
        color: with ``auto``, each stream that is a terminal has colours.
        verbosity: -1 errors only, 0 normal, 1 and more details.
        output_format: ``json`` prints one object on stdout when closed; warnings and errors go to stderr too.
        progress: whether to show the live block (or, without a terminal, lines about large transfers).
        clock: monotonic seconds.
    """

    def __init__(
        self,
        sink: Sink,
        terminal: Terminal,
        *,
        color: ColorChoice = "auto",
        verbosity: int = 0,
        output_format: OutputFormat = "text",
        progress: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._began = clock()
        self._verbosity = verbosity
        self._json = output_format == "json"
        self.style = Style(color == "always" or (color == "auto" and terminal.stdout))
        """Colours of stdout, for renderers."""
        self._error_style = Style(color == "always" or (color == "auto" and terminal.stderr))
        talkative = progress and verbosity >= 0
        self._show_live = talkative and terminal.stderr
        self._show_lines = talkative and not terminal.stderr and not self._json
        self._live = Live(clock, terminal.columns, terminal.rows, self._error_style)
        self._announced: dict[int, float] = {}
        """id of a Transfer that has a line already -> when its last line was printed."""
        self._document: dict[str, Any] = {}
        self._warnings: dict[tuple[str, str], None] = {}
        self._errors: list[PkgcError] = []
        self._closed = False
        self._retried_at = float("-inf")
        self.counts: dict[str, int] = {}
        """Counters of `count`."""

    # Reporter

    def started(
        self,
        key: str,
        label: str,
        total: int | None,
        *,
        verb: str = "Downloading",
        past: str = "Downloaded",
        unit: str = "byte",
    ) -> None:
        """See `Reporter.started`; the rest words the lines about work that is no download."""
        transfer = self._live.started(key, label, total, unit)
        transfer.verb, transfer.past = verb, past
        if self._show_lines and unit == "byte" and total is not None and total > LARGE:
            self._announce(transfer)
        self._refresh()

    def advanced(self, key: str, amount: int) -> None:
        """See `Reporter.advanced`."""
        transfer = self._live.advanced(key, amount)
        if self._show_live:
            self._refresh()
        elif self._show_lines and transfer is not None:
            self._lines_about(transfer)

    def finished(self, key: str) -> None:
        """See `Reporter.finished`."""
        transfer = self._live.finished(key)
        if transfer is not None and self._announced.pop(id(transfer), None) is not None:
            took = format_duration(self._clock() - transfer.started_at)
            # Nothing, or less than the whole: an error follows, or another attempt.
            came = transfer.done > 0 or transfer.unit != "byte"
            if came and (transfer.total is None or transfer.done >= transfer.total):
                amount = (
                    counted(transfer) if transfer.unit == "byte" else plural(transfer.done, transfer.unit)
                )
                self._line(STDERR, f"{transfer.past} {transfer.label} ({amount} in {took})")
        self._refresh()

    def warning(self, message: str, code: str = "warning") -> None:
        """See `Reporter.warning`. The same warning is given once."""
        if (code, message) in self._warnings:
            return
        self._warnings[code, message] = None
        if self._verbosity < 0:
            return
        first, *more = harmless_lines(message)
        tag = "warning:" if code == "warning" else f"warning[{harmless(code)}]:"
        lines = [f"{self._error_style('bold yellow', tag)} {first}", *(f"  {line}" for line in more)]
        self._line(STDERR, "\n".join(lines))

    def detail(self, message: str) -> None:
        """See `Reporter.detail`."""
        if self._verbosity > 0:
            for line in harmless_lines(message):
                self._line(STDERR, self._error_style("dim", line))

    def retrying(self, message: str) -> None:
        """See `Reporter.retrying`: every time with -v, else at most every two seconds."""
        if self._verbosity > 0:
            self.detail(message)
            return
        now = self._clock()
        if self._verbosity < 0 or self._json or now - self._retried_at < RETRY_NEWS:
            return
        self._retried_at = now
        for line in harmless_lines(message):
            self._line(STDERR, self._error_style("dim", line))

    def count(self, what: str, amount: int = 1) -> None:
        """See `Reporter.count`."""
        self.counts[what] = self.counts.get(what, 0) + amount

    # Results

    def phase(
        self,
        verb: str,
        count: int,
        noun: str = "package",
        *,
        size: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """One summary line: ``Fetched 97 files (54 MB) in 0.6s``."""
        what = plural(count, noun)
        number, _, noun = what.partition(" ")
        text = f"{verb} {self.style('bold', number)} {noun}"
        if size is not None:
            text += f" ({format_bytes(size)})"
        if seconds is not None:
            text += f" in {format_duration(seconds)}"
        self._say(text)

    def say(self, message: str) -> None:
        """A line of result text (text output only, not with -q)."""
        for line in harmless_lines(message):
            self._say(line)

    def sync_result(self, result: SyncResult) -> None:
        """What `close` puts into the JSON object: call it early with what is known, and again at the end."""
        self._document = result.document()

    def document_parts(self, parts: Mapping[str, Any]) -> None:
        """Add fields to the JSON object, for commands with a result of their own."""
        self._document.update(parts)

    def changes(self, installed: Iterable[InstalledPackage], removed: Iterable[RemovedPackage]) -> None:
        """A line per package, by name: ``-`` removed, ``+`` installed, ``~`` the same version anew."""
        gone: dict[str, list[RemovedPackage]] = {}
        for one in removed:
            gone.setdefault(one.name, []).append(one)
        lines: list[tuple[str, int, str]] = []
        for new in installed:
            same = [old for old in gone.get(new.name, ()) if old.version == new.version]
            if same:
                gone[new.name].remove(same[0])
                lines.append((new.name, 1, self._change("~", new, same[0].reason or new.reason)))
            else:
                # Of what has still to be built the version does not say why it takes the place of another.
                unsaid = not new.version and new.name in gone
                why = new.reason if self._verbosity > 0 or unsaid else ""
                lines.append((new.name, 1, self._change("+", new, why)))
        for olds in gone.values():
            lines += [
                (old.name, 0, self._change("-", old, old.reason if self._verbosity > 0 else ""))
                for old in olds
            ]
        for _, _, line in sorted(lines):
            self._say(line)

    def show(
        self,
        data: Mapping[str, Any],
        render: Callable[[Mapping[str, Any], Style], str],
        *,
        news: bool = False,
    ) -> None:
        """Print `data` as JSON, or what `render` (see `tables`) makes of it; -q hides only `news`."""
        self._document = dict(data)
        if not self._json and not (news and self._verbosity < 0):
            self._write(STDOUT, render(data, self.style))

    def error(self, error: PkgcError) -> None:
        """Say what failed; in JSON output `ok` becomes false."""
        self._errors.append(error)
        self._write(STDERR, error_text(error, self._error_style))

    def tick(self) -> None:
        """Bring the live block up to date, and speak up about long transfers."""
        self._refresh()
        if self._show_lines:
            for transfer in self._live.transfers:
                self._lines_about(transfer)

    def close(self) -> None:
        """Take the live block away and print the JSON object, if that is the format. Twice is once."""
        if self._closed:
            return
        self._closed = True
        if self._show_live:
            self._sink.live("")
        if self._json:
            self._sink.write(STDOUT, json_text(self.document()))

    def document(self) -> dict[str, Any]:
        """The JSON object as it stands: design.md, section 5."""
        counted = counters(self.counts)
        if not (self.counts or self._document.keys() & {"installed", "fetched"}):
            counted = {}
        document = {**self._document, **counted}
        if self._errors and "seconds" in document:
            document["seconds"] = {**document["seconds"], "total": round(self._clock() - self._began, 6)}
        return {
            "schema": JSON_SCHEMA,
            "ok": not self._errors,
            **counted,
            **document,
            "warnings": [{"code": code, "message": message} for code, message in self._warnings],
            "errors": [error_document(error) for error in self._errors],
        }

    # Ways out

    def _change(self, sign: str, package: InstalledPackage | RemovedPackage, reason: str) -> str:
        color = {"+": "green", "-": "red", "~": "yellow"}[sign]
        text = f" {self.style(color, sign)} {self.style('bold', harmless(package.name))}"
        if package.version:  # else only a build will tell
            text += self.style("dim", f"=={harmless(package.version)}")
        # The plan's reasons begin with what the line says already.
        beginning, colon, rest = reason.partition(": ")
        if colon and beginning.partition(" ")[0] == package.name:
            reason = rest
        return f"{text} {self.style('dim', f'({harmless(reason)})')}" if reason else text

    def _say(self, line: str) -> None:
        if not self._json and self._verbosity >= 0:
            self._line(STDOUT, line)

    def _line(self, stream: int, line: str) -> None:
        self._write(stream, line + "\n")

    def _write(self, stream: int, data: str) -> None:
        if data:
            self._sink.write(stream, data)

    def _refresh(self) -> None:
        if self._show_live:
            block = self._live.frame()
            if block is not None:
                self._sink.live(block)

    def _announce(self, transfer: Transfer) -> None:
        if id(transfer) in self._announced:
            return
        self._announced[id(transfer)] = self._clock()
        known = transfer.total is not None and transfer.unit == "byte"
        size = f" ({format_bytes(transfer.total or 0)})" if known else ""
        self._line(STDERR, f"{transfer.verb} {transfer.label}{size}")

    def _lines_about(self, transfer: Transfer) -> None:
        """Without a live block: the first line of a transfer of unknown size, and one every 10 seconds."""
        now = self._clock()
        last = self._announced.get(id(transfer))
        if last is None:
            if (transfer.unit == "byte" and transfer.done > LARGE) or now - transfer.started_at >= PERIOD:
                self._announce(transfer)
            return
        if now - last < PERIOD:
            return
        self._announced[id(transfer)] = now
        if transfer.unit != "byte":
            self._line(STDERR, f"{transfer.verb} {transfer.label}: {counted(transfer)}")
            return
        speed = f"{format_bytes(transfer.done / max(now - transfer.started_at, 0.001))}/s"
        amount = format_bytes(transfer.done)
        if transfer.total:
            share = min(100, transfer.done * 100 // transfer.total)
            amount += f" of {format_bytes(transfer.total)}, {share}%"
        self._line(STDERR, f"{transfer.verb} {transfer.label}: {amount}, {speed}")


def error_document(error: PkgcError) -> dict[str, Any]:
    """An error as JSON output has it."""
    return {"code": error.code, "message": error.message, "context": error.context, "hint": error.hint}


def _origin_document(origin: Origin | None) -> dict[str, Any] | None:
    if origin is None:
        return None
    known = {"kind": origin.kind, "url": origin.url}
    return known if origin.index is None else {**known, "index": origin.index}
