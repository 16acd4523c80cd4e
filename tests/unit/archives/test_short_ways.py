"""The short ways of reading names and RECORD lines say what the long ones say: no wheel has two readings."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.archives import record, zipdirectory
from pkgc_daemon.archives.record import parse_record
from pkgc_daemon.archives.zipdirectory import DEFAULT_LIMITS, FLAG_UTF8, ArchiveLimits, Directory
from pkgc_daemon.errors import PkgcError

NAMES = st.text("aZ0_.-+/\\: \n~\u00e9", max_size=24).map(str.encode) | st.sampled_from(
    [b"..", b"a/../b", b"a//b", b"/a", b"a/./b", b"c:a", b"a/", b"a\n", b"a" * 300, b"a/" * 70 + b"a"]
)


def read(raw: bytes, limits: ArchiveLimits = DEFAULT_LIMITS) -> str | None:
    try:
        return Directory("x", limits, 1).check_name(raw, FLAG_UTF8)
    except PkgcError:
        return None


@given(NAMES)
def test_a_plain_name_is_read_as_any_other(raw: bytes) -> None:
    """A name that only the short way lets pass could leave the folder of the tree."""
    short = read(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipdirectory, "_PLAIN_NAME", re.compile(rb"(?!)"))
        assert short == read(raw)


def test_the_short_way_keeps_to_narrower_limits() -> None:
    """Limits that a caller has set count for plain names too."""
    assert read(b"a/b/c", ArchiveLimits(depth=2)) is None
    assert read(b"abcdef", ArchiveLimits(name_bytes=3)) is None


HEX = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY"
FIELDS = st.sampled_from(
    [
        f"sha256={HEX}",
        f"SHA256={HEX}",
        f"sha256={HEX[:-1]}",
        f"sha256={HEX}=",
        f"sha256={HEX[:-1]}-",
        f"sha256={HEX[:-1]}_",
        f"sha256={HEX[:-2]}=w",
        f"sha256={HEX[:-1]}!",
        f"sha256={HEX[:-1]}\u00e9",
        f"sha512={HEX}",
        f"md5={HEX}",
        "",
    ]
)
SIZES = st.sampled_from(["", "0", "12", "-1", "1_0", " 1", "\u0661", "9" * 19, "9" * 20, "x"])


def lines(text: str) -> object:
    try:
        return parse_record(text, frozenset())
    except ValueError as error:
        return str(error)


@given(FIELDS, SIZES)
def test_a_common_line_of_record_is_read_as_any_other(field: str, size: str) -> None:
    """A claim that the two ways read differently would let bytes pass that RECORD does not name."""
    text = f"a.py,{field},{size}\n"
    short = lines(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "_COMMON", -1)
        assert short == lines(text)
