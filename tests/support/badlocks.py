"""Locks that must be refused: tables of them, with what must be said of each.

A row is a MUST or a refusal of standards 1.3 and 1.4, of peers, or of issue 3's section "Bad input".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.support import interpreters
from tests.support.lockfiles import listed, pylock, uv_file, uv_package, uv_project, uvlock, wheel_package
from tests.support.wheels import make_wheel

WHEEL = make_wheel("demo", "1.0")
FOREIGN = make_wheel("demo", "1.0", tag="cp39-cp39-win_amd64")
#: The place of the index and of its files, put in when a test runs.
AT = "http://INDEX"
URL = f"{AT}/{WHEEL.filename}"
COMMIT = "0123456789abcdef" * 2 + "01234567"
ELSEWHERE = "sys_platform == 'nowhere'"


@dataclass(frozen=True)
class Case:
    """A lock, and what must be said of it."""

    what: str
    """The row's name."""
    text: str | bytes
    code: str
    said: tuple[str, ...] = ()
    """In the message, the facts or the hint."""
    options: tuple[str, ...] = ()
    exit: int = 2
    constraints: str = ""
    """What the file c.txt has."""
    hint: bool = True
    """A remedy is named; not needed where the message itself is one."""


def one(**package: Any) -> str:
    """A pylock.toml of one package, `demo`; its table is on line 4, its name on line 5."""
    return pylock({"name": "demo", **{key.replace("_", "-"): value for key, value in package.items()}})


def wheels(**file: Any) -> str:
    """A pylock.toml of one package with one wheel, of which something is wrong."""
    return one(version="1.0", wheels=[listed(WHEEL, **{"url": URL, **file})])


def archive(**file: Any) -> str:
    """A pylock.toml of one archive, of which something is wrong."""
    return one(archive=listed(WHEEL, **{"url": URL, "name": None, **file}))


def vcs(**source: Any) -> str:
    """A pylock.toml of one repository, of which something is wrong."""
    table: dict[str, Any] = {"type": "git", "url": "https://example.invalid/x.git", "commit-id": COMMIT}
    table |= {key.replace("_", "-"): value for key, value in source.items()}
    return one(vcs={key: value for key, value in table.items() if value is not None})


GOOD = wheel_package(WHEEL, URL)
DEMO_AT = "pylock.toml:5"

