"""Candidates: the right file, for a readable reason; and the same one with and without the network."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.selection.candidates import (
    Choice,
    Source,
    StoredChoice,
    binary_allowed,
    choose,
    hash_possible,
    offline_choice,
    python_allowed,
    source_urls,
)
from pkgc_daemon.selection.pages import PageFile
from pkgc_daemon.vocabulary import Digest, IndexOptions, Interpreter, Wanted

TAGS = (
    "cp311-cp311-linux_x86_64",
    "cp311-cp311-manylinux_2_17_x86_64",
    "cp311-abi3-linux_x86_64",
    "py311-none-any",
    "py3-none-any",
)
TARGET = Interpreter("python", "3.11.7", "cpython", "cpython-311", "/v", "/b", {}, TAGS, {})
MAIN, EXTRA = Source("index", "http://main.example/simple"), Source("index", "http://extra.example/simple")


def sha(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


def listed(filename: str, *hashes: Digest, host: str = "main", **more: str) -> PageFile:
    return PageFile(filename, f"http://{host}.example/{filename}", frozenset(hashes), **more)  # type: ignore[arg-type]


def names(choice: Choice) -> list[str]:
    return [candidate.filename for candidate in choice.candidates]


def reasons(choice: Choice) -> dict[str, str]:
    return {one.filename: one.kind for one in choice.rejected}


def pin(*hashes: Digest, version: str = "1.0") -> Wanted:
    return Wanted("demo", version, frozenset(hashes))


def test_tags_decide_first_then_build_tags() -> None:
    """W1, T1: else a slower wheel, or one that was replaced by a rebuild, is installed."""
    files = [
        listed("demo-1.0-py3-none-any.whl"),
        listed("demo-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"),
        listed("demo-1.0-2-py3-none-any.whl"),
        listed("demo-1.0-10-py3-none-any.whl"),
        listed("demo-1.0-10b-py3-none-any.whl"),
        listed("demo-1.0-cp312-cp312-win32.whl"),
        listed("demo-2.0-py3-none-any.whl"),
        listed("demo-1.0.tar.gz"),
        listed("demo-1.0-bad.whl"),
    ]
    choice = choose(pin(), [(MAIN, files)], TARGET)
    assert names(choice) == [
        "demo-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "demo-1.0-10b-py3-none-any.whl",
        "demo-1.0-10-py3-none-any.whl",
        "demo-1.0-2-py3-none-any.whl",
        "demo-1.0-py3-none-any.whl",
        "demo-1.0.tar.gz",
    ]
    assert reasons(choice) == {
        "demo-1.0-cp312-cp312-win32.whl": "tags",
        "demo-1.0-bad.whl": "name",
    }


def test_the_allowed_file_is_taken_even_if_another_fits_better() -> None:
    """T7: the lock names the file; a better tag with another hash is not what was locked."""
    better = listed("demo-1.0-cp311-cp311-linux_x86_64.whl", sha(1))
    allowed = listed("demo-1.0-py3-none-any.whl", sha(2))
    choice = choose(pin(sha(2), sha(3)), [(MAIN, [better, allowed])], TARGET)
    assert names(choice) == ["demo-1.0-py3-none-any.whl"]
    assert reasons(choice) == {"demo-1.0-cp311-cp311-linux_x86_64.whl": "hash"}
    assert choice.advertised == {sha(1), sha(2)}


def test_without_comparable_hashes_every_file_is_tried_in_order() -> None:
    """T7b: an index that advertises nothing, or other algorithms, must not make the lock unusable."""
    unknown = listed("demo-1.0-cp311-cp311-linux_x86_64.whl")
    other = listed("demo-1.0-py3-none-any.whl", Digest("md5", "0" * 32))
    assert names(choose(pin(sha(2)), [(MAIN, [other, unknown])], TARGET)) == [
        unknown.filename,
        other.filename,
    ]


def test_with_equal_tags_the_advertised_match_goes_first_and_later_indexes_last() -> None:
    """Else bytes are downloaded that are not the wanted ones, though the index says so."""
    silent = listed("demo-1.0-py3-none-any.whl")
    match = listed("demo-1.0-py3-none-any.whl", sha(1), host="extra")
    again = listed("demo-1.0-py3-none-any.whl", sha(1), host="third")
    sources = [(MAIN, [silent]), (EXTRA, [match]), (Source("index", "third"), [again])]
    urls = [one.url for one in choose(pin(sha(1)), sources, TARGET).candidates]
    assert urls == [match.url, again.url, silent.url]


def test_one_match_among_several_algorithms_is_enough() -> None:
    """H6."""
    sha512 = Digest("sha512", "1" * 128)
    assert hash_possible(frozenset({sha(1), sha512}), frozenset({sha(2), sha512}))
    assert not hash_possible(frozenset({sha(1), sha512}), frozenset({sha(2), Digest("sha512", "2" * 128)}))
    # The lock may know this file by its sha512 alone, which the index does not advertise: the bytes can tell.
    assert hash_possible(frozenset({sha(1), sha512}), frozenset({sha(2)}))
    assert hash_possible(frozenset({sha512}), frozenset({sha(2)}))
    assert hash_possible(frozenset(), frozenset({sha(2)}))


def test_a_file_that_only_its_bytes_can_tell_follows_those_that_match() -> None:
    """A lock of two algorithms: what may match is tried, after what does."""
    sha512 = Digest("sha512", "1" * 128)
    perhaps, match = (
        listed("demo-1.0-2-py3-none-any.whl", sha(2)),
        listed("demo-1.0-py3-none-any.whl", sha(1)),
    )
    choice = choose(pin(sha(1), sha512), [(MAIN, [perhaps, match])], TARGET)
    assert names(choice) == [match.filename, perhaps.filename]


def test_yanked_files_serve_a_pin_only_when_nothing_else_does() -> None:
    """PEP 592: an author's recall counts, and a lock goes on working."""
    yanked = listed("demo-1.0-cp311-cp311-linux_x86_64.whl", sha(1), yanked="bad")
    fine = listed("demo-1.0-py3-none-any.whl", sha(2))
    both = choose(pin(), [(MAIN, [yanked, fine])], TARGET)
    assert names(both) == [fine.filename]
    assert reasons(both) == {yanked.filename: "yanked"}
    assert names(choose(pin(), [(MAIN, [yanked])], TARGET)) == [yanked.filename]
    assert names(choose(pin(sha(1), sha(2)), [(MAIN, [yanked, fine])], TARGET))[0] == yanked.filename


