"""Why something installed is replaced: a missing reason leaves other code than the lock says (T1, T1c, T8), a
needless one reinstalls at every sync. Every row is one sentence that a person may read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgc_daemon.installing.plan import Served, make_plan
from pkgc_daemon.installing.reasons import place_of
from pkgc_daemon.vocabulary import (
    ArchiveSource,
    Digest,
    DirectorySource,
    FilesSource,
    IndexOptions,
    Installed,
    LockedFile,
    Origin,
    Source,
    SourceState,
    VcsSource,
    Wanted,
    settings_key,
)

A = Digest("sha256", "a" * 64)
B = Digest("sha256", "b" * 64)
A512 = Digest("sha512", "a" * 128)
B512 = Digest("sha512", "b" * 128)
ABLAKE = Digest("blake2b", "a" * 128)
AMD5 = Digest("md5", "a" * 32)
BMD5 = Digest("md5", "b" * 32)
C1, C2 = "12ab" * 10, "34cd" * 10
WHL = "https://h.example/d/demo-1.0-py3-none-any.whl"
ZIP = "https://h.example/archive/master.zip"
REPO = "https://h.example/demo.git"
INDEX = "https://a.example/simple/"
OTHER = "https://b.example/simple/"
FAST = (("fast", "1"),)


def have(url: str, kind: Any = "url", **more: Any) -> Installed:
    """An installed demo 1.0 with a direct_url.json of pkgc's."""
    given = {"installer": "pkgc", "direct": True, "origin": Origin(kind, url), **more}
    return Installed("demo", "1.0", "/env/demo-1.0.dist-info", **given)


def from_index(
    *hashes: Digest, index: str | None = INDEX, url: str = "https://f.example/demo.whl", **more: Any
) -> Installed:
    given = {"installer": "pkgc", "origin": Origin("index", url, index), **more}
    return Installed("demo", "1.0", "/env/demo-1.0.dist-info", hashes=frozenset(hashes), **given)


def want(source: Source | None, *hashes: Digest, version: str = "", **more: Any) -> Wanted:
    return Wanted("demo", version, frozenset(hashes), source=source, **more)


def now(*digests: Digest, **more: Any) -> SourceState:
    return SourceState(frozenset(digests), **more)


def why(wanted: Wanted, one: Installed, state: SourceState | None = None, **more: Any) -> str | None:
    states = {} if state is None else {"demo": state}
    plan = make_plan([wanted], [one], seeded=False, states=states, **more)
    assert bool(plan.keep) is not bool(plan.add)
    return plan.add[0].reason.removeprefix("demo 1.0: ") if plan.add else None


def archive(url: str = WHL, **more: Any) -> ArchiveSource:
    return ArchiveSource(url, **more)


def hashed(*digests: Digest, **more: Any) -> Installed:
    return have(WHL, hashes=frozenset(digests), **more)


_AA, _BB = "sha256:aaaaaaaaaaaa…", "sha256:bbbbbbbbbbbb…"

