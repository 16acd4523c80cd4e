"""File names: what a user loses when a name is read wrongly is the right wheel, or the daemon's time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.selection.filenames import Pin, Ranking, cut_filename, expand_tags, parse_wheel
from pkgc_daemon.vocabulary import Wanted


@pytest.mark.parametrize(
    ("pin", "text", "expected"),
    [
        ("1.0", "1.0", True),
        ("1.0", "1.0.0", True),
        ("1.0.0", "1", True),
        ("2017.4.17", "2017.04.17", True),
        ("1.0", "1.0+cpu", True),  # PEP 440: the candidate's local version is ignored
        ("1.0+cpu", "1.0", False),
        ("1.0+cpu", "1.0+CPU", True),
        ("1.0+cpu", "1.0+cu118", False),
        ("1.0", "1.0.post1", False),
        ("1.0", "1.0rc1", False),
        ("1.0rc1", "1.0c1", True),
        ("1!1.0", "1.0", False),
        ("1!1.0", "1!1.0", True),
        ("1.0", "nonsense", False),
    ],
)
def test_a_pin_matches_what_pep_440_says(pin: str, text: str, expected: bool) -> None:
    """Else a pinned version is 'not found', or another one is installed."""
    assert Pin(Wanted("demo", pin)).matches(text) is expected


@pytest.mark.parametrize(
    ("pin", "text", "expected"),
    [("1.0", "1.0", True), ("1.0", "1.0.0", False), ("1.0-x", "1.0_x", True), ("1.0RC1", "1.0rc1", True)],
)
def test_an_arbitrary_pin_compares_strings(pin: str, text: str, expected: bool) -> None:
    """Else `===` would mean `==`."""
    assert Pin(Wanted("demo", pin, arbitrary=True)).matches(text) is expected


def test_wheel_names_are_read_in_old_and_new_spelling() -> None:
    """W1: upper case and '.' in the name part must be accepted."""
    wheel = parse_wheel("Zope.Interface-5.0-2abc-cp39.cp310-abi3-manylinux1_x86_64.whl")
    assert wheel is not None
    assert (wheel.name, str(wheel.version), wheel.build) == ("zope-interface", "5.0", (2, "abc"))
    assert wheel.tags == "cp39.cp310-abi3-manylinux1_x86_64"
    assert set(expand_tags(wheel.tags)) == {
        "cp39-abi3-manylinux1_x86_64",
        "cp310-abi3-manylinux1_x86_64",
    }


@pytest.mark.parametrize(
    "filename",
    [
        "demo-1.0-py3-none.whl",
        "demo-1.0-1-x-py3-none-any.whl",
        "demo-one-py3-none-any.whl",
        "demo-1.0-b1-py3-none-any.whl",
        "demo-1.0-py3..py2-none-any.whl",
        "demo-1.0-py3-none-any-x8664v3.whl",
        "-1.0-py3-none-any.whl",
        "demo-1.0-py3-none-any.zip",
        f"{'d' * 300}-1.0-py3-none-any.whl",
        f"demo-1.0-{'.'.join(['py3'] * 12)}-{'.'.join(['none'] * 12)}-{'.'.join(['any'] * 12)}.whl",
    ],
)
def test_invalid_wheel_names_are_ignored(filename: str) -> None:
    """One odd file on a page must not break the whole project; a tag bomb must not eat memory."""
    assert parse_wheel(filename) is None


@given(st.text(max_size=60) | st.from_regex(r"[a-z.-]{0,9}-[0-9.a-z!+]{0,9}-[a-z0-9.-]{0,20}\.whl"))
def test_no_name_breaks_the_reading(filename: str) -> None:
    """An index must not be able to crash the daemon with a file name."""
    cut_filename(filename)
    parse_wheel(filename)


def test_the_best_tag_of_a_set_counts() -> None:
    """Else a fast wheel loses against a slow one."""
    ranking = Ranking(("cp311-cp311-linux_x86_64", "py3-none-any", "py2-none-any"))
    assert ranking.rank("py2.py3-none-any") == 1
    assert ranking.rank("py2-none-any") == 2
    assert ranking.rank("cp312-cp312-win32") is None


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("my-pkg-1.0.tar.gz", ("my-pkg", "1.0", "sdist")),
        ("pkg-1.0.zip", ("pkg", "1.0", "sdist")),
        ("pkg-1.0-py3-none-any.whl", ("pkg", "1.0", "wheel")),
        ("pkg-1.0.exe", None),
        ("pkg.whl", None),
        ("pkg.tar.gz", None),
    ],
)
def test_names_are_cut(filename: str, expected: tuple[str, str, str] | None) -> None:
    """Else files of a version are not seen."""
    assert cut_filename(filename) == expected