PYLOCKS = [
    Case("no-version", pylock(GOOD, lock_version=None), "invalid-lock", ("lock-version", "none")),
    Case("version-number", pylock(GOOD, lock_version=1), "invalid-lock", ("lock-version", "1")),
    Case("version-word", pylock(GOOD, lock_version="one"), "invalid-lock", ("lock-version", "'one'")),
    Case("major-2", pylock(GOOD, lock_version="2.0"), "unsupported-lock-version", ("2.0", "1.x")),
    Case("major-0", pylock(GOOD, lock_version="0.9"), "unsupported-lock-version", ("0.9",)),
    Case("epoch", pylock(GOOD, lock_version="1!1.0"), "unsupported-lock-version", ("1!1.0",)),
    Case("no-creator", pylock(GOOD, created_by=None), "invalid-lock", ("created-by",)),
    Case("no-packages", 'lock-version = "1.0"\ncreated-by = "x"\n', "invalid-lock", ("packages", "missing")),
    Case(
        "packages-text",
        'lock-version = "1.0"\ncreated-by = "x"\npackages = "x"\n',
        "invalid-lock",
        ("packages",),
    ),
    Case("empty-file", "\n", "invalid-lock", ("empty",)),
    Case("truncated", pylock(GOOD)[:-30], "invalid-lock", ("pylock.toml:7", "cut off")),
    Case("merge", "<<<<<<< HEAD\n" + pylock(GOOD), "invalid-lock", ("pylock.toml:1", "merge")),
    Case("latin-1", pylock(GOOD).encode() + b"# caf\xe9\n", "invalid-lock", ("pylock.toml:8", "UTF-8")),
    Case(
        "nameless",
        pylock({"version": "1.0", "wheels": GOOD["wheels"]}),
        "invalid-lock",
        ("name", "pylock.toml:4"),
    ),
    Case("name-not-normalized", pylock({**GOOD, "name": "De_mo"}), "invalid-lock", ("De_mo", DEMO_AT)),
    Case("version-invalid", pylock({**GOOD, "version": "1.0-x-y"}), "invalid-lock", ("1.0-x-y", DEMO_AT)),
    Case("sourceless", one(version="1.0"), "invalid-lock", (DEMO_AT, "demo")),
    Case(
        "two-sources",
        one(directory={"path": "."}, archive=listed(WHEEL, URL, name=None)),
        "invalid-lock",
        (DEMO_AT,),
    ),
    Case(
        "wheels-and-vcs",
        pylock({**GOOD, "vcs": {"type": "git", "url": "https://h/x", "commit-id": COMMIT}}),
        "invalid-lock",
        (DEMO_AT,),
    ),
    Case("placeless", wheels(url=None), "invalid-lock", (DEMO_AT, "url")),
    Case("hashless", wheels(hashes=None), "invalid-lock", (DEMO_AT, "hashes")),
    Case("hashes-empty", wheels(hashes={}), "invalid-lock", (DEMO_AT, "hash")),
    Case("hashes-number", wheels(hashes={"sha256": 1}), "invalid-lock", (DEMO_AT, "hash")),
    Case("hash-short", wheels(hashes={"sha256": "abc"}), "invalid-lock", (DEMO_AT, "sha256", "64")),
    Case("hash-no-hex", wheels(hashes={"sha256": "x" * 64}), "invalid-lock", (DEMO_AT, "sha256")),
    Case(
        "hash-weak",
        wheels(hashes={"md5": "0" * 32, "sha1": "0" * 40}),
        "weak-hash",
        (DEMO_AT, "md5", "sha256"),
    ),
    Case("hash-unknown", wheels(hashes={"crc32": "0" * 8}), "weak-hash", (DEMO_AT, "crc32")),
    Case("hash-weak-archive", archive(hashes={"md5": "0" * 32}), "weak-hash", (DEMO_AT, "md5")),
    Case("size-negative", wheels(size=-1), "invalid-lock", (DEMO_AT, "-1")),
    Case("size-boolean", wheels(size=True), "invalid-lock", (DEMO_AT, "size")),
    Case("size-text", wheels(size="865"), "invalid-lock", (DEMO_AT, "size")),
    Case("filename-no-wheel", wheels(name="demo.zip"), "invalid-lock", (DEMO_AT, "demo.zip")),
    Case(
        "filename-folder", wheels(name="../demo-1.0-py3-none-any.whl"), "invalid-lock", (DEMO_AT, "demo-1.0")
    ),
    Case("filename-other", wheels(name="other-1.0-py3-none-any.whl"), "invalid-lock", (DEMO_AT, "other")),
    Case("filename-version", wheels(name="demo-2.0-py3-none-any.whl"), "invalid-lock", (DEMO_AT, "2.0")),
    Case(
        "url-data",
        wheels(url=f"data:application/zip;base64,AAAA/{WHEEL.filename}"),
        "bad-artifact-url",
        (DEMO_AT, "data:", "http"),
    ),
    Case(
        "url-ftp",
        wheels(url=f"ftp://example.invalid/{WHEEL.filename}"),
        "bad-artifact-url",
        (DEMO_AT, "ftp:"),
    ),
    Case("url-relative", wheels(url=f"files/{WHEEL.filename}"), "bad-artifact-url", (DEMO_AT, "files/")),
    Case(
        "url-of-a-host",
        wheels(url=f"file://host/{WHEEL.filename}"),
        "bad-artifact-url",
        (DEMO_AT, "file://host"),
    ),
    Case("url-control", wheels(url="http://h/\u0007x.whl"), "bad-artifact-url", (DEMO_AT,)),
    Case("url-port", wheels(url="http://h:99999/x.whl"), "bad-artifact-url", (DEMO_AT, "99999")),
    Case(
        "url-data-archive",
        archive(url="data:application/zip;base64,AAAA"),
        "bad-artifact-url",
        (DEMO_AT, "data:"),
    ),
    Case("vcs-kind", vcs(type="hg"), "unsupported-vcs", (DEMO_AT, "'hg'", "git")),
    Case("vcs-no-commit", vcs(commit_id=None), "invalid-lock", (DEMO_AT, "commit-id")),
    Case("vcs-short-commit", vcs(commit_id="0123abc"), "invalid-lock", (DEMO_AT, "0123abc", "40")),
    Case("vcs-commit-option", vcs(commit_id="--upload-pack=x"), "invalid-lock", (DEMO_AT, "--upload-pack")),
    Case("vcs-ext", vcs(url="ext::sh -c true"), "bad-artifact-url", (DEMO_AT, "ext::")),
    Case("vcs-option-host", vcs(url="ssh://-oProxyCommand=x/y"), "bad-artifact-url", (DEMO_AT, "host")),
    Case("vcs-outside", vcs(subdirectory="a/../../b"), "invalid-lock", (DEMO_AT, "a/../../b")),
    Case(
        "directory-outside",
        one(directory={"path": "x", "subdirectory": "/etc"}),
        "invalid-lock",
        (DEMO_AT, "/etc"),
    ),
    Case("archive-outside", archive(subdirectory=".."), "invalid-lock", (DEMO_AT, "'..'")),
    Case("directory-nameless", one(directory={"path": ""}), "invalid-lock", (DEMO_AT, "path")),
    Case(
        "python",
        pylock(GOOD, requires_python=">=9.1"),
        "python-mismatch",
        (">=9.1", interpreters.running().version),
    ),
    Case("package-python", pylock({**GOOD, "requires-python": "<3"}), "python-mismatch", (DEMO_AT, "<3")),
    Case("environments", pylock(GOOD, environments=[ELSEWHERE]), "unsupported-environment", ("nowhere",)),
    Case(
        "duplicates",
        pylock(
            GOOD, {**GOOD, "version": "2.0", "wheels": [listed(WHEEL, URL, name="demo-2.0-py3-none-any.whl")]}
        ),
        "ambiguous-lock",
        ("pylock.toml:5", "pylock.toml:10", "demo"),
    ),
    Case("marker-syntax", pylock({**GOOD, "marker": "sys_platform =="}), "invalid-lock", (DEMO_AT, "marker")),
    Case(
        "marker-variable",
        pylock({**GOOD, "marker": "no_such_thing == 'x'"}),
        "invalid-lock",
        (DEMO_AT, "marker"),
    ),
    Case(
        "marker-comparison", pylock({**GOOD, "marker": "extras == 'x'"}), "invalid-lock", (DEMO_AT, "marker")
    ),
    Case(
        "extra", pylock(GOOD, extras=["web", "cli"]), "unknown-extra", ("'gui'", "cli, web"), ("--extra=gui",)
    ),
    Case("extra-none", pylock(GOOD), "unknown-extra", ("'gui'", "none"), ("--extra=gui",)),
    Case(
        "group",
        pylock(GOOD, dependency_groups=["dev"]),
        "unknown-group",
        ("'docs'", "dev"),
        ("--group=docs",),
    ),
    Case("hashes-demanded", vcs(), "hash-unsupported", (DEMO_AT, "--require-hashes"), ("--require-hashes",)),
    Case(
        "constraints", pylock(GOOD), "conflicting-options", ("--constraint", "pylock.toml"), ("-c", "c.txt")
    ),
    Case("two-locks", pylock(GOOD), "mixed-sources", ("pylock.toml", "uv.lock"), ("uv.lock",)),
    Case("lock-and-more", pylock(GOOD), "mixed-sources", ("pylock.toml", "more.txt"), ("more.txt",)),
    Case(
        "wrong-platform",
        one(version="1.0", wheels=[listed(FOREIGN, URL)]),
        "no-matching-wheel",
        (DEMO_AT, "win_amd64", "cp3"),
        exit=1,
    ),
    Case(
        "wrong-platform-archive",
        one(archive=listed(FOREIGN, f"{AT}/{FOREIGN.filename}", name=None)),
        "no-matching-wheel",
        (DEMO_AT, "win_amd64"),
        exit=1,
    ),
    Case(
        "no-binary",
        pylock(GOOD),
        "no-matching-wheel",
        (DEMO_AT, "--no-binary"),
        ("--no-binary=demo",),
        exit=1,
    ),
    Case(
        "no-build",
        one(directory={"path": "project"}),
        "build-not-allowed",
        (DEMO_AT, "--no-build"),
        ("--no-build",),
        exit=1,
    ),
    Case(
        "missing-path",
        one(version="1.0", wheels=[listed(WHEEL, path="no/" + WHEEL.filename)]),
        "file-not-found",
        (DEMO_AT, "no/" + WHEEL.filename),
        exit=1,
    ),
    Case("missing-directory", one(directory={"path": "no/such"}), "source-not-found", (DEMO_AT, "no/such")),
    Case(
        "empty-directory",
        one(directory={"path": "empty"}),
        "not-a-project",
        (DEMO_AT, "empty", "pyproject.toml"),
    ),
]


