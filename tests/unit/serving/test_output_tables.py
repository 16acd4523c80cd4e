"""Renderings of list, cache and status: readable text from plain data, hostile values included."""

from __future__ import annotations

from typing import Any

import pytest

from pkgc_daemon.serving.tables import (
    render_cache_clean,
    render_cache_dir,
    render_cache_list,
    render_cache_size,
    render_cache_verify,
    render_list,
    render_status,
)
from pkgc_daemon.serving.text import Style

PLAIN = Style(False)
SHA = "b" * 64
BAD = "\x1b[31m\nx"

LIST: dict[str, Any] = {
    "venv": "/v",
    "python": "3.11.7",
    "packages": [
        {
            "name": "idna",
            "version": "3.7",
            "installer": "pkgc",
            "sha256": SHA,
            "damaged": None,
            "origin": {
                "kind": "index",
                "url": "https://f.example/i.whl",
                "index": "https://i.example/simple/",
            },
        },
        {"name": "requests", "version": "2.0", "installer": "pip", "origin": None, "damaged": None},
        {"name": "x", "version": "1", "installer": None, "origin": None, "damaged": "no METADATA"},
    ],
}


def test_list_is_aligned_and_says_where_from() -> None:
    assert render_list(LIST, PLAIN).splitlines() == [
        "idna      3.7  https://i.example/simple/",
        "requests  2.0  by pip",
        "x         1    damaged: no METADATA",
    ]


def test_colours_do_not_disturb_the_columns() -> None:
    coloured = render_list(LIST, Style(True))
    assert "\x1b[1mrequests\x1b[0m  2.0" in coloured
    assert "\x1b[1mx\x1b[0m         1    \x1b[31mdamaged" in coloured


def test_an_empty_list_prints_nothing() -> None:
    assert render_list({"venv": "/v", "python": None, "packages": []}, PLAIN) == ""


def test_cache_dir_is_the_bare_path() -> None:
    assert render_cache_dir({"cache": "/c"}, PLAIN) == "/c\n"


def test_cache_size() -> None:
    data = {
        "cache": "/c",
        "total": {"files": 3, "bytes": 3_000_000},
        "artifacts": {"files": 1, "bytes": 1_000_000},
        "trees": {"files": 2, "bytes": 2_000_000},
        "limit": 20_000_000_000,
        "free": None,
    }
    assert render_cache_size(data, PLAIN).splitlines() == [
        "artifacts  1.0 MB  1 file",
        "trees      2.0 MB  2 files",
        "total      3.0 MB  3 files",
        "limit: 20 GB",
    ]


def test_cache_list() -> None:
    one = {
        "filename": "i-1-py3-none-any.whl",
        "sha256": SHA,
        "artifact_bytes": 5,
        "tree_bytes": 0,
        "used": 0.0,
    }
    rows = [one, {**one, "filename": "j.whl", "tree_bytes": 1000, "in_use": True, "used": None}]
    assert render_cache_list({"cache": "/c", "artifacts": rows}, PLAIN).splitlines() == [
        f"i-1-py3-none-any.whl  5 B  -                1970-01-01  sha256:{SHA}",
        f"j.whl                 5 B  1.0 kB unpacked  -           sha256:{SHA}  in use",
    ]


def test_cache_verify_names_every_damage() -> None:
    data: dict[str, Any] = {
        "artifacts": 97,
        "trees": 1,
        "bytes": 54_000_000,
        "seconds": 2.0,
        "damaged": [],
        "fixed": 0,
    }
    assert render_cache_verify(data, PLAIN).splitlines() == [
        "Verified 97 files and 1 unpacked wheel (54 MB) in 2.0s",
        "No damage found",
    ]
    damage = {"kind": "tree", "sha256": SHA, "filename": "a.whl", "problem": "a.py changed"}
    text = render_cache_verify({**data, "damaged": [damage], "fixed": 1}, PLAIN)
    assert " ! unpacked a.whl: a.py changed\nWhat is damaged was put away" in text
    assert "No damage" not in text


def test_cache_clean_says_what_went_and_what_stayed() -> None:
    data = {"removed": ["a.whl", "b.whl"], "bytes": 10, "skipped": ["c.whl"]}
    assert render_cache_clean(data, PLAIN).splitlines() == [
        "Removed 2 files (10 B)",
        " - a.whl",
        " - b.whl",
        " = c.whl (kept: in use)",
    ]


def test_status() -> None:
    data = {
        "running": True,
        "version": "0.1.0",
        "pid": 42,
        "uptime_s": 7380.0,
        "cache": {"dir": "/c", "bytes": 54_000_000, "limit": None},
        "rss_bytes": None,
        "active": [{"command": "sync", "pid": 7, "seconds": 3.0}],
    }
    assert render_status(data, PLAIN).splitlines() == [
        "daemon:       running (pkgc 0.1.0)",
        "pid:          42",
        "uptime:       2h 03m",
        "cache dir:    /c",
        "cache bytes:  54 MB",
        "  pkgc sync, process 7, for 3.0s",
    ]
    assert render_status({"running": False}, PLAIN) == "daemon:  not running\n"


@pytest.mark.parametrize(
    "text",
    [
        render_list({"packages": [{"name": BAD, "version": BAD, "installer": BAD, "origin": None}]}, PLAIN),
        render_list(
            {"packages": [{"name": "a", "version": "1", "origin": {"url": BAD}, "damaged": BAD}]}, PLAIN
        ),
        render_cache_dir({"cache": BAD}, PLAIN),
        render_cache_list(
            {"artifacts": [{"filename": BAD, "sha256": BAD, "artifact_bytes": 1, "tree_bytes": 1}]}, PLAIN
        ),
        render_cache_clean({"removed": [BAD], "bytes": 1, "skipped": [BAD]}, PLAIN),
        render_status({"running": True, "version": BAD, BAD: BAD, "cache": {BAD: BAD}}, PLAIN),
    ],
)
def test_hostile_values_are_harmless(text: str) -> None:
    assert "\x1b" not in text
    assert "\\x1b[31m\\nx" in text
