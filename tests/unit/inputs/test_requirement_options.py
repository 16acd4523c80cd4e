"""Options inside requirements lines (R7, H5)."""

from __future__ import annotations

import pytest

from pkgc_daemon.inputs.options import OptionError, apply_format, parse_options, split_line
from pkgc_daemon.vocabulary import Digest

A = "a" * 64
B = "b" * 128


def test_the_requirement_ends_at_the_first_word_with_a_dash() -> None:
    """Markers may hold anything but a word that starts with a dash; a tab separates nothing."""
    assert split_line("a==1 ; x == 'y-z' --hash=q -C k=v") == ("a==1 ; x == 'y-z'", "--hash=q -C k=v")
    assert split_line("a==1\t--hash=q") == ("a==1\t--hash=q", "")
    assert split_line("-r x") == ("", "-r x")
    assert split_line("a==1") == ("a==1", "")


def test_hashes_in_both_spellings() -> None:
    """Every digest of a lock is kept, in lower case (H6), whichever way it is written."""
    options = parse_options(f"--hash=sha256:{A.upper()} --hash sha512:{B} --hash='sha256:{'c' * 64}'")
    assert options.hashes == {
        Digest("sha256", A),
        Digest("sha512", B),
        Digest("sha256", "c" * 64),
    }
    assert options.values == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"--hash=md5:{'a' * 32}", "md5"),
        (f"--hash=SHA256:{A}", "SHA256"),
        ("--hash=sha256", "must look like"),
        ("--hash=sha256:abc", "64 hex digits"),
        (f"--hash=sha256:{'g' * 64}", "hex digits"),
        ("--hash", "requires 1 argument"),
        ("--frobnicate", "no such option: --frobnicate"),
        ("-x", "no such option: -x"),
        ("--req x", "ambiguous"),
        ("--pre=1", "does not take a value"),
        ("--index-url 'x", "quotes"),
        ("--config-settings k", "KEY=VALUE"),
        ("--no-binary --pre", "requires 1 argument"),
    ],
)
def test_what_pip_refuses_is_refused(text: str, why: str) -> None:
    """A typing error in an option is never passed over."""
    with pytest.raises(OptionError, match=why):
        parse_options(text)


def test_abbreviations_and_short_options() -> None:
    """optparse's rules: unambiguous prefixes, values glued or apart."""
    options = parse_options("--index https://i --requirem=a.txt -cb.txt -f dir --py https://j -e .")
    assert options.values == (
        ("index-url", "https://i"),
        ("requirement", "a.txt"),
        ("constraint", "b.txt"),
        ("find-links", "dir"),
        ("index-url", "https://j"),
        ("editable", "."),
    )


def test_an_option_swallows_the_next_word_whatever_it_is() -> None:
    """As optparse does: a hash that is another option's argument allows nothing."""
    options = parse_options(f"-r --hash=sha256:{A}")
    assert options.values == (("requirement", f"--hash=sha256:{A}"),)
    assert not options.hashes


def test_words_that_belong_to_no_option_are_reported() -> None:
    """`--pre a==1` requires nothing; the caller can warn."""
    assert parse_options("--pre a==1 -- --no-index").ignored == ("a==1", "--no-index")


def test_formats_accumulate_as_in_pip() -> None:
    """:all:, :none: and single names, each name in one set at most."""
    none: set[str] = set()
    only: set[str] = set()
    apply_format(":all:", none, only)
    apply_format("A_b,c", only, none)
    assert (none, only) == ({":all:"}, {"a-b", "c"})
    apply_format("c", none, only)
    assert (none, only) == ({":all:", "c"}, {"a-b"})
    apply_format("x,:all:,:none:,y", none, only)
    assert (none, only) == ({"y"}, set())
