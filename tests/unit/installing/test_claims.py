"""Claims: whose RECORD is read when a distribution leaves. A wrong "not mine" removes a file of another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.installing import claims
from pkgc_daemon.installing.claims import claims_of, may_own
from pkgc_daemon.installing.layout import Layout
from pkgc_daemon.installing.uninstall import owners_of

SITE = "lib/python3.11/site-packages"
INFO = f"{SITE}/one-1.dist-info"
OLD = 1_600_000_000


def layout_at(prefix: Path) -> Layout:
    return Layout(str(prefix), SITE, SITE, "bin", "", "include/site/python3.11")


def write_record(prefix: Path, *lines: str, age: int = OLD) -> Path:
    folder = prefix / INFO
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "RECORD"
    record.write_text("".join(f"{line}\n" for line in lines))
    os.utime(record, (age, age))
    return record


def test_a_folder_in_common_is_noticed(tmp_path: Path) -> None:
    """Else the file that both own goes with the one that leaves."""
    write_record(tmp_path, "one/a.py,,", "../../../share/x/y.txt,,", "../../../bin/tool,,")
    layout = layout_at(tmp_path)
    for path in (f"{SITE}/one/b.py", "share/x/z.txt", "bin/tool"):
        assert may_own(layout, INFO, claims_of(layout, [path])), path
    for path in (f"{SITE}/other/b.py", "share/z.txt", "bin/another", f"{SITE}/six.py"):
        assert not may_own(layout, INFO, claims_of(layout, [path])), path


@pytest.mark.parametrize(
    "line",
    [
        "./one/a.py,,",
        "one/../two/a.py,,",
        '"one/a,b.py",,',
        "one//a.py,,",
        "../site-packages/two/a.py,,",
        "/somewhere/a.py,,",
        "../../../../outside,,",
    ],
)
def test_what_is_written_in_another_way_is_parsed(tmp_path: Path, line: str) -> None:
    """A path may be written in many ways; only the plain ones can be compared as text."""
    write_record(tmp_path, "one/b.py,,", line)
    layout = layout_at(tmp_path)
    assert may_own(layout, INFO, claims_of(layout, [f"{SITE}/nowhere/x.py"]))


def test_a_record_that_was_edited_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another tool may add a file at any time."""
    monkeypatch.setattr(claims, "_SETTLED", -(10**18))  # remembered at once
    layout = layout_at(tmp_path)
    write_record(tmp_path, "one/a.py,,")
    about = claims_of(layout, [f"{SITE}/two/a.py"])
    assert not may_own(layout, INFO, about)
    write_record(tmp_path, "two/a.py,,", age=OLD + 1)
    assert may_own(layout, INFO, about)


def test_what_was_just_written_is_not_remembered(tmp_path: Path) -> None:
    """A second write within the clock's tick would leave time and size as they are."""
    layout = layout_at(tmp_path)
    write_record(tmp_path, "one/a.py,,")
    may_own(layout, INFO, frozenset())
    assert (str(tmp_path / INFO), "bin") not in claims._known


def test_without_a_record_others_find_out(tmp_path: Path) -> None:
    """A legacy distribution lists its files elsewhere."""
    assert may_own(layout_at(tmp_path), f"{SITE}/old-1.egg-info", frozenset())


NAMES = st.text("ab.-_", min_size=1, max_size=3)


@given(
    kept=st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=6),
    back=st.booleans(),
    asked=st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=4),
)
def test_leaving_some_out_changes_no_answer(
    tmp_path_factory: pytest.TempPathFactory, kept: list[str], back: bool, asked: list[str]
) -> None:
    """Of the asked paths, owners are the same whether all RECORDs are read or only those of `may_own`."""
    prefix = tmp_path_factory.mktemp("env")
    start = "../../../share/" if back else ""
    write_record(prefix, *(f"{start}{path},," for path in kept))
    layout = layout_at(prefix)
    paths = [f"{SITE}/{path}" for path in asked] + [f"share/{path}" for path in asked]
    paths = [os.path.normpath(path) for path in paths]
    every = owners_of(layout, ())
    some = owners_of(layout, (), claims_of(layout, paths))
    assert {path: every.get(path) for path in paths} == {path: some.get(path) for path in paths}
