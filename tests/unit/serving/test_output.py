"""Output of a call: lines, colours, JSON; and that nothing from outside can steer a terminal."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.errors import InputError, PkgcError
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.serving.calls import ColorChoice, OutputFormat, Terminal
from pkgc_daemon.serving.output import InstalledPackage, Output, RemovedPackage, SyncResult
from pkgc_daemon.serving.text import format_bytes, format_duration, harmless, plural, shortened
from pkgc_daemon.vocabulary import Origin

TTY = Terminal(stdin=True, stdout=True, stderr=True, columns=80, rows=24)
PIPE = Terminal()
SHA = "a" * 64


class Heard:
    """A Sink that remembers."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, str]] = []
        self.blocks: list[str] = []

    def write(self, stream: int, data: str) -> None:
        self.writes.append((stream, data))

    def live(self, text: str) -> None:
        self.blocks.append(text)

    def text(self, stream: int) -> str:
        return "".join(data for to, data in self.writes if to == stream)


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(
    terminal: Terminal = PIPE,
    *,
    color: ColorChoice = "auto",
    verbosity: int = 0,
    output_format: OutputFormat = "text",
    progress: bool = True,
) -> tuple[Output, Heard, Clock]:
    heard, clock = Heard(), Clock()
    output = Output(
        heard,
        terminal,
        color=color,
        verbosity=verbosity,
        output_format=output_format,
        progress=progress,
        clock=clock,
    )
    return output, heard, clock


def result() -> SyncResult:
    return SyncResult(
        "/p/.venv",
        [
            InstalledPackage(
                "idna",
                "3.7",
                Origin("index", "https://f.example/idna.whl", "https://i.example"),
                SHA,
                "network",
            )
        ],
        [RemovedPackage("idna", "3.6")],
        96,
        {"total": 0.5},
    )


def test_output_is_a_reporter() -> None:
    reporter: Reporter = make()[0]
    reporter.count("x")


def test_summary_lines() -> None:
    output, heard, _ = make()
    output.phase("Checked", 97, seconds=0.012)
    output.phase("Fetched", 1, "file", size=54_000_000, seconds=0.6)
    assert heard.text(1) == "Checked 97 packages in 12ms\nFetched 1 file (54 MB) in 0.6s\n"
    assert heard.text(2) == ""


def test_changes_are_sorted_and_signed() -> None:
    output, heard, _ = make()
    output.changes(
        [
            InstalledPackage("zope", "1"),
            InstalledPackage("idna", "3.7"),
            InstalledPackage("reg", "1.0", reason="asked"),
            InstalledPackage("src", ""),
        ],
        [
            RemovedPackage("idna", "3.6"),
            RemovedPackage("reg", "1.0", "reg 1.0: installed by pip, origin unknown"),
            RemovedPackage("old", "2"),
        ],
    )
    assert heard.text(1).splitlines() == [
        " - idna==3.6",
        " + idna==3.7",
        " - old==2",
        " ~ reg==1.0 (installed by pip, origin unknown)",
        " + src",
        " + zope==1",
    ]


def test_an_error_has_one_form() -> None:
    output, heard, _ = make()
    output.error(PkgcError("hash-mismatch", "a.whl is wrong", context="expected: x\ngot: y", hint="ask them"))
    assert heard.writes == [
        (2, "error[hash-mismatch]: a.whl is wrong\n  expected: x\n  got: y\nhint: ask them\n")
    ]


def test_a_warning_is_given_once() -> None:
    output, heard, _ = make()
    for _ in range(2):
        output.warning("idna 3.6 is yanked", "yanked")
        output.warning("odd")
    assert heard.text(2) == "warning[yanked]: idna 3.6 is yanked\nwarning: odd\n"


def test_quiet_leaves_errors_only() -> None:
    output, heard, _ = make(TTY, verbosity=-1, color="never")
    output.started("k", "x.whl", 9_000_000)
    output.phase("Installed", 3)
    output.changes([InstalledPackage("a", "1")], [])
    output.warning("w")
    output.detail("d")
    output.error(InputError("usage", "bad"))
    output.finished("k")
    output.close()
    assert heard.writes == [(2, "error[usage]: bad\n")]
    assert heard.blocks == []


def test_details_need_verbose() -> None:
    output, heard, _ = make()
    output.detail("x")
    assert heard.writes == []
    output, heard, _ = make(verbosity=1)
    output.detail("a page")
    output.changes([InstalledPackage("a", "1", reason="not installed")], [])
    assert heard.writes == [(2, "a page\n"), (1, " + a==1 (not installed)\n")]


