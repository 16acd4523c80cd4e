"""Help and docs/commands.md: complete, made from the one table, the same on every machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pkgc_daemon.serving.calls import Answer, Terminal
from pkgc_daemon.serving.cli import parse
from pkgc_daemon.serving.help import help_text, wants_help
from pkgc_daemon.serving.options import COMMANDS, OPTIONS
from pkgc_daemon.serving.reference import commands_page
from pkgc_daemon.serving.text import cells

COMMANDS_PAGE = Path(__file__).parents[3] / "docs" / "commands.md"


def test_the_help_of_pkgc_names_every_command() -> None:
    got = help_text(["--help"])
    assert (got.stream, got.exit) == (1, 0)
    for name, command in COMMANDS.items():
        assert name in got.text
        assert command.summary in got.text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_names_all_its_options(name: str) -> None:
    text = help_text([*name.split(), "--help"]).text
    assert f"pkgc {COMMANDS[name].usage}" in text
    for key in COMMANDS[name].options:
        assert OPTIONS[key].flag in text
    for spelling, meaning in COMMANDS[name].own_options:
        assert spelling in text
        assert meaning in text


def test_help_fits_the_terminal_and_is_not_wrapped_without_one() -> None:
    for argv in ([], ["sync"], ["cache"], ["fetch"]):
        narrow = help_text(argv, columns=60).text.splitlines()
        assert max(map(cells, narrow)) <= 60
    assert OPTIONS["index-url"].default in help_text(["sync"]).text


def test_help_is_asked_for_anywhere_but_after_two_dashes() -> None:
    assert wants_help(["sync", "x", "-h"])
    assert wants_help(["help", "sync"])
    assert not wants_help(["sync", "--", "-h"])
    for argv in (["sync", "--venv", "x", "--help"], ["help", "sync"]):
        got = parse(argv, {}, "/", Terminal())
        assert isinstance(got, Answer)
        assert "pkgc sync [OPTIONS]" in got.text


def test_colours_of_help_follow_the_terminal() -> None:
    on, off = Terminal(stdout=True), Terminal()
    texts = [
        parse(["--help"], env, "/", terminal)
        for env, terminal in (({}, on), ({}, off), ({"NO_COLOR": "1"}, on), ({"FORCE_COLOR": "1"}, off))
    ]
    assert ["\x1b" in text.text for text in texts if isinstance(text, Answer)] == [True, False, False, True]


def test_help_needs_neither_typer_nor_rich() -> None:
    """The client prints it without a daemon; the imports would cost more than the whole call."""
    code = (
        "import sys; from pkgc_daemon.serving.help import help_text; help_text(['sync']); "
        "print(sorted({'typer', 'rich', 'click', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_docs_commands_is_what_the_table_says() -> None:
    """Mend with: python -m pkgc_daemon.serving.reference docs/commands.md"""
    assert COMMANDS_PAGE.read_text(encoding="utf-8") == commands_page()