ARCHIVES: list[tuple[str, Wanted, Installed, SourceState | None, str | None]] = [
    ("same bytes", want(archive()), hashed(A), now(A), None),
    ("T1", want(archive()), hashed(A), now(B), f"the content of {WHL} changed ({_AA} → {_BB})"),
    ("offline, same", want(archive()), hashed(A), now(A, asked=False), None),
    (
        "offline, other content was fetched since",
        want(archive()),
        hashed(A),
        now(B, asked=False),
        f"the content of {WHL} changed ({_AA} → {_BB})",
    ),
    ("offline, never asked", want(archive()), hashed(A), now(asked=False), None),
    ("nobody looked", want(archive()), hashed(A), None, f"what {WHL} is now is not known"),
    ("hash agrees", want(archive(), A, B), hashed(A), None, None),
    ("T1c", want(archive(), B), hashed(A), now(B, asked=False), f"installed from {WHL}, the lock wants {B}"),
    ("sha512 is recorded too", want(archive(), A512), hashed(A, A512), None, None),
    (
        "sha512 is not recorded",
        want(archive(), A512),
        hashed(A),
        now(A512, asked=False),
        f"its sha256 is known, the lock wants {A512}",
    ),
    ("fragment agrees", want(archive(integrity=frozenset({A}))), hashed(A), None, None),
    (
        "fragment differs",
        want(archive(integrity=frozenset({B}))),
        hashed(A),
        None,
        f"installed from {WHL} with {A}, the lock wants {B}",
    ),
    (
        "one of two digests that must match differs",
        want(archive(integrity=frozenset({A, B512}))),
        hashed(A, A512),
        None,
        f"installed from {WHL} with {A512}, the lock wants {B512}",
    ),
    (
        "md5 fragment alone decides nothing",
        want(archive(integrity=frozenset({AMD5}))),
        hashed(A),
        now(A),
        None,
    ),
    (
        "md5 fragment is no proof",
        want(archive(integrity=frozenset({AMD5}))),
        hashed(AMD5),
        now(A),
        f"only the md5 of what {WHL} was then is known",
    ),
    (
        "md5 fragment differs",
        want(archive(integrity=frozenset({BMD5}))),
        hashed(A, AMD5),
        now(A),
        f"installed from {WHL} with {AMD5}, the lock wants {BMD5}",
    ),
    (
        "fragment of another algorithm",
        want(archive(integrity=frozenset({A512}))),
        hashed(A),
        None,
        f"its sha256 is known, the lock wants {A512}",
    ),
    (
        "fragment of another algorithm, which the state knows",
        want(archive(integrity=frozenset({A512}))),
        hashed(A),
        now(A, A512),
        None,
    ),
    ("pip recorded the hash", want(archive()), hashed(A, installer="pip"), now(A), None),
    (
        "uv records none",
        want(archive()),
        hashed(installer="uv"),
        now(A),
        f"installed by uv without a record of what {WHL} was then",
    ),
    (
        "uv records none, offline",
        want(archive(), A),
        hashed(installer="uv"),
        now(asked=False),
        f"installed by uv without a record of what {WHL} was then",
    ),
    (
        "another URL with the same bytes",
        want(archive(ZIP), A),
        hashed(A),
        now(A),
        f"installed from {WHL}, the lock wants it from {ZIP}",
    ),
    (
        "from an index",
        want(archive()),
        from_index(A),
        now(A),
        f"installed from index {INDEX}, the lock wants it from {WHL}",
    ),
    (
        "of unknown origin",
        want(archive()),
        have(WHL, origin=None, direct=False, installer="pip"),
        now(A),
        f"installed by pip, origin unknown, the lock wants it from {WHL}",
    ),
    (
        "unreadable direct_url.json",
        want(archive()),
        have(WHL, origin=None),
        now(A),
        f"origin unknown, the lock wants it from {WHL}",
    ),
    (
        "a repository at that URL",
        want(archive()),
        have(WHL, "vcs", commit=C1),
        now(A),
        f"installed from {WHL} at 12ab12ab12ab…, the lock wants it from {WHL}",
    ),
    (
        "another folder of it",
        want(archive(ZIP, subdirectory="py")),
        have(ZIP, hashes=frozenset({A}), subdirectory="c"),
        now(A),
        f"installed from {ZIP} (in c), the lock wants it from {ZIP} (in py)",
    ),
    (
        "the same folder, written otherwise",
        want(archive(ZIP, subdirectory="./py/")),
        have(ZIP, hashes=frozenset({A}), subdirectory="py"),
        now(A),
        None,
    ),
    (
        "credentials and fragment are no place",
        want(archive("https://u:pw@H.example:443/d/demo-1.0-py3-none-any.whl#egg=demo")),
        hashed(A),
        now(A),
        None,
    ),
    (
        "a local file",
        want(archive("file:///w/a%20b.whl", path="/w/a b.whl")),
        have("file:///w/a%20b.whl", "path", hashes=frozenset({A})),
        now(A),
        None,
    ),
    ("other version", want(archive(), version="2.0"), hashed(A), now(A), "the lock wants 2.0"),
    ("same version", want(archive(), version="1"), hashed(A), now(A), None),
    ("damaged", want(archive()), hashed(A, damaged="it is torn"), now(A), "damaged: it is torn"),
    (
        "sdist with other settings",
        want(archive(ZIP), settings=FAST),
        have(ZIP, hashes=frozenset({A})),
        now(A),
        "built with other --config-settings",
    ),
    (
        "sdist whose settings went",
        want(archive(ZIP)),
        have(ZIP, hashes=frozenset({A}), settings=settings_key(FAST)),
        now(A),
        "built with other --config-settings",
    ),
    (
        "sdist with the same settings",
        want(archive(ZIP), settings=FAST),
        have(ZIP, hashes=frozenset({A}), settings=settings_key(FAST)),
        now(A),
        None,
    ),
    ("a wheel is not built", want(archive(), settings=FAST), hashed(A), now(A), None),
]


