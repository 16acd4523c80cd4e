"""The work folder of a build: private, marked, removed, and never anybody else's."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pkgc_daemon.building.work import LOG, MARKER, STALE_AFTER, begin_build, check_work, end_build
from pkgc_daemon.errors import PkgcError


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TMPDIR of the test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_work_folder_is_private_and_goes_away(temporary: Path) -> None:
    """Else other users of the machine read, or change, the source while it is built; or /tmp fills up."""
    work = Path(begin_build({})["work"])
    assert work.parent == temporary
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
    assert check_work(str(work)) == str(work)
    inner = work / "source" / "locked"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    os.chmod(inner, 0o500)
    assert end_build({"work": str(work), "keep_log": False}) == {"log": None, "left": False}
    assert not work.exists()


def test_the_log_is_kept_when_asked_for(temporary: Path) -> None:
    """Else the hint of a failed build names a file that is not there."""
    work = Path(begin_build({})["work"])
    (work / LOG).write_text("error: no compiler\n")
    (work / "source").mkdir()
    found = end_build({"work": str(work), "keep_log": True})
    assert found == {"log": str(work / LOG), "left": False}
    assert sorted(os.listdir(work)) == sorted([LOG, MARKER])
    assert end_build({"work": str(work), "keep_log": False})["log"] is None
    assert not work.exists()


def test_a_log_that_is_not_there_is_not_kept(temporary: Path) -> None:
    """Else every build that failed before its first hook leaves a folder."""
    work = begin_build({})["work"]
    assert end_build({"work": work, "keep_log": True})["log"] is None
    assert not os.path.exists(work)


@pytest.mark.parametrize("kind", ["unmarked", "other-name", "link", "relative", "none", "marker-link"])
def test_only_folders_of_begin_build_are_removed(temporary: Path, tmp_path: Path, kind: str) -> None:
    """Else a wrong path from a daemon costs the person a directory."""
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    path: object = str(precious)
    if kind == "unmarked":
        path = str(precious.rename(temporary / "pkgc-build-mine"))
        precious = Path(str(path))
    elif kind == "other-name":
        (precious / MARKER).write_text("{}")
    elif kind == "link":
        (precious / MARKER).write_text("{}")
        link = temporary / "pkgc-build-link"
        link.symlink_to(precious)
        path = str(link)
    elif kind == "relative":
        path = "pkgc-build-x"
    elif kind == "none":
        path = None
    else:
        precious = precious.rename(temporary / "pkgc-build-mine")
        target = tmp_path / "marker"
        target.write_text("{}")
        (precious / MARKER).symlink_to(target)
        path = str(precious)
    with pytest.raises(PkgcError) as failure:
        end_build({"work": path, "keep_log": False})
    assert failure.value.code == "not-a-work-folder"
    assert (precious / "thesis.tex").read_text() == "years of work"


def _age(work: Path, **changes: object) -> None:
    marker = json.loads((work / MARKER).read_text())
    (work / MARKER).write_text(json.dumps(marker | changes))
    old = time.time() - STALE_AFTER - 60
    os.utime(work / MARKER, (old, old))


def test_leftovers_of_killed_clients_are_swept(temporary: Path) -> None:
    """Else every killed client leaves a source tree and an environment in /tmp for ever."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    pid = int(ended.stdout)
    dead, killed, log, alive, elsewhere, recycled = (Path(begin_build({})["work"]) for _ in range(6))
    (killed / "source").mkdir()
    (log / LOG).write_text("why it failed")
    _age(dead, pid=pid)
    _age(alive)
    _age(elsewhere, pid=pid, pids="pid:[1]")
    _age(recycled, started="1")
    for young in (killed, log):
        marker = json.loads((young / MARKER).read_text())
        (young / MARKER).write_text(json.dumps(marker | {"pid": pid}))
    foreign = temporary / "pkgc-build-foreign"
    foreign.mkdir()
    begin_build({})
    assert not dead.exists()
    assert not recycled.exists(), "another process has the number of the one that is gone"
    assert not killed.exists(), "nobody waits for what was being built there"
    assert log.exists(), "a log can be read for a day"
    assert alive.exists()
    assert elsewhere.exists(), "its number means another process in its container"
    assert foreign.exists()


def test_no_temporary_folder_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else a wrong TMPDIR shows as a traceback."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(PkgcError) as failure:
        begin_build({})
    assert failure.value.code == "no-work-folder"
    assert "TMPDIR" in (failure.value.hint or "")
