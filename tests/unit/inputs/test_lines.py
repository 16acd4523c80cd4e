"""Decoding and logical lines (R2-R6)."""

from __future__ import annotations

import codecs
import time

import pytest

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.lines import (
    decode,
    expand,
    locale_encoding,
    logical_lines,
    variable_names,
)

TEXT = "naïve==1.0\nπ==3\n"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_a_byte_order_mark_decides(mark: bytes, encoding: str) -> None:
    """Files saved by Windows editors are read as what they are."""
    assert decode(mark + TEXT.encode(encoding), "r.txt") == (TEXT, None)


@pytest.mark.parametrize(
    "head",
    ["# -*- coding: latin-1 -*-\n", "#!shebang\n# vim: set fileencoding=latin-1 :\n", "# coding=latin-1\n"],
)
def test_a_pep263_declaration_decides(head: str) -> None:
    """A declared encoding in the first two lines is obeyed."""
    text = head + "# é\na==1\n"
    assert decode(text.encode("latin-1"), "r.txt") == (text, None)


def test_a_declaration_in_the_third_line_counts_for_nothing() -> None:
    """Otherwise pkgc and pip would read one file in two ways."""
    text = "\n\n# coding: latin-1\né==1\n"
    assert decode(text.encode(), "r.txt")[0] == text


@pytest.mark.parametrize("name", ["nonsense", "hex", "rot13"])
def test_an_unknown_declared_encoding_names_the_file(name: str) -> None:
    """Never a bare LookupError."""
    with pytest.raises(InputError, match=r"r\.txt: unknown declared encoding") as caught:
        decode(f"# coding: {name}\na==1".encode(), "r.txt")
    assert caught.value.code == "invalid-encoding"


def test_bytes_that_contradict_their_mark_or_declaration_are_refused() -> None:
    """Damage is an error, not a silent replacement character in a name."""
    for data in (codecs.BOM_UTF8 + b"\xff", b"# coding: ascii\n\xe9", codecs.BOM_UTF16_LE + b"a"):
        with pytest.raises(InputError, match=r"r\.txt"):
            decode(data, "r.txt")


def test_the_locale_is_the_last_resort_and_warns() -> None:
    """A latin-1 file still works where the client's locale is latin-1, and says how to fix it."""
    text, warning = decode(b"# \xe9\na==1", "r.txt", "ISO8859-1")
    assert text == "# é\na==1"
    assert warning is not None
    assert "r.txt" in warning
    with pytest.raises(InputError, match="offset 2"):
        decode(b"# \xe9\na==1", "r.txt")


def test_the_locale_comes_from_the_clients_variables() -> None:
    """The daemon's own locale says nothing about the client's files."""
    assert locale_encoding({"LANG": "de_DE.UTF-8", "LC_ALL": "fr_FR.ISO8859-15@euro"}) == "ISO8859-15"
    assert locale_encoding({"LANG": "de_DE"}) == "ISO8859-1"
    assert locale_encoding({"LANG": "", "LC_CTYPE": ""}) is None


def test_continuations_join_and_keep_the_first_number() -> None:
    """Hashed locks are written with continuations; errors must name the line of the requirement."""
    text = "# head\na==1 \\\n    --hash=x \\\n    --hash=y\n\nb==2\n"
    assert list(logical_lines(text)) == [(2, "a==1     --hash=x     --hash=y"), (6, "b==2")]


def test_a_comment_ends_a_continuation() -> None:
    """R4: a backslash at the end of a comment joins nothing."""
    assert list(logical_lines("a==1 \\\n# note \\\nb==2")) == [(1, "a==1"), (3, "b==2")]


def test_a_backslash_at_the_end_of_the_file_is_accepted() -> None:
    """R4."""
    assert list(logical_lines("a==1 \\")) == [(1, "a==1")]


def test_only_a_hash_sign_after_white_space_starts_a_comment() -> None:
    """R5: fragments of URLs survive."""
    text = "u @ https://example.org/u.whl#sha256=00 # why\na==1\t#x\n #y\n#z"
    assert [line for _, line in logical_lines(text)] == ["u @ https://example.org/u.whl#sha256=00", "a==1"]


def test_lines_split_where_python_splits_them() -> None:
    """R3: str.splitlines, so a form feed or U+2028 ends a line too."""
    assert [line for _, line in logical_lines("a\x0cb\x1cc\x85d\u2028e")] == ["a", "b", "c", "d", "e"]


def test_variables() -> None:
    """R6: only ${UPPER_CASE}; unset and empty ones stay."""
    values = {"TOKEN": "s3cret", "EMPTY": "", "lower": "x"}
    line = "--index-url https://${TOKEN}@h/${EMPTY}${UNSET}$TOKEN%TOKEN%${lower}"
    assert expand(line, values) == "--index-url https://s3cret@h/${EMPTY}${UNSET}$TOKEN%TOKEN%${lower}"
    assert variable_names([(1, line)]) == {"TOKEN", "EMPTY", "UNSET"}


def test_a_variable_that_holds_itself_cannot_explode() -> None:
    """One client's environment cannot eat the daemon's memory."""
    with pytest.raises(OverflowError):
        expand("${A}" * 100, {"A": "${A}${A}${A}"})


def test_hostile_white_space_takes_linear_time() -> None:
    """A million spaces before something that is no comment stop nobody else's sync."""
    started = time.perf_counter()
    assert len(list(logical_lines(" " * 1_000_000 + "x" + " #" * 10 + "\n" + "a#" * 500_000))) == 2
    assert time.perf_counter() - started < 2