def _git(requested: str | None = None, commit: str | None = None, **more: Any) -> VcsSource:
    return VcsSource(REPO, requested, commit, **more)


def _cloned(commit: str = C1, url: str = REPO, **more: Any) -> Installed:
    return have(url, "vcs", commit=commit, **more)


TREES: list[tuple[str, Wanted, Installed, SourceState | None, str | None]] = [
    ("commit of the lock", want(_git(commit=C1)), _cloned(), None, None),
    ("branch stayed", want(_git("main")), _cloned(requested="main"), SourceState(commit=C1), None),
    (
        "branch moved",
        want(_git("main")),
        _cloned(requested="main"),
        SourceState(commit=C2),
        "commit 12ab12ab12ab… → 34cd34cd34cd…",
    ),
    (
        "a tag of the same commit",
        want(_git("v1")),
        _cloned(requested="main"),
        SourceState(commit=C1),
        "recorded as main, the lock says v1 (the same commit)",
    ),
    (
        "no revision any more",
        want(_git()),
        _cloned(requested="main"),
        SourceState(commit=C1),
        "recorded as main, the lock says the default branch (the same commit)",
    ),
    ("upper case", want(_git(commit=C1.upper())), _cloned(), None, None),
    (
        "user of ssh",
        want(VcsSource("ssh://git@h/x")),
        _cloned(url="ssh://h/x/"),
        SourceState(commit=C1),
        None,
    ),
    ("offline, same branch", want(_git("main")), _cloned(requested="main"), SourceState(asked=False), None),
    (
        "offline, other branch",
        want(_git("dev")),
        _cloned(requested="main"),
        SourceState(asked=False),
        f"the commit of dev of {REPO} is not known",
    ),
    ("nobody looked", want(_git()), _cloned(), None, f"the commit of {REPO} is not known"),
    (
        "another repository",
        want(VcsSource("https://u:pw@h.example/fork.git", "main")),
        _cloned(),
        SourceState(commit=C1),
        f"installed from {REPO} at 12ab12ab12ab…, the lock wants it from https://h.example/fork.git at main",
    ),
    (
        "another project of it",
        want(_git(commit=C1, subdirectory="py")),
        _cloned(),
        None,
        f"installed from {REPO} at 12ab12ab12ab…, the lock wants it from {REPO} (in py) at {C1}",
    ),
    (
        "other settings",
        want(_git(commit=C1), settings=FAST),
        _cloned(),
        None,
        "built with other --config-settings",
    ),
    (
        "directory, unchanged",
        want(DirectorySource("/w/src")),
        have("file:///w/src/", "directory", fingerprint="f1"),
        SourceState(fingerprint="f1"),
        None,
    ),
    (
        "directory, changed",
        want(DirectorySource("/w/src")),
        have("file:///w/src", "directory", fingerprint="f1"),
        SourceState(fingerprint="f2"),
        "its directory changed",
    ),
    (
        "directory, installed by another tool",
        want(DirectorySource("/w/src")),
        have("file:///w/src", "directory", installer="pip"),
        SourceState(fingerprint="f1"),
        "installed by pip without a record of what its directory held then",
    ),
    (
        "directory, now editable",
        want(DirectorySource("/w/src", editable=True)),
        have("file:///w/src", "directory", fingerprint="f1"),
        SourceState(fingerprint="f1"),
        "installed from the directory /w/src, the lock wants it from the directory /w/src, editable",
    ),
    (
        "directory, not editable any more",
        want(DirectorySource("/w/src")),
        have("file:///w/src", "directory", fingerprint="f1", editable=True),
        SourceState(fingerprint="f1"),
        "installed from the directory /w/src, editable, the lock wants it from the directory /w/src",
    ),
    (
        "another directory",
        want(DirectorySource("/w/new src")),
        have("file:///w/src%20%C3%A4", "directory", fingerprint="f1"),
        SourceState(fingerprint="f1"),
        "installed from the directory /w/src ä, the lock wants it from the directory /w/new src",
    ),
    (
        "another project of the directory",
        want(DirectorySource("/w/src", subdirectory="b")),
        have("file:///w/src", "directory", fingerprint="f1", subdirectory="a"),
        SourceState(fingerprint="f1"),
        "installed from the directory /w/src (in a), the lock wants it from the directory /w/src (in b)",
    ),
    (
        "develop install of setuptools",
        want(DirectorySource("/w/src", editable=True)),
        have("", origin=None, installer=None),
        SourceState(fingerprint="f1"),
        "origin unknown, the lock wants it from the directory /w/src, editable",
    ),
    (
        "directory with the same settings",
        want(DirectorySource("/w/src"), settings=FAST),
        have("file:///w/src", "directory", fingerprint="f1", settings=settings_key(FAST)),
        SourceState(fingerprint="f1"),
        None,
    ),
]


