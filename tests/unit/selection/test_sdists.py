"""Source archives as candidates: after every wheel that fits, and only where a build is allowed."""

from __future__ import annotations

import pytest

from pkgc_daemon.selection.candidates import (
    Choice,
    Source,
    StoredChoice,
    allowed_formats,
    choose,
    offline_choice,
)
from pkgc_daemon.selection.failures import nothing_fits
from pkgc_daemon.selection.filenames import is_sdist, parse_sdist
from pkgc_daemon.selection.pages import PageFile
from pkgc_daemon.vocabulary import Digest, Interpreter, Place, Wanted

TAGS = ("cp311-cp311-linux_x86_64", "py3-none-any")
TARGET = Interpreter("/v/bin/python", "3.11.7", "cpython", "cpython-311", "/v", "/b", {}, TAGS, {})
MAIN = Source("index", "http://main.example/simple")
WHEEL, SDIST, OTHERS = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz", "demo-1.0-cp38-cp38-win32.whl"
NONE: frozenset[str] = frozenset()
DEMO, ALL = frozenset({"demo"}), frozenset({":all:"})


def sha(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


def pin(*numbers: int, version: str = "1.0") -> Wanted:
    return Wanted("demo", version, frozenset(map(sha, numbers)), place=Place("requirements.txt", 3))


def offer(
    files: dict[str, int | None],
    wanted: Wanted | None = None,
    no_binary: frozenset[str] = NONE,
    only_binary: frozenset[str] = NONE,
    no_build: bool = False,
) -> Choice:
    listed = [
        PageFile(name, f"http://main.example/{name}", frozenset({sha(number)} if number else ()))
        for name, number in files.items()
    ]
    return choose(
        wanted or pin(),
        [(MAIN, listed)],
        TARGET,
        no_binary=no_binary,
        only_binary=only_binary,
        no_build=no_build,
    )


def names(choice: Choice) -> list[str]:
    return [one.filename for one in choice.candidates]


def test_a_source_archive_is_taken_when_no_wheel_fits_and_never_before_one() -> None:
    """Else packages without wheels cannot be installed, or everything is built for nothing."""
    choice = offer({SDIST: 1, WHEEL: 2, "demo-1.0.zip": 3})
    assert [(one.filename, one.is_sdist) for one in choice.candidates] == [
        (WHEEL, False),
        (SDIST, True),
        ("demo-1.0.zip", True),
    ]
    only = offer({SDIST: 1, OTHERS: 2})
    assert names(only) == [SDIST]
    assert only.candidates[0].version == "1.0"
    assert only.candidates[0].hashes == {sha(1)}
    # A newer local version of the sources is not a reason to build.
    assert names(offer({"demo-1.0+x.tar.gz": 1, WHEEL: 2})) == [WHEEL, "demo-1.0+x.tar.gz"]


def test_a_lock_of_the_source_archive_alone_gets_that_one() -> None:
    """H6: the wheels are not what was locked, and the lock works all the same."""
    choice = offer({WHEEL: 2, SDIST: 1}, pin(1))
    assert names(choice) == [SDIST]
    assert [one.kind for one in choice.rejected] == ["hash"]
    assert names(offer({WHEEL: 2, SDIST: 1}, pin(2))) == [WHEEL]
    # An index without hashes: only the bytes can tell, so the wheels are tried first (T7b).
    assert names(offer({WHEEL: None, SDIST: None}, pin(1))) == [WHEEL, SDIST]


@pytest.mark.parametrize(
    ("no_binary", "only_binary", "no_build", "expected"),
    [
        (NONE, NONE, False, [WHEEL, SDIST]),
        (DEMO, NONE, False, [SDIST]),
        (ALL, NONE, False, [SDIST]),
        (NONE, DEMO, False, [WHEEL]),
        (NONE, ALL, False, [WHEEL]),
        (DEMO, ALL, False, [SDIST]),
        (ALL, DEMO, False, [WHEEL]),
        (NONE, NONE, True, [WHEEL]),
        (DEMO, NONE, True, []),
        (frozenset({"other"}), frozenset({"another"}), False, [WHEEL, SDIST]),
    ],
)
def test_what_the_options_leave(
    no_binary: frozenset[str], only_binary: frozenset[str], no_build: bool, expected: list[str]
) -> None:
    """Whoever forbids builds must never run a stranger's setup.py; with the cache as without."""
    assert names(offer({WHEEL: 1, SDIST: 2}, pin(1, 2), no_binary, only_binary, no_build)) == expected
    formats = allowed_formats("demo", no_binary, only_binary, no_build)
    assert [formats.wheels, formats.sdists] == [WHEEL in expected, SDIST in expected]
    known = {sha(1): WHEEL, sha(2): SDIST}
    stored = offline_choice(
        pin(1, 2),
        TARGET,
        known.get,
        lambda digest: True,
        no_binary=no_binary,
        only_binary=only_binary,
        no_build=no_build,
    )
    assert stored.filename == (expected[0] if expected else "")
    assert stored.is_sdist == (expected[:1] == [SDIST])


@pytest.mark.parametrize("filename", ["demo-1.0.tar.bz2", "demo-1.0.tar.xz", "demo-1.0.tgz", "demo-1.0.tar"])
def test_old_formats_are_refused_with_a_reason(filename: str) -> None:
    """B1: an archive that cannot be unpacked must not be downloaded first."""
    choice = offer({filename: 1})
    assert not choice.candidates
    assert [one.kind for one in choice.rejected] == ["format"]
    error = nothing_fits(pin(), TARGET, [MAIN], choice, [])
    assert error.code == "no-matching-wheel"
    assert filename in (error.context or "")
    assert "only .tar.gz and .zip" in (error.context or "")
    assert "--find-links" in (error.hint or "")
    # The cache must not think otherwise.
    found = offline_choice(pin(1), TARGET, {sha(1): filename}.get, lambda digest: True)
    assert found == StoredChoice(None, None, "")


def test_requires_python_counts_for_sources_too() -> None:
    """S4: what does not run there need not be built."""
    file = PageFile(SDIST, f"http://main.example/{SDIST}", requires_python=">=3.12")
    choice = choose(pin(), [(MAIN, [file])], TARGET)
    assert [one.kind for one in choice.rejected] == ["python"]


def test_file_names_that_are_not_what_was_asked_for() -> None:
    """An index may list anything under any name."""
    choice = offer({"my-demo-1.0.tar.gz": 1, "other-1.0.zip": 2, "-1.0.tar.gz": 3})
    assert not choice.candidates
    assert {one.filename: one.kind for one in choice.rejected} == {
        "my-demo-1.0.tar.gz": "name",
        "other-1.0.zip": "name",
        "-1.0.tar.gz": "name",
    }
    odd = offer({"demo-weird.tar.gz": 1}, Wanted("demo", "weird", arbitrary=True))
    assert [one.kind for one in odd.rejected] == ["name"]
    assert parse_sdist("My_Demo-1.0.TAR.GZ") is None
    found = parse_sdist("My_Demo-1.0.post1.tar.gz")
    assert found is not None
    assert (found.name, str(found.version)) == ("my-demo", "1.0.post1")
    assert parse_sdist("demo-" + "1" * 300 + ".tar.gz") is None
    assert is_sdist("demo-1.0.tar.bz2")
    assert not is_sdist(WHEEL)


@pytest.mark.parametrize(
    ("files", "no_binary", "no_build", "message", "hint"),
    [
        ({OTHERS: 1, SDIST: 2}, NONE, True, "no wheel fits cpython 3.11.7, and builds are", "--no-build"),
        ({WHEEL: 1}, DEMO, False, "no file fits cpython 3.11.7", "leave --no-binary out"),
        ({WHEEL: 1, SDIST: 2}, DEMO, True, "no file fits", "wheels and builds are both excluded"),
        ({OTHERS: 1}, NONE, False, "no wheel fits cpython 3.11.7", "use a Python that one of the wheels"),
    ],
)
def test_the_hint_says_what_would_help(
    files: dict[str, int | None], no_binary: frozenset[str], no_build: bool, message: str, hint: str
) -> None:
    """Invariant 8: a person must see which option stands in the way."""
    choice = offer(files, None, no_binary, NONE, no_build)
    error = nothing_fits(pin(), TARGET, [MAIN], choice, [])
    assert message in error.message
    assert hint in (error.hint or "")
