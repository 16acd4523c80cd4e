"""RECORD is what a stranger wrote: whatever it says, removal stays inside the environment (D3)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.apply import recover_environment
from pkgc_daemon.installing.layout import WORK, layout_of
from pkgc_daemon.installing.uninstall import Leaving, find_removals, owned_files
from tests.support.wheels import make_wheel
from tests.unit.installing.trees import SITE, Env

PIECES = st.sampled_from(
    [
        "..",
        ".",
        "",
        "/",
        "bin",
        "python",
        "pyvenv.cfg",
        "lib64",
        "lib",
        "a.py",
        "demo",
        "\\",
        "\0",
        '"',
        ",",
        "é",
    ]
)
PATHS = st.lists(PIECES, min_size=1, max_size=9).map("/".join) | st.text(max_size=30)


@settings(max_examples=300, deadline=None)
@given(st.lists(PATHS, max_size=6))
def test_no_record_reaches_outside(paths: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        env = Env(Path(folder))
        layout = layout_of(env.interpreter)
        info = env.site / "demo-1.dist-info"
        info.mkdir()
        lines = "".join(f"{path},,\n" for path in paths)
        (info / "RECORD").write_text(lines, encoding="utf-8", errors="surrogateescape")
        try:
            owned = owned_files(layout, f"{SITE}/demo-1.dist-info") or {}
        except PkgcError:
            # Not csv: then nothing at all is removed.
            return
        for path in owned:
            full = os.path.normpath(os.path.join(layout.prefix, path))
            assert full.startswith(layout.prefix + "/")
            assert not layout.is_reserved(path)
        removals = find_removals(layout, [Leaving("demo", "1", f"{SITE}/demo-1.dist-info")], ())
        assert set(removals) == {f"{SITE}/demo-1.dist-info"}


def test_the_symlink_lib64_is_the_environments_own(tmp_path: Path) -> None:
    env = Env(tmp_path)
    env.apply([make_wheel("demo", "1")])
    with (env.site / "demo-1.dist-info" / "RECORD").open("a") as record:
        record.write("../../../lib64,,\n")
    env.apply(remove=["demo-1.dist-info"])
    assert (env.prefix / "lib64").is_symlink()


def test_a_record_that_is_no_csv_stops_only_its_own_removal(tmp_path: Path) -> None:
    env = Env(tmp_path)
    env.apply([make_wheel("demo", "1"), make_wheel("other", "1")])
    (env.site / "demo-1.dist-info" / "RECORD").write_text('"' + "x" * 200_000)
    before = env.state()
    with pytest.raises(PkgcError) as caught:
        env.apply(remove=["demo-1.dist-info"])
    assert caught.value.code == "bad-record"
    assert env.state() == before
    assert env.apply(remove=["other-1.dist-info"])["status"] == "done"


def test_a_journal_behind_a_symlink_is_not_obeyed(tmp_path: Path) -> None:
    """Else a prepared folder makes the next sync move files that another environment needs."""
    env = Env(tmp_path)
    other = tmp_path / "other"
    (other / "old" / "bin").mkdir(parents=True)
    (other / "old" / "bin" / "x").write_text("")
    (other / "journal").write_text(
        '{"schema": 1, "boot": "", "touched": [], "operations": [["aside", "bin/x"]]}'
    )
    (env.prefix / WORK).symlink_to(other)
    recover_environment({"interpreter": env.interpreter})
    assert (other / "old" / "bin" / "x").exists()
    assert not (env.prefix / "bin" / "x").exists()
    assert not (env.prefix / WORK).is_symlink()


def test_paths_that_leave_the_prefix_are_refused(tmp_path: Path) -> None:
    """A system interpreter's folders are no environment; /venv-evil is not inside /venv."""
    env = Env(tmp_path)
    for key in ("purelib", "scripts"):
        paths = {**env.interpreter["paths"], key: f"{env.prefix}-evil/x"}
        with pytest.raises(PkgcError) as caught:
            layout_of({**env.interpreter, "paths": paths})
        assert caught.value.code == "outside-environment"