@pytest.mark.parametrize(
    ("wanted", "one", "state", "expected"),
    [pytest.param(*rest, id=name) for name, *rest in ARCHIVES + TREES],
)
def test_direct_references(
    wanted: Wanted, one: Installed, state: SourceState | None, expected: str | None
) -> None:
    """Complaints 1 and 4: a changed source is noticed, an unchanged one left alone, the reason told."""
    assert why(wanted, one, state) == expected


def files(*listed: LockedFile, index: str | None = OTHER) -> FilesSource:
    return FilesSource(listed, index)


def one_file(*hashes: Digest, url: str = "https://f.example/demo.whl", name: str = "demo.whl") -> LockedFile:
    return LockedFile(name, url, frozenset(hashes))


LISTED: list[tuple[str, Wanted, Installed, str | None]] = [
    ("a listed hash", want(files(one_file(B), one_file(A))), from_index(A), None),
    ("all of a file's hashes", want(files(one_file(A, A512))), from_index(A, A512), None),
    ("blake2b", want(files(one_file(ABLAKE))), from_index(A, ABLAKE), None),
    (
        "T8",
        want(files(one_file(B))),
        from_index(A),
        f"installed from index {INDEX}, the lock wants {B} from index {OTHER}",
    ),
    (
        "the file of that name is the one that tells",
        want(
            files(one_file(B), *(one_file(Digest("sha256", f"{n:064x}"), name=f"{n}.whl") for n in range(9)))
        ),
        from_index(A),
        f"installed from index {INDEX}, the lock wants {B} from index {OTHER}",
    ),
    (
        "many hashes are not listed one by one",
        want(files(*(one_file(Digest("sha256", f"{n:064x}"), name=f"{n}.whl") for n in range(9)))),
        from_index(A),
        f"installed from index {INDEX}, the lock wants one of 9 other hashes from index {OTHER}",
    ),
    (
        "one of a file's hashes contradicts",
        want(files(one_file(A, B512))),
        from_index(A, A512),
        (
            f"installed from https://f.example/demo.whl of index {INDEX}, "
            f"the lock wants https://f.example/demo.whl from index {OTHER}"
        ),
    ),
    (
        "a hash that was not recorded",
        want(files(one_file(A512), index=None)),
        from_index(A),
        f"its sha256 is known, the lock wants {A512}",
    ),
    (
        "of unknown origin",
        want(files(one_file(A))),
        from_index(origin=None, installer="pip"),
        f"installed by pip, origin unknown, the lock wants {A} from index {OTHER}",
    ),
    ("no hashes: of unknown origin", want(files(one_file())), from_index(origin=None, installer="uv"), None),
    (
        "hashes of some: of unknown origin",
        want(files(one_file(), one_file(A, name="x.whl"))),
        from_index(origin=None, installer="uv"),
        f"installed by uv, origin unknown, the lock wants {A} from index {OTHER}",
    ),
    (
        "no hashes: same file of the same index",
        want(files(one_file(), index=INDEX[:-1])),
        from_index(A),
        None,
    ),
    (
        "no hashes: signed URL",
        want(files(one_file(url="https://u:p@f.example/demo.whl?Signature=1"), index=INDEX)),
        from_index(A),
        None,
    ),
    ("no hashes, no index: same file", want(files(one_file(), index=None)), from_index(A), None),
    (
        "no hashes: another index",
        want(files(one_file())),
        from_index(A),
        (
            f"installed from https://f.example/demo.whl of index {INDEX}, "
            f"the lock wants https://f.example/demo.whl from index {OTHER}"
        ),
    ),
    (
        "no hashes: another file",
        want(files(one_file(url="https://f.example/1"), one_file(url="https://f.example/2"), index=INDEX)),
        from_index(A),
        (
            f"installed from https://f.example/demo.whl of index {INDEX}, "
            f"the lock wants one of 2 files that it lists from index {INDEX}"
        ),
    ),
    (
        "md5 is no proof",
        want(files(one_file(AMD5))),
        from_index(A, AMD5),
        (
            f"installed from https://f.example/demo.whl of index {INDEX}, "
            f"the lock wants https://f.example/demo.whl from index {OTHER}"
        ),
    ),
    (
        "a direct URL",
        want(files(one_file(A))),
        hashed(A),
        f"installed from {WHL}, the lock wants it from index {OTHER}",
    ),
    (
        "an editable directory",
        want(files(one_file(A), index=None)),
        have("file:///w/src", "directory", editable=True),
        "installed from the directory /w/src, editable, the lock wants it from an index",
    ),
    ("the sdist it was built from", want(files(one_file(A, name="demo-1.0.tar.gz"))), from_index(A), None),
    (
        "built with other settings",
        want(files(one_file(A))),
        from_index(A, settings=settings_key(FAST)),
        "built with other --config-settings",
    ),
]


