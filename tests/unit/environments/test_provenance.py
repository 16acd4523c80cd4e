"""What is read of direct_url.json and provenance_url.json: it decides whether a package may stay (D5, D7)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pkgc_daemon.environments.provenance import read_provenance
from pkgc_daemon.environments.scan import installed_from_wire
from pkgc_daemon.vocabulary import Digest, Installed, Origin

SHA, OTHER, LONG = "ab" * 32, "cd" * 32, "ef" * 64
BOTH = {Digest("sha256", SHA), Digest("sha512", LONG)}
PIN = {"pkgc": {"index": "https://i.example/simple/"}}


def installed(folder: Path, name: str, told: Any) -> Installed:
    (folder / name).write_text(told if isinstance(told, str) else json.dumps(told))
    wire = {
        "name": "demo",
        "version": "1.0",
        "dist_info": str(folder),
        "installer": None,
        "hashes": [],
        "origin": None,
        "removable": True,
        "damaged": None,
        **read_provenance(str(folder)),
    }
    (found,) = installed_from_wire({"distributions": [wire]})
    return found


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {"url": "https://u:pw@h/d.whl", "archive_info": {"hashes": {"SHA256": SHA.upper()}}},
            {"origin": Origin("url", "https://h/d.whl"), "hashes": {Digest("sha256", SHA)}},
        ),
        (
            {"url": "https://h/d.whl", "archive_info": {"hash": f"sha256={SHA}"}},
            {"origin": Origin("url", "https://h/d.whl"), "hashes": {Digest("sha256", SHA)}},
        ),
        (
            {
                "url": "https://h/d.whl",
                "archive_info": {"hash": f"sha256={SHA}", "hashes": {"sha256": SHA, "sha512": LONG}},
            },
            {"origin": Origin("url", "https://h/d.whl"), "hashes": BOTH},
        ),
        (  # uv
            {"url": "https://h/d.whl", "archive_info": {}},
            {"origin": Origin("url", "https://h/d.whl")},
        ),
        (
            {"url": "file:///d.zip", "archive_info": {}, "subdirectory": "py", "pkgc": {"settings": "s1"}},
            {"origin": Origin("path", "file:///d.zip"), "subdirectory": "py", "settings": "s1"},
        ),
        (
            {"url": "file:///d", "dir_info": {"editable": True}},
            {"origin": Origin("directory", "file:///d"), "editable": True},
        ),
        (
            {"url": "file:///d", "dir_info": {}, "pkgc": {"source": "f1", "settings": "s1"}},
            {"origin": Origin("directory", "file:///d"), "fingerprint": "f1", "settings": "s1"},
        ),
        (
            {
                "url": "https://git@h/r",
                "vcs_info": {"vcs": "git", "commit_id": "ABC", "requested_revision": "main"},
            },
            {"origin": Origin("vcs", "https://h/r"), "commit": "abc", "requested": "main"},
        ),
        (
            {"url": "https://h/r", "vcs_info": {"vcs": "git", "commit_id": "abc"}, "dir_info": None},
            {"origin": Origin("vcs", "https://h/r"), "commit": "abc"},
        ),
    ],
)
def test_direct_urls_of_every_kind(told: Any, expected: dict[str, Any], tmp_path: Path) -> None:
    """D5: else an unchanged package is reinstalled at every sync, or a changed one never."""
    fields = {"hashes": frozenset(), **expected, "direct": True}
    fields["hashes"] = frozenset(fields["hashes"])
    assert installed(tmp_path, "direct_url.json", told) == Installed("demo", "1.0", str(tmp_path), **fields)


@pytest.mark.parametrize(
    "hashes",
    [
        {"hash": f"sha256={SHA}", "hashes": {"sha256": OTHER}},
        {"hash": f"sha256={SHA}", "hashes": {"sha512": LONG}},
        {"hash": 3, "hashes": []},
        {"hash": "sha256"},
    ],
)
def test_hashes_that_disagree_count_for_nothing(hashes: Any, tmp_path: Path) -> None:
    """D5: one of the two is wrong; taking the other would be a guess about what runs."""
    found = installed(tmp_path, "direct_url.json", {"url": "https://h/d.whl", "archive_info": hashes})
    assert found.hashes == frozenset()
    assert found.origin == Origin("url", "https://h/d.whl")


@pytest.mark.parametrize(
    "told",
    [
        "",
        "[]",
        "{}",
        {"url": 3, "archive_info": {}},
        {"url": "", "archive_info": {}},
        {"url": "https://h/d"},
        {"url": "https://h/d", "archive_info": {}, "dir_info": {}},
        {"url": "https://h/d", "archive_info": []},
        {"url": "https://h/d", "dir_info": {}},
        {"url": "https://h/d", "vcs_info": {"vcs": "git"}},
        {"url": "https://h/d", "vcs_info": {"commit_id": "a"}},
        {"url": "https://h/d", "vcs_info": {"vcs": "git", "commit_id": "a", "requested_revision": 1}},
        {"url": "https://h/d", "archive_info": {}, "subdirectory": ["x"]},
        {"url": "file:///d", "dir_info": {}, "pkgc": {"source": "\ud800"}},
    ],
)
def test_what_breaks_the_specification_is_of_unknown_origin(told: Any, tmp_path: Path) -> None:
    """It stays a direct install, which no pin from an index accepts."""
    found = installed(tmp_path, "direct_url.json", told)
    assert found == Installed("demo", "1.0", str(tmp_path), direct=True)


def test_a_wheel_built_from_an_sdist_has_the_sdists_hashes(tmp_path: Path) -> None:
    """H10: comparing the built wheel's own hash would reinstall it at every sync."""
    told = {
        "url": "https://h/d-1.0.tar.gz",
        "archive_info": {"hashes": {"sha256": SHA}},
        "pkgc": {"index": "https://u:pw@i.example/simple/", "built": True, "settings": "s1"},
    }
    found = installed(tmp_path, "provenance_url.json", told)
    assert found.hashes == {Digest("sha256", SHA)}
    assert found.origin == Origin("index", "https://h/d-1.0.tar.gz", "https://i.example/simple/")
    assert (found.direct, found.settings) == (False, "s1")
    told["pkgc"] = {"index": "https://i.example/simple/", "built": True}
    found = installed(tmp_path, "provenance_url.json", told)
    assert found.settings == "", "else it cannot be told from a wheel, which no settings change"


