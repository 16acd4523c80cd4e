"""How a daemon reads its own command line, and what it loads before it listens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pkgc_daemon.serving import run


@pytest.mark.parametrize("idle", ["0", "1800", "0.5", "-1"])
def test_the_short_way_reads_as_the_long_one(idle: str) -> None:
    """A daemon started by a client must run as one that a person starts with the same words."""
    words = ["--socket", "s/p", "--cache-dir", "/c", "--idle-exit", idle, "--started-by-client"]
    assert run._as_clients_write(words) == run._as_people_write(words)
    assert run.parse(words).socket == Path("s/p").absolute()


@pytest.mark.parametrize(
    "words",
    [
        ["--socket", "/s", "--cache-dir", "/c"],
        ["--cache-dir", "/c", "--socket", "/s", "--idle-exit", "1", "--started-by-client"],
        ["--socket", "/s", "--cache-dir", "/c", "--idle-exit", "x", "--started-by-client"],
    ],
)
def test_other_words_go_the_long_way(words: list[str]) -> None:
    """Whatever is not exactly the client's own order of words is read, or refused, with a message."""
    assert run._as_clients_write(words) is None


def test_what_a_first_call_may_do_without_is_not_loaded() -> None:
    """The HTTP library alone is a tenth of a second before the first answer."""
    code = (
        "import sys, pkgc_daemon.serving.run, pkgc_daemon.serving.commands as c; c.warm_up()\n"
        "heavy = {'aiohttp', 'argparse', 'truststore', 'email', 'pydantic', 'rich', 'http.client'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]", done.stdout