@pytest.mark.parametrize(
    ("wanted", "one", "expected"), [pytest.param(*rest, id=name) for name, *rest in LISTED]
)
def test_files_that_a_lock_lists(wanted: Wanted, one: Installed, expected: str | None) -> None:
    """pylock.toml and uv.lock: T8, and locks of indexes that give no hashes."""
    wanted = replace(wanted, version="1.0")
    assert why(wanted, one) == expected
    # what the file is now matters only where no digest of the lock proves what it was
    assert isinstance(wanted.source, FilesSource)
    proven = any(file.hashes & one.hashes for file in wanted.source.files)
    now_other = why(wanted, one, served={"demo": Served(frozenset({B}), frozenset())})
    if expected is None and one.hashes and not proven:
        assert "changed" in str(now_other)
    else:
        assert now_other == expected
    assert why(wanted, one, served={"demo": Served(one.hashes, frozenset())}) == expected


_THIRD = "https://c.example/simple/"
SERVERS: list[tuple[str, IndexOptions, str]] = [
    ("one", IndexOptions(indexes=(OTHER,)), f" from index {OTHER}"),
    ("two", IndexOptions(indexes=(OTHER, _THIRD)), f" from index {OTHER} or index {_THIRD}"),
    (
        "by name, without its password",
        IndexOptions(
            indexes=("https://u:hunter2@b.example/simple/",),
            names={"https://u:hunter2@b.example/simple/": "corp"},
        ),
        f" from index corp ({OTHER})",
    ),
    (
        "pinned",
        IndexOptions(indexes=(INDEX,), pins={"demo": OTHER}, find_links=("/w",)),
        f" from index {OTHER}",
    ),
    ("another is pinned", IndexOptions(indexes=(OTHER,), pins={"x": INDEX}), f" from index {OTHER}"),
    ("a folder", IndexOptions(indexes=(OTHER,), no_index=True, find_links=("/w",)), " from /w"),
    ("many", IndexOptions(indexes=(INDEX, OTHER, _THIRD), find_links=("/w",)), " from one of 4 places"),
    ("nobody", IndexOptions(), ""),
]