HERE = uv_project("demo")
INDEX = {"registry": f"{AT}/simple"}


def uv(**package: Any) -> str:
    """A uv.lock whose project needs `demo`, of which something is wrong; its name is on line 12."""
    table: dict[str, Any] = {
        "name": "demo",
        "version": "1.0",
        "source": INDEX,
        "wheels": [uv_file(WHEEL, URL)],
    }
    table |= {key.replace("_", "-"): value for key, value in package.items()}
    return uvlock(HERE, {key: value for key, value in table.items() if value is not None})


def uv_wheel(**file: Any) -> str:
    """The same with something wrong in its wheel."""
    return uv(wheels=[uv_file(WHEEL, **{"url": URL, **file})])


DEMO = uv_package(WHEEL, f"{AT}/simple", URL)
DEMO_UV = "uv.lock:12"
GIT = "https://example.invalid/x.git"

UVLOCKS = [
    Case("version-2", uvlock(HERE, version=2), "unsupported-lock-version", ("version 2", "pylock")),
    Case("version-text", uvlock(HERE, version="1"), "invalid-lock", ("version", "'1'")),
    Case("version-none", uvlock(HERE, version=None), "invalid-lock", ("version",)),
    Case("empty-file", "", "invalid-lock", ("empty",)),
    Case("truncated", uvlock(HERE, DEMO)[:-30], "invalid-lock", ("uv.lock:16", "cut off")),
    Case("merge", uvlock(HERE) + "=======\n", "invalid-lock", ("uv.lock:10", "merge")),
    Case("python", uvlock(HERE, requires_python=">=9"), "python-mismatch", (">=9",)),
    Case("python-invalid", uvlock(HERE, requires_python="three"), "invalid-lock", ("'three'",)),
    Case(
        "environments", uvlock(HERE, supported_markers=[ELSEWHERE]), "unsupported-environment", ("nowhere",)
    ),
    Case("packages-text", 'version = 1\npackage = "x"\n', "invalid-lock", ("package",)),
    Case("nameless", uvlock(HERE, {"version": "1.0"}), "invalid-lock", ("package 2", "name")),
    Case("projectless", uvlock(DEMO), "invalid-lock", ("project",)),
    Case("member-gone", uvlock(DEMO, manifest={"members": ["x"]}), "invalid-lock", ("'x'",)),
    Case("hole", uvlock(HERE), "invalid-lock", ("'demo'", "package 1 (app)", "uv.lock:6")),
    Case("ambiguous", uvlock(HERE, DEMO, {**DEMO, "version": "2.0"}), "invalid-lock", ("'demo'", "any of 2")),
    Case(
        "two-versions",
        uvlock(
            uv_project({"name": "demo", "version": "1.0"}, {"name": "demo", "version": "2.0"}),
            DEMO,
            uv_package(make_wheel("demo", "2.0"), f"{AT}/simple", f"{AT}/demo-2.0-py3-none-any.whl"),
        ),
        "ambiguous-lock",
        ("uv.lock:12", "demo"),
    ),
    Case("sourceless", uv(source=None), "invalid-lock", (DEMO_UV, "source")),
    Case("source-unknown", uv(source={"carrier": "pigeon"}), "invalid-lock", (DEMO_UV, "carrier")),
    Case("source-two", uv(source={**INDEX, "git": GIT}), "invalid-lock", (DEMO_UV, "git")),
    Case("versionless", uv(version=None), "invalid-lock", (DEMO_UV, "version")),
    Case(
        "wheel-placeless", uv(wheels=[{"hash": f"sha256:{WHEEL.sha256}"}]), "invalid-lock", (DEMO_UV, "url")
    ),
    Case(
        "wheel-path-of-url", uv(wheels=[{"path": WHEEL.filename}]), "invalid-lock", (DEMO_UV, WHEEL.filename)
    ),
    Case(
        "wheel-other",
        uv_wheel(url=f"{AT}/other-1.0-py3-none-any.whl"),
        "invalid-lock",
        (DEMO_UV, "other-1.0"),
    ),
    Case("wheel-no-wheel", uv_wheel(url=f"{AT}/demo-1.0.zip"), "invalid-lock", (DEMO_UV, "demo-1.0.zip")),
    Case("hash-short", uv_wheel(hash="sha256:abc"), "invalid-lock", (DEMO_UV, "64")),
    Case("hash-unknown", uv_wheel(hash="crc32:00000000"), "invalid-lock", (DEMO_UV, "crc32")),
    Case("size-negative", uv_wheel(size=-1), "invalid-lock", (DEMO_UV, "-1")),
    Case("url-data", uv_wheel(url=f"data:x/{WHEEL.filename}"), "bad-artifact-url", (DEMO_UV, "data:")),
    Case("url-ftp", uv(source={"url": "ftp://example.invalid/x.zip"}), "bad-artifact-url", (DEMO_UV, "ftp:")),
    Case("git-no-commit", uv(source={"git": f"{GIT}?branch=main"}), "invalid-lock", (DEMO_UV, "commit")),
    Case("git-short-commit", uv(source={"git": f"{GIT}#0123abc"}), "invalid-lock", (DEMO_UV, "0123abc")),
    Case("git-ext", uv(source={"git": f"ext::sh -c true#{COMMIT}"}), "bad-artifact-url", (DEMO_UV, "ext::")),
    Case("git-lfs", uv(source={"git": f"{GIT}?lfs=true#{COMMIT}"}), "unsupported-vcs", (DEMO_UV, "LFS")),
    Case(
        "git-outside",
        uv(source={"git": f"{GIT}?subdirectory=../x#{COMMIT}"}),
        "invalid-lock",
        (DEMO_UV, "../x"),
    ),
    Case(
        "marker-syntax",
        uvlock(uv_project({"name": "demo", "marker": "((("}), DEMO),
        "invalid-lock",
        ("marker", "'((('"),
    ),
    Case(
        "marker-variable",
        uvlock(uv_project({"name": "demo", "marker": "nope == 'x'"}), DEMO),
        "invalid-lock",
        ("marker", "nope"),
    ),
    Case("conflicts", uvlock(HERE, DEMO, conflicts=[{"package": "app"}]), "invalid-lock", ("conflicts",)),
    Case("extra", uvlock(HERE, DEMO), "unknown-extra", ("'gui'",), ("--extra=gui",)),
    Case(
        "group",
        uvlock(uv_project("demo", dev_dependencies={"lint": []}), DEMO),
        "unknown-group",
        ("'docs'", "lint"),
        ("--group=docs",),
    ),
    Case(
        "exclusive",
        uvlock(
            uv_project(optional_dependencies={"a": [], "b": []}),
            conflicts=[[{"package": "app", "extra": "a"}, {"package": "app", "extra": "b"}]],
        ),
        "conflicting-extras",
        ("extra a of app", "extra b of app"),
        ("--all-extras",),
    ),
    Case(
        "hash-weak",
        uv_wheel(hash="md5:" + "0" * 32),
        "missing-hash",
        (DEMO_UV, "--require-hashes"),
        ("--require-hashes",),
    ),
    Case(
        "hashes-demanded",
        uv(source={"editable": "empty"}),
        "hash-unsupported",
        (DEMO_UV, "--require-hashes"),
        ("--require-hashes",),
    ),
    Case("constraints", uvlock(HERE, DEMO), "conflicting-options", ("--constraint",), ("-c", "c.txt")),
    Case(
        "wrong-platform",
        uv(wheels=[uv_file(FOREIGN, f"{AT}/{FOREIGN.filename}")]),
        "no-matching-wheel",
        (DEMO_UV, "win_amd64", "cp3"),
        exit=1,
    ),
    Case("no-files", uv(wheels=[]), "no-matching-wheel", (DEMO_UV, "no files"), exit=1),
    Case(
        "missing-path",
        uv(source={"path": "no/demo-1.0.tar.gz"}),
        "file-not-found",
        (DEMO_UV, "no/demo-1.0.tar.gz"),
        exit=1,
    ),
    Case("missing-directory", uv(source={"directory": "no/such"}), "source-not-found", (DEMO_UV, "no/such")),
]
