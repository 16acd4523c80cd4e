"""Files that a lock lists: the same one on every machine with the same tags, whatever the network says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.selection.candidates import Source, choose
from pkgc_daemon.selection.failures import nothing_listed
from pkgc_daemon.selection.listed import listed_choice
from pkgc_daemon.selection.pages import PageFile
from pkgc_daemon.vocabulary import (
    Candidate,
    Digest,
    DirectorySource,
    FilesSource,
    Interpreter,
    LockedFile,
    Origin,
    Place,
    Wanted,
)

TAGS = ("cp311-cp311-manylinux_2_17_x86_64", "cp311-abi3-linux_x86_64", "py3-none-any")
TARGET = Interpreter("/v/bin/python", "3.11.7", "cpython", "cpython-311", "/v", "/b", {}, TAGS, {})
INDEX = "http://index.example/simple"
BEST, ABI3, PURE = (f"demo-1.0-{tag}.whl" for tag in TAGS)
WINDOWS, SDIST = "demo-1.0-cp311-cp311-win32.whl", "demo-1.0.tar.gz"
NONE: frozenset[str] = frozenset()
DEMO = frozenset({"demo"})


def sha(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


def wanted(*filenames: str, index: str | None = INDEX) -> Wanted:
    files = tuple(
        LockedFile(name, f"http://me:secret@files.example/{number}/{name}", frozenset({sha(number)}), number)
        for number, name in enumerate(filenames)
    )
    return Wanted("demo", "1.0", place=Place("pylock.toml", 7), source=FilesSource(files, index))


def chosen(*filenames: str) -> str | None:
    candidates = listed_choice(wanted(*filenames), TARGET).candidates
    return candidates[0].filename if candidates else None


def test_the_best_wheel_and_nothing_else() -> None:
    """MUST 6: what is installed may not depend on which files can be had, so there is no second candidate."""
    choice = listed_choice(wanted(PURE, BEST, ABI3, WINDOWS, SDIST), TARGET)
    assert choice.candidates == (
        Candidate(
            "demo",
            "1.0",
            BEST,
            f"http://me:secret@files.example/1/{BEST}",
            Origin("index", f"http://files.example/1/{BEST}", INDEX),
            frozenset({sha(1)}),
            1,
            exact_size=True,
        ),
    )
    assert {one.filename: one.kind for one in choice.rejected} == {WINDOWS: "tags"}
    assert choice.advertised == {sha(number) for number in range(5)}


def test_the_source_archive_serves_when_no_wheel_fits() -> None:
    """MUST 6: none fits -> sdist."""
    choice = listed_choice(wanted(WINDOWS, SDIST), TARGET)
    assert [(one.filename, one.is_sdist) for one in choice.candidates] == [(SDIST, True)]
    # The lock says whose it is: old archives are named in any way.
    assert chosen("Demo_1.0-src.zip") == "Demo_1.0-src.zip"
    assert listed_choice(wanted("Demo_1.0-src.zip"), TARGET).candidates[0].version == "1.0"


def test_build_tags_and_names_decide_between_equal_tags() -> None:
    """W1: the highest build tag wins."""
    assert chosen(PURE, "demo-1.0-2-py3-none-any.whl", "demo-1.0-10-py3-none-any.whl") == (
        "demo-1.0-10-py3-none-any.whl"
    )


def test_of_two_files_of_one_name_the_first_counts() -> None:
    """A mirror listed twice is no contradiction."""
    choice = listed_choice(wanted(PURE, PURE), TARGET)
    assert [one.hashes for one in choice.candidates] == [{sha(0)}]


def test_files_that_cannot_be_meant_are_passed_over() -> None:
    """PEP 825: variants are ignored; a wheel of another project or version is never installed as this one."""
    odd = {
        "demo-1.0-py3-none-any-x86_64_v3.whl": "name",
        "other-1.0-py3-none-any.whl": "name",
        "demo-2.0-py3-none-any.whl": "name",
        "demo-1.0.tar.bz2": "format",
        "demo-1.0.exe": "name",
    }
    choice = listed_choice(wanted(*odd), TARGET)
    assert not choice.candidates
    assert {one.filename: one.kind for one in choice.rejected} == odd


def test_local_files_and_unknown_sizes() -> None:
    """Origins are what why and the records show; a size that nobody named cannot be wrong."""
    file = LockedFile(PURE, f"file:///w/{PURE}")
    local = Wanted("demo", "1.0", source=FilesSource((file,)))
    (candidate,) = listed_choice(local, TARGET).candidates
    assert candidate.origin == Origin("path", f"file:///w/{PURE}", None)
    assert (candidate.size, candidate.exact_size) == (None, False)
    from_index = Wanted("demo", "1.0", source=FilesSource((file,), "file:///w"))
    assert listed_choice(from_index, TARGET).candidates[0].origin.kind == "index"


@pytest.mark.parametrize(
    ("no_binary", "only_binary", "no_build", "expected"),
    [
        (DEMO, NONE, False, SDIST),
        (NONE, DEMO, False, PURE),
        (NONE, NONE, True, PURE),
        (DEMO, NONE, True, None),
    ],
)
def test_builds_and_wheels_can_be_forbidden(
    no_binary: frozenset[str], only_binary: frozenset[str], no_build: bool, expected: str | None
) -> None:
    """--no-binary and --no-build mean the same for every kind of lock."""
    choice = listed_choice(
        wanted(SDIST, PURE), TARGET, no_binary=no_binary, only_binary=only_binary, no_build=no_build
    )
    assert (choice.candidates[0].filename if choice.candidates else None) == expected


def test_the_error_names_line_files_and_target() -> None:
    """Invariant 8."""
    lock = wanted(WINDOWS, SDIST)
    choice = listed_choice(lock, TARGET, no_build=True)
    error = nothing_listed(lock, choice, TARGET)
    assert error.code == "no-matching-wheel"
    assert error.message == (
        "pylock.toml:7: demo==1.0: no file of the lock fits cpython 3.11.7, and builds are forbidden"
    )
    for part in (WINDOWS, SDIST, "--no-build", "cp311-abi3-linux_x86_64", "/v/bin/python", str(sha(0))):
        assert part in (error.context or "")
    assert "allow the build" in (error.hint or "")
    assert "secret" not in str(error.to_wire())
    only = wanted(WINDOWS)
    error = nothing_listed(only, listed_choice(only, TARGET), TARGET)
    assert "lock again" in (error.hint or "")
    empty = wanted()
    assert "no files at all" in (nothing_listed(empty, listed_choice(empty, TARGET), TARGET).context or "")


def test_a_direct_reference_has_no_list() -> None:
    """A mistake of ours must not become "no file fits"."""
    with pytest.raises(TypeError):
        listed_choice(Wanted("demo", "", source=DirectorySource("/w")), TARGET)


@given(
    st.lists(
        st.builds(
            "demo-1.0{}{}-{}.whl".format,
            st.sampled_from(["", "+a", "+b"]),
            st.sampled_from(["", "-1", "-2", "-2b"]),
            st.sampled_from([*TAGS, "cp38-cp38-win32"]),
        ),
        unique=True,
        max_size=6,
    ),
    st.booleans(),
)
def test_a_lock_and_an_index_with_the_same_files_give_the_same_wheel(
    filenames: list[str], sdist: bool
) -> None:
    """A requirements file and a pylock.toml made of one resolution must install the same."""
    filenames += [SDIST] * sdist
    files = [PageFile(name, f"http://h.example/{name}") for name in filenames]
    index = choose(Wanted("demo", "1.0"), [(Source("index", INDEX), files)], TARGET).candidates
    assert chosen(*filenames) == (index[0].filename if index else None)