@pytest.mark.parametrize(
    ("terminal", "color", "stdout", "stderr"),
    [
        (TTY, "auto", True, True),
        (PIPE, "auto", False, False),
        (Terminal(stderr=True), "auto", False, True),
        (TTY, "never", False, False),
        (PIPE, "always", True, True),
    ],
)
def test_each_stream_has_colours_only_where_they_belong(
    terminal: Terminal, color: ColorChoice, stdout: bool, stderr: bool
) -> None:
    output, heard, _ = make(terminal, color=color)
    output.phase("Installed", 1)
    output.error(PkgcError("x", "y"))
    assert ("\x1b" in heard.text(1), "\x1b" in heard.text(2)) == (stdout, stderr)


def test_json_is_one_object_with_the_documented_fields() -> None:
    output, heard, _ = make(output_format="json")
    output.phase("Installed", 1)
    output.changes([InstalledPackage("a", "1")], [])
    output.count("downloaded_files")
    output.count("downloaded_bytes", 54)
    output.count("index_requests", 2)
    output.warning("w", "yanked")
    output.sync_result(result())
    output.close()
    output.close()
    assert len([data for stream, data in heard.writes if stream == 1]) == 1
    assert json.loads(heard.text(1)) == {
        "schema": 1,
        "ok": True,
        "venv": "/p/.venv",
        "dry_run": False,
        "installed": [
            {
                "name": "idna",
                "version": "3.7",
                "origin": {
                    "kind": "index",
                    "url": "https://f.example/idna.whl",
                    "index": "https://i.example",
                },
                "sha256": SHA,
                "from": "network",
                "reason": None,
            }
        ],
        "removed": [{"name": "idna", "version": "3.6", "reason": None}],
        "kept": 96,
        "downloaded": {"files": 1, "bytes": 54},
        "index_requests": 2,
        "seconds": {"total": 0.5},
        "warnings": [{"code": "yanked", "message": "w"}],
        "errors": [],
    }


def test_a_failed_sync_in_json_has_every_field_and_is_not_ok() -> None:
    output, heard, _ = make(output_format="json")
    output.sync_result(SyncResult("/p/.venv"))
    output.error(PkgcError("stalled", "no bytes", context="c", hint="h"))
    output.close()
    document = json.loads(heard.text(1))
    assert document["ok"] is False
    assert document["errors"] == [{"code": "stalled", "message": "no bytes", "context": "c", "hint": "h"}]
    assert (document["installed"], document["removed"], document["kept"]) == ([], [], 0)
    assert document["downloaded"] == {"files": 0, "bytes": 0}
    assert document["seconds"] == {"total": 0.0}
    assert "error[stalled]" in heard.text(2), "a log that keeps stderr only still says why"


def test_show_prints_text_or_json() -> None:
    def render(data: Any, _style: Any) -> str:
        return f"{data['cache']}\n"

    output, heard, _ = make(verbosity=-1)
    output.show({"cache": "/c"}, render)
    output.close()
    assert heard.writes == [(1, "/c\n")]
    output, heard, _ = make(output_format="json")
    output.show({"cache": "/c"}, render)
    output.close()
    assert json.loads(heard.text(1)) == {
        "schema": 1,
        "ok": True,
        "cache": "/c",
        "warnings": [],
        "errors": [],
    }


def test_parts_of_a_document_add_up() -> None:
    output, heard, _ = make(output_format="json")
    output.document_parts({"fetched": []})
    output.document_parts({"seconds": {"total": 1.0}})
    output.close()
    document = json.loads(heard.text(1))
    assert (document["fetched"], document["seconds"]) == ([], {"total": 1.0})
    assert document["downloaded"] == {"files": 0, "bytes": 0}


def test_large_downloads_have_lines_without_a_terminal() -> None:
    output, heard, clock = make()
    output.started("t", "torch-2.whl", 800_000_000)
    output.started("i", "idna.whl", 60_000)
    output.advanced("i", 60_000)
    output.finished("i")
    for _ in range(25):
        clock.now += 1
        output.advanced("t", 32_000_000)
    output.finished("t")
    output.close()
    assert heard.blocks == []
    assert heard.text(1) == ""
    assert heard.text(2).splitlines() == [
        "Downloading torch-2.whl (800 MB)",
        "Downloading torch-2.whl: 320 MB of 800 MB, 40%, 32 MB/s",
        "Downloading torch-2.whl: 640 MB of 800 MB, 80%, 32 MB/s",
        "Downloaded torch-2.whl (800 MB in 25s)",
    ]


