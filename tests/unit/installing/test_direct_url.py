"""direct_url.json: what pip, uv and the next sync believe of where a package came from (PEP 610, D5)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.direct_url import DirectUrl

from pkgc_daemon.environments.provenance import read_provenance
from pkgc_daemon.environments.scan import installed_from_wire, scan_environment
from pkgc_daemon.installing.plan import make_plan
from pkgc_daemon.installing.records import direct_url, mismatches, read_record, recorded_url
from pkgc_daemon.vocabulary import (
    ArchiveSource,
    Digest,
    DirectorySource,
    DirectSource,
    Installed,
    SourceState,
    VcsSource,
    Wanted,
    settings_key,
)
from tests.support.wheels import make_wheel
from tests.unit.installing.trees import Env

SHA = Digest("sha256", "ab" * 32)
LONG = Digest("sha512", "cd" * 64)
MD5 = Digest("md5", "ef" * 16)
COMMIT = "12ab" * 10
FAST = (("--opt", "x"), ("--opt", "y"))

RECORDS: list[tuple[DirectSource, SourceState, dict[str, Any]]] = [
    (
        ArchiveSource("https://u:pw@h.example/a.zip#sha256=1", subdirectory="py", integrity=frozenset({MD5})),
        SourceState(frozenset({SHA, LONG})),
        {
            "url": "https://h.example/a.zip",
            "archive_info": {"hashes": {"sha256": SHA.hex, "sha512": LONG.hex, "md5": MD5.hex}},
            "subdirectory": "py",
        },
    ),
    (
        ArchiveSource("file:///w/not%20this", path="/w/my files/ä?.whl"),
        SourceState(frozenset({SHA})),
        {"url": "file:///w/my%20files/%C3%A4%3F.whl", "archive_info": {"hashes": {"sha256": SHA.hex}}},
    ),
    (
        DirectorySource("/w/src", editable=True),
        SourceState(fingerprint="f1"),
        {"url": "file:///w/src", "dir_info": {"editable": True}, "pkgc": {"source": "f1"}},
    ),
    (
        DirectorySource("/w/src", subdirectory="b"),
        SourceState(fingerprint="f1"),
        {"url": "file:///w/src", "dir_info": {}, "subdirectory": "b", "pkgc": {"source": "f1"}},
    ),
    (
        VcsSource("ssh://git@h.example/r.git", "main", subdirectory="py"),
        SourceState(commit=COMMIT),
        {
            "url": "ssh://git@h.example/r.git",
            "vcs_info": {"vcs": "git", "commit_id": COMMIT, "requested_revision": "main"},
            "subdirectory": "py",
        },
    ),
    (
        VcsSource("https://${USER}:${TOKEN}@h.example/r.git", commit=COMMIT.upper()),
        SourceState(),
        {"url": "https://${USER}:${TOKEN}@h.example/r.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}},
    ),
]


@pytest.mark.parametrize(("source", "state", "expected"), RECORDS)
def test_records_follow_the_specification(
    source: DirectSource, state: SourceState, expected: dict[str, Any], tmp_path: Path
) -> None:
    """pip and uv must read them, and the next sync must find again what it compares."""
    record = direct_url(source, state)
    assert record == expected
    parsed = DirectUrl.from_dict(record)
    parsed.validate()
    # packaging takes no credentials out: none were left
    assert dict(parsed.to_dict()) == {key: value for key, value in expected.items() if key != "pkgc"}
    pip = pytest.importorskip("pip._internal.models.direct_url").DirectUrl
    assert pip.from_json(json.dumps(record)).url == expected["url"]
    built = direct_url(source, state, FAST)
    assert built["pkgc"]["settings"] == settings_key(FAST)

    # what was written satisfies what it was written for
    for settings, told in (((), record), (FAST, built)):
        (tmp_path / "direct_url.json").write_text(json.dumps(told))
        wire = {
            "name": "demo",
            "version": "1.0",
            "dist_info": str(tmp_path),
            "installer": "pkgc",
            "hashes": [],
            "origin": None,
            "removable": True,
            "damaged": None,
            **read_provenance(str(tmp_path)),
        }
        installed = installed_from_wire({"distributions": [wire]})
        want = Wanted("demo", "", source=source, settings=settings)
        states = {"demo": state}
        assert make_plan([want], installed, seeded=False, states=states).is_noop


def test_a_repository_without_a_commit_is_never_recorded() -> None:
    """Such a record would pass for any commit."""
    with pytest.raises(ValueError, match="no commit"):
        direct_url(VcsSource("https://h.example/r"), SourceState())


@pytest.mark.parametrize(
    ("url", "recorded"),
    [
        ("https://h/a", "https://h/a"),
        ("https://user@h/a", "https://h/a"),
        ("https://user:p#w@h/a", "https://***@h/a"),
        ("https://git@evil:pw@h/a", "https://h/a"),
        ("https://${A}@h/a", "https://${A}@h/a"),
        ("https://${A}:secret@h/a", "https://h/a"),
        ("ssh://git@h:22/a#subdirectory=x", "ssh://git@h:22/a"),
        ("ssh://git:pw@h/a", "ssh://h/a"),
        ("https://h/a?token=secret&x=1", "https://h/a?token=***&x=1"),
        ("https://git@h/a?sig=secret", "https://git@h/a?sig=***"),
    ],
)
def test_no_credentials_are_written_into_environments(url: str, recorded: str) -> None:
    """Invariant 8: environments are copied into images."""
    assert recorded_url(url) == recorded


@given(
    user=st.text("abc${}_:/?#", max_size=6),
    scheme=st.sampled_from(["https", "ssh", "git"]),
)
def test_no_password_survives_whatever_its_characters(user: str, scheme: str) -> None:
    """Invariant 8."""
    assert "hunter2" not in recorded_url(f"{scheme}://{user}:hunter2@h.example/x")
    assert "hunter2" not in recorded_url(f"{scheme}://hunter2{user}@h.example/x")


def test_installing_writes_one_of_the_two_records(tmp_path: Path) -> None:
    """PEP 710: never both; RECORD lists what is there, so that others can uninstall it."""
    env = Env(tmp_path)
    wheel = make_wheel("demo", "1.0", {"demo.py": "x = 1\n"})
    record = direct_url(DirectorySource("/w/src", editable=True), SourceState(fingerprint="f1"), FAST)
    env.apply([env.item(wheel, direct_url=record)])
    info = env.site / "demo-1.0.dist-info"
    assert json.loads((info / "direct_url.json").read_text()) == record
    assert not (info / "provenance_url.json").exists()
    assert (info / "REQUESTED").exists()
    lines = read_record(str(info))
    assert lines is not None
    assert f"{info.name}/direct_url.json" in {line.path for line in lines}
    assert list(mismatches(str(env.prefix), str(env.site), lines)) == []
    found = _installed(env)
    assert (found.direct, found.editable, found.fingerprint) == (True, True, "f1")
    assert found.settings == settings_key(FAST)

    env.apply([wheel], remove=["demo-1.0.dist-info"])
    assert not (info / "direct_url.json").exists()
    assert (info / "provenance_url.json").exists()
    assert not _installed(env).direct


def _installed(env: Env) -> Installed:
    paths = env.interpreter["paths"]
    args = {"prefix": str(env.prefix), "purelib": paths["purelib"], "platlib": paths["platlib"]}
    (found,) = installed_from_wire(scan_environment(args))
    return found


def test_what_pip_installs_directly_is_read(tmp_path: Path) -> None:
    """D7: a wheel that pip installed from a file counts with the hash that pip recorded, and only with it."""
    env = Env(tmp_path)
    wheel = make_wheel("demo", "1.0", {"demo.py": "x = 1\n"})
    path = tmp_path / wheel.filename
    path.write_bytes(wheel.data)
    command = [sys.executable, "-m", "pip", "--python", str(env.prefix), "install", "-q", "--no-index"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([*command, "--no-deps", str(path)], check=True, env=environment)
    found = _installed(env)
    sha256 = Digest("sha256", wheel.sha256)
    assert (found.installer, found.direct, found.hashes) == ("pip", True, frozenset({sha256}))
    want = Wanted("demo", "", source=ArchiveSource(path.as_uri(), str(path)))
    for digest, noop in ((sha256, True), (SHA, False)):
        states = {"demo": SourceState(frozenset({digest}))}
        assert make_plan([want], [found], seeded=False, states=states).is_noop is noop