@pytest.mark.parametrize(("options", "clause"), [pytest.param(*rest, id=name) for name, *rest in SERVERS])
def test_who_may_serve_a_pin_is_named(options: IndexOptions, clause: str) -> None:
    """Complaint 4: 'installed from index A' is half of the sentence; where is it to come from?"""
    pin = want(None, B, version="1.0")
    begin = f"installed from index {INDEX}, the lock wants {B}"
    assert why(pin, from_index(A), options=options) == begin + clause
    other = why(want(None, version="1.0"), hashed(A), options=options)
    assert other == f"installed from {WHL}, the lock wants it{clause or ' from an index'}"
    listed = want(files(one_file(B)), version="1.0")
    assert why(listed, from_index(A), options=options) == f"{begin} from index {OTHER}", "the lock says it"


def test_settings_of_the_command_line_come_first() -> None:
    """What was built with them once is not built again at every sync."""
    built = have("file:///w/src", "directory", fingerprint="f1", settings=settings_key((("a", "1"), *FAST)))
    wanted = want(DirectorySource("/w/src"), settings=FAST)
    state = SourceState(fingerprint="f1")
    assert why(wanted, built, state, settings=(("a", "1"),)) is None
    assert why(wanted, built, state) == "built with other --config-settings"
    assert why(want(None, version="1.0"), from_index(A), settings=FAST) is None, "a wheel of an index"
    plain = from_index(A, settings="")
    assert why(want(None, version="1.0"), plain) is None
    assert why(want(None, version="1.0"), plain, settings=FAST) == "built with other --config-settings"


def test_reinstall_is_said_only_where_nothing_else_is_to_be_said() -> None:
    assert why(want(archive()), hashed(A), now(A), reinstall=True) == "reinstall was asked for"
    assert "the lock wants it from" in str(why(want(archive(ZIP)), hashed(A), now(A), reinstall=True))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://H/a%7eb%2f", "https://h:443/a~b%2F", True),
        ("http://h:80", "http://h/", True),
        ("https://h/a%2Fb", "https://h/a/b", False),
        ("https://h/a", "http://h/a", False),
        ("https://h/a?x=1", "https://h/a?x=2", False),
        ("https://h/a?token=1", "https://h/a?token=2", True),
        ("https://u:p@h/a", "https://h/a#sha256=1", True),
        ("file:///a/../b", "/b", True),
        ("file://localhost/b", "file:///b/", True),
        ("/a#b", "file:///a%23b", True),
        ("https://[::1", "https://[::1", True),
    ],
)
def test_places_are_compared_by_what_they_mean(one: str, other: str, same: bool) -> None:
    """Written differently, or with a new password, it is the same place: no reinstallation at every sync."""
    assert (place_of(one) == place_of(other)) is same


@given(st.text())
def test_no_text_is_too_strange_for_a_place(text: str) -> None:
    """Records are written by others: a strange one must not stop the sync that replaces it."""
    place_of(text)
    place_of("https://" + text)
    place_of("file://" + text)


def test_no_reason_tells_a_secret() -> None:
    """Invariant 8."""
    secret = want(archive("https://user:hunter2@h.example/x.zip"))
    for one in (hashed(A), have("https://h.example/x.zip", hashes=frozenset({A})), hashed()):
        for state in (now(B), None):
            assert "hunter2" not in str(why(secret, one, state))
    listed = want(
        files(one_file(url="https://user:hunter2@h/1"), index="https://u:hunter2@h/s"), version="1.0"
    )
    assert "hunter2" not in str(why(listed, from_index(A)))
    repository = want(VcsSource("https://user:hunter2@h.example/r"))
    assert "hunter2" not in str(why(repository, hashed(A)))
    assert "hunter2" not in str(why(repository, _cloned(url="https://h.example/r")))