def test_a_download_that_was_cut_is_not_called_downloaded() -> None:
    output, heard, _ = make()
    output.started("t", "t.whl", 5_000_000)
    output.advanced("t", 10)
    output.finished("t")
    assert heard.text(2) == "Downloading t.whl (5.0 MB)\n"


def test_work_that_is_no_download_has_its_own_words() -> None:
    output, heard, _ = make()
    output.started("v", "the cache", 5_000_000, verb="Verifying", past="Verified")
    output.advanced("v", 5_000_000)
    output.finished("v")
    assert heard.text(2) == "Verifying the cache (5.0 MB)\nVerified the cache (5.0 MB in 1ms)\n"


def test_a_stalled_download_still_speaks_up() -> None:
    output, heard, clock = make()
    output.started("t", "t.whl", None)
    clock.now += 11
    output.tick()
    output.finished("t")
    assert heard.text(2) == "Downloading t.whl\n", "nothing came: it is not called downloaded"


def test_without_progress_there_are_neither_lines_nor_blocks() -> None:
    for terminal in (TTY, PIPE):
        output, heard, clock = make(terminal, progress=False)
        output.started("t", "t.whl", 5_000_000)
        clock.now += 20
        output.tick()
        output.finished("t")
        output.close()
        assert (heard.writes, heard.blocks) == ([], [])


def test_a_terminal_gets_a_block_that_goes_away() -> None:
    output, heard, clock = make(TTY, color="never")
    output.started("t", "t.whl", 5_000_000)
    clock.now += 0.2
    output.advanced("t", 2_500_000)
    assert "t.whl" in heard.blocks[-1]
    assert "2.5 MB / 5.0 MB" in heard.blocks[-1]
    output.finished("t")
    output.close()
    assert heard.blocks[-1] == ""
    assert heard.writes == []


HOSTILE = "\x1b]0;owned\x07\x9b2J\r\u202etxt\u2028\x7f\ud800\u200b"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\ud800-\udfff\u200b]")


def test_hostile_text_is_harmless_everywhere() -> None:
    """A package name, an index's answer or a file name must not write to the user's terminal."""
    for output_format in ("text", "json"):
        output, heard, clock = make(
            Terminal(stdout=True, stderr=True), color="never", verbosity=2, output_format=output_format
        )
        output.started("k", HOSTILE, 5_000_000)
        clock.now += 1
        output.tick()
        output.warning(HOSTILE, HOSTILE)
        output.detail(HOSTILE)
        output.say(HOSTILE)
        output.changes(
            [InstalledPackage(HOSTILE, HOSTILE, reason=HOSTILE)], [RemovedPackage(HOSTILE, "1", HOSTILE)]
        )
        output.sync_result(SyncResult(HOSTILE, [InstalledPackage(HOSTILE, HOSTILE)]))
        output.error(PkgcError("x", HOSTILE, context=HOSTILE, hint=HOSTILE))
        output.close()
        everything = heard.text(1) + heard.text(2) + "".join(heard.blocks)
        assert not UNSAFE.search(everything)
        everything.encode()


@given(st.text())
def test_harmless_text_is_one_encodable_line_and_stays_as_it_is(text: str) -> None:
    safe = harmless(text)
    assert not UNSAFE.search(safe)
    assert "\n" not in safe
    assert safe.encode()[:0] == b""
    assert harmless(safe) == safe


def test_names_in_other_scripts_are_left_alone() -> None:
    assert harmless("Größe 日本 🐍 naïve") == "Größe 日本 🐍 naïve"


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9_949, "9.9 kB"), (54_321_000, "54 MB"), (3e9, "3.0 GB"),
     (999_999, "1.0 MB"), (-4, "0 B")],
)  # fmt: skip
def test_sizes(amount: float, text: str) -> None:
    assert format_bytes(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1ms"), (0.012, "12ms"), (0.0996, "0.1s"), (0.64, "0.6s"), (9.96, "10s"), (59.7, "1m 00s"),
     (185, "3m 05s"), (7380, "2h 03m")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_words() -> None:
    assert (plural(1, "file"), plural(0, "file"), plural(2, "entry")) == ("1 file", "0 files", "2 entries")
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("日本語日本語", 5) in ("日…語", "日…語 ")