def test_requires_python_of_the_target_counts() -> None:
    """S4: else a package is installed that its authors say does not work there."""
    old = listed("demo-1.0-py3-none-any.whl", requires_python="<3.11")
    choice = choose(pin(), [(MAIN, [old])], TARGET)
    assert not choice.candidates
    assert choice.rejected[0].reason == "requires Python <3.11, the target is 3.11.7"
    assert python_allowed(">=3.11", "3.11.0rc1") is False
    assert python_allowed(">=3.8, !=3.9.*", "3.11.7")
    assert python_allowed("nonsense", "3.11.7")
    assert python_allowed(None, "3.11.7")


def test_the_newest_local_version_goes_first() -> None:
    """PEP 440: of 1.0 and 1.0+cpu the latter is newer, and both satisfy ==1.0."""
    files = [listed("demo-1.0-cp311-cp311-linux_x86_64.whl"), listed("demo-1.0+cpu-py3-none-any.whl")]
    choice = choose(pin(), [(MAIN, files)], TARGET)
    assert [candidate.version for candidate in choice.candidates] == ["1.0+cpu", "1.0"]


@pytest.mark.parametrize(
    ("no_binary", "only_binary", "expected"),
    [
        (set(), set(), True),
        ({"demo"}, set(), False),
        ({":all:"}, set(), False),
        ({":all:"}, {"demo"}, True),
        ({"demo"}, {":all:"}, False),
        ({"other"}, set(), True),
    ],
)
def test_no_binary(no_binary: set[str], only_binary: set[str], expected: bool) -> None:
    """A project's own name beats ':all:'."""
    assert binary_allowed("demo", frozenset(no_binary), frozenset(only_binary)) is expected
    choice = choose(
        pin(),
        [(MAIN, [listed("demo-1.0-py3-none-any.whl")])],
        TARGET,
        no_binary=frozenset(no_binary),
        only_binary=frozenset(only_binary),
    )
    assert bool(choice.candidates) is expected


def test_origins_hold_no_credentials() -> None:
    """Invariant 8: what is recorded in the environment is readable by others."""
    file = PageFile("demo-1.0-py3-none-any.whl", "http://me:secret@h.example/demo-1.0-py3-none-any.whl")
    candidate = choose(pin(), [(MAIN, [file])], TARGET).candidates[0]
    assert "secret" in candidate.url
    assert "secret" not in repr(candidate.origin)


KNOWN = {
    sha(1): "demo-1.0-cp311-cp311-manylinux_2_17_x86_64.whl",
    sha(2): "demo-1.0-py3-none-any.whl",
    sha(3): "demo-1.0.tar.gz",
    sha(4): "demo-1.0-cp312-cp312-win32.whl",
    sha(5): "demo-1.0-cp311-cp311-linux_x86_64.whl",
}


