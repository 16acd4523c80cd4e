"""The pages about the five complaints: each transcript is repeated and comes out as the page shows it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support.instance import Instance, clean_environment
from tests.support.pages import FOLDER, Step, carry_out, comparable, steps_of

DOCS = Path(__file__).parents[2] / "docs" / "complaints"
PAGES = ("1-changed-url", "2-hash-checking", "3-one-cache", "4-origins", "5-no-store")


def repeated(page: Path, folder: Path, env: dict[str, str]) -> None:
    """Run a page's commands and hold what they print against the page."""
    steps = steps_of(page.read_text())
    found = carry_out(steps, folder, env)
    assert comparable([step for step, _ in found]) == comparable(steps)
    for step, status in found:
        assert (status != 0) == step.fails, f"exit status {status}: {step}"


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_shows_is_what_happens(name: str, own_pkgc: Instance, tmp_path: Path) -> None:
    """A reader who repeats the page sees something else, and has no reason to believe the rest."""
    folder = tmp_path / "try"
    folder.mkdir()
    repeated(DOCS / f"{name}.md", folder, {**own_pkgc.env, "PKGC_CONFIG": str(folder / "config.toml")})


def test_the_setup_that_all_pages_ask_for() -> None:
    """Else the very first step fails, or the demonstration touches the reader's own cache."""
    # A short path: the setup puts the socket into the folder.
    folder = Path(tempfile.mkdtemp(prefix="pkgc-t-"))
    home = folder / "home"
    home.mkdir()
    try:
        repeated(DOCS / "README.md", folder, clean_environment(HOME=str(home), VIRTUAL_ENV="/nowhere"))
        assert list(home.iterdir()) == []
        assert not os.path.lexists(folder / "socket"), "the daemon is gone"
    finally:
        shutil.rmtree(folder)


def test_every_page_is_linked_and_no_link_is_dead() -> None:
    """A page that nobody finds helps nobody."""
    index = (DOCS / "README.md").read_text()
    for name in PAGES:
        assert f"({name}.md)" in index
    assert "docs/complaints/README.md" in (DOCS.parents[1] / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_comparison_sees_what_changes_and_only_that() -> None:
    """A comparison that blanks too much would call every page true."""
    digest, other = "a" * 64, "b" * 64
    transcript = "$ a b\n> c\n>\n> d\none\n\n> two\n$ e\n"
    steps = steps_of(f"text\n```sh\n$ no\n```\n```console\n{transcript}```\n")
    assert steps == [Step("a b\nc\n\nd", "one\n\n> two\n"), Step("e", "")]
    assert "".join(map(str, steps)) == transcript

    def same(text: str, changed: str) -> bool:
        return comparable([Step("x", text)]) == comparable([Step("x", changed)])

    assert same("in 3ms of 1.2 MB", "in 0.2s of 5 kB")
    assert same("127.0.0.1:1 127.0.0.1:2 127.0.0.1:1", "127.0.0.1:8 127.0.0.1:9 127.0.0.1:8")
    assert not same("127.0.0.1:1 127.0.0.1:2", "127.0.0.1:8 127.0.0.1:8")
    assert same(f"{digest} {other[:12]}…", f"{other} {digest[:12]}…")
    assert not same(f"{digest} {digest[:12]}…", f"{digest} {other[:12]}…")
    assert not same("642 kB then 642 kB", "642 kB then 643 kB")
    assert not same("Downloaded 1 file", "Downloaded 2 files")
    assert FOLDER not in comparable([Step("x", "/somewhere/else")])