def test_a_local_file_is_no_file_of_an_index(tmp_path: Path) -> None:
    """A hash may be satisfied by a file of the user's: `pkgc why` must not send people to an index."""
    told = {"url": "file:///w/d-1.0-py3-none-any.whl", "archive_info": {"hashes": {"sha256": SHA}}}
    found = installed(tmp_path, "provenance_url.json", told)
    assert (found.origin, found.direct) == (Origin("path", "file:///w/d-1.0-py3-none-any.whl"), False)
    found = installed(tmp_path, "provenance_url.json", told | {"pkgc": {"index": "/w", "kind": "find-links"}})
    assert found.origin == Origin("find-links", "file:///w/d-1.0-py3-none-any.whl", "/w")


def test_direct_url_wins_over_provenance(tmp_path: Path) -> None:
    """PEP 710 forbids both; who has both was not installed by the rules, and no index pin may accept it."""
    (tmp_path / "provenance_url.json").write_text(json.dumps({"url": "https://h/d.whl", **PIN}))
    found = installed(tmp_path, "direct_url.json", {"url": "https://h/d.zip", "archive_info": {}})
    assert found.direct
    assert found.origin == Origin("url", "https://h/d.zip")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    told=st.dictionaries(
        st.sampled_from(["url", "archive_info", "vcs_info", "dir_info", "subdirectory", "pkgc"]),
        _JSON
        | st.dictionaries(
            st.sampled_from(["hash", "hashes", "commit_id", "vcs", "editable", "source", "settings"]), _JSON
        ),
    ),
    name=st.sampled_from(["direct_url.json", "provenance_url.json"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_stops_a_scan(told: Any, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An environment that cannot be scanned cannot be repaired; what is read goes over the wire."""
    folder = tmp_path_factory.mktemp("wild")
    found = installed(folder, name, told)
    assert found.direct is (name == "direct_url.json")
    repr(found).encode()