@pytest.mark.parametrize(
    ("allowed", "stored", "expected"),
    [
        ((1, 2, 3, 4), {1}, StoredChoice(sha(1), sha(1), KNOWN[sha(1)])),
        ((1, 2, 3, 4), {1, 2, 3}, StoredChoice(sha(1), sha(1), KNOWN[sha(1)])),
        # The better one is known and not here: it must be fetched.
        ((1, 2), {2}, StoredChoice(None, sha(2), KNOWN[sha(2)])),
        # 9 is unknown and might be better.
        ((1, 9), {1}, StoredChoice(None, sha(1), KNOWN[sha(1)])),
        # 9 is unknown: even the best tag may be beaten, by a build tag or a local version.
        ((5, 9), {5}, StoredChoice(None, sha(5), KNOWN[sha(5)])),
        ((4,), {4}, StoredChoice(None, None, "")),
        # No wheel fits: the source archive is what the network would give as well.
        ((3, 4), {3, 4}, StoredChoice(sha(3), sha(3), KNOWN[sha(3)])),
        ((3, 9), {3}, StoredChoice(None, sha(3), KNOWN[sha(3)])),
        # A wheel that fits is known and not here: a stored source archive must not take its place.
        ((2, 3), {3}, StoredChoice(None, sha(3), KNOWN[sha(3)])),
        ((1, 2), set(), StoredChoice(None, None, "")),
        ((), {1}, StoredChoice(None, None, "")),
    ],
)
def test_what_the_store_can_decide(
    allowed: tuple[int, ...], stored: set[int], expected: StoredChoice
) -> None:
    """Invariant 2: known and cached costs no request; and what is cached never decides what is installed."""
    digests = {sha(number) for number in stored}
    found = offline_choice(pin(*map(sha, allowed)), TARGET, KNOWN.get, digests.__contains__)
    assert found == expected


def test_files_of_other_projects_and_versions_decide_nothing() -> None:
    """A digest that an index files under a wrong name must not be installed as something else."""
    known = {
        sha(1): "other-1.0-py3-none-any.whl",
        sha(2): "demo-2.0-py3-none-any.whl",
        sha(3): "other-1.0.tar.gz",
        sha(4): "demo-2.0.zip",
    }
    found = offline_choice(pin(*known), TARGET, known.get, lambda digest: True)
    assert found == StoredChoice(None, None, "")


def test_sources_are_named_as_they_are_remembered() -> None:
    """Else a cached pin costs a request, or an index that was not given has a say."""
    options = IndexOptions(("http://me:secret@h.example/simple",), ("/links",))
    assert source_urls(options) == {"http://h.example/simple", "/links"}
    assert source_urls(replace(options, no_index=True)) == {"/links"}
    pinned = replace(options, pins={"demo": "http://me:secret@p.example/simple"})
    assert source_urls(pinned, "demo") == {"http://p.example/simple"}
    assert source_urls(pinned, "other") == source_urls(options)
    assert source_urls(replace(pinned, no_index=True), "demo") == frozenset()


_FILES = [
    "demo-1.0.tar.gz",
    "demo-1.0+cpu.zip",
    "demo-1.0.tar.bz2",
    *(
        f"demo-1.0{local}{build}-{tag}.whl"
        for local, build, tag in itertools.product(
            ("", "+cpu"), ("", "-1", "-2a", "-2"), (*TAGS, "cp312-cp312-win32")
        )
    ),
]
_NAMES = st.sampled_from([frozenset[str](), frozenset({"demo"}), frozenset({":all:"})])


@given(
    st.lists(st.sampled_from(_FILES), unique=True, min_size=1, max_size=8),
    st.randoms(),
    _NAMES,
    _NAMES,
    st.booleans(),
)
def test_with_and_without_the_network_the_same_file_is_chosen(
    filenames: list[str],
    random: object,
    no_binary: frozenset[str],
    only_binary: frozenset[str],
    no_build: bool,
) -> None:
    """Else an environment depends on what happened to be cached."""
    known = {sha(number): filename for number, filename in enumerate(filenames)}
    files = [listed(filename, digest) for digest, filename in known.items()]
    random.shuffle(files)  # type: ignore[attr-defined]
    wanted = pin(*known)
    online = choose(
        wanted, [(MAIN, files)], TARGET, no_binary=no_binary, only_binary=only_binary, no_build=no_build
    )
    offline = offline_choice(
        wanted,
        TARGET,
        known.get,
        lambda digest: True,
        no_binary=no_binary,
        only_binary=only_binary,
        no_build=no_build,
    )
    assert (offline.filename or None) == (online.candidates[0].filename if online.candidates else None)
    assert offline.use == offline.fallback
