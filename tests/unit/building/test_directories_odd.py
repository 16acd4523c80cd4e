"""Source trees in which something else lies in place of a file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pkgc_daemon.building import directories
from pkgc_daemon.building.directories import fingerprint_editable


@pytest.mark.parametrize("name", ["MANIFEST.in", "pyproject.toml", "setup.cfg"])
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder"])
@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_read(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread of the daemon would wait for ever, or read for ever."""
    without = fingerprint_editable(str(tmp_path), str(tmp_path))
    monkeypatch.setattr(directories, "fingerprint_tree", lambda *_: "")
    plain = fingerprint_editable(str(tmp_path), str(tmp_path))
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(name)
    else:
        path.mkdir()
    assert fingerprint_editable(str(tmp_path), str(tmp_path)) == plain != without


def test_a_huge_project_file_counts_by_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of a terabyte must not be hashed; a change of it shows all the same."""
    monkeypatch.setattr(directories, "fingerprint_tree", lambda *_: "")
    with (tmp_path / "MANIFEST.in").open("wb") as file:
        file.truncate(1 << 40)
    first = fingerprint_editable(str(tmp_path), str(tmp_path))
    assert first == fingerprint_editable(str(tmp_path), str(tmp_path))
    os.truncate(tmp_path / "MANIFEST.in", (1 << 40) + 1)
    assert first != fingerprint_editable(str(tmp_path), str(tmp_path))
