"""The pyproject.toml beside a uv.lock: when the lock is called old, and when it must not be."""

from __future__ import annotations

import pytest

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.uvlock import parse_uvlock

LOCK = """
version = 1
revision = 3
requires-python = ">=3.11, <4"

[[package]]
name = "demo"
version = "0.1"
source = { editable = "." }

[package.metadata]
requires-dist = [
    { name = "a", specifier = ">=1,<2" },
    { name = "b", extras = ["x"], marker = "python_full_version < '3.12' and extra == 'gui'" },
    { name = "lib", editable = "lib" },
]
provides-extras = ["gui"]

[package.metadata.requires-dev]
dev = [{ name = "c", specifier = "==1.0" }, { name = "d" }]
docs = [{ name = "d" }]
"""
PROJECT = """
[project]
name = "Demo"
version = "0.2"
requires-python = ">=3.11,<4.0"
dependencies = ["A<2,>=1 ; os_name == 'posix'", "lib>=3"]
[project.optional-dependencies]
gui = ["b[X] ; python_version < '3.12'"]
[dependency-groups]
docs = ["d"]
dev = ["c==1.0.0", {include-group = "docs"}]
[tool.uv.sources]
lib = { workspace = true }
"""


def warnings(project: str | None, lock: str = LOCK) -> tuple[str, ...]:
    """What reading the two says."""
    beside = None if project is None else project.encode()
    return parse_uvlock(lock.encode(), "/w/uv.lock", "sub/uv.lock", beside).warnings


def test_a_lock_that_fits_is_not_called_old() -> None:
    """Spelling, order, markers, sources and a new version of the project are no reason to cry wolf."""
    assert warnings(PROJECT) == ()
    assert warnings(None) == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"lib>=3"', '"lib>=3", "new"', "new is not locked"),
        (', "lib>=3"', "", "lib is locked, but not required any more"),
        ("A<2,>=1", "A<3,>=1", "a has other versions or extras"),
        ("b[X]", "b[Y]", "b (extra gui) has other versions or extras"),
        ("c==1.0.0", "c==2", "c (group dev) has other versions or extras"),
        ('docs = ["d"]', 'docs = ["d", "e"]', "e (group dev) is not locked, e (group docs) is not locked"),
        (">=3.11,<4.0", ">=3.12,<4.0", "requires-python is '>=3.12,<4.0'"),
        ("gui = ", "tui = ", "the extras differ (gui, tui), b (extra gui) is locked"),
    ],
)
def test_a_difference_is_told(old: str, new: str, said: str) -> None:
    """Who edited pyproject.toml and forgot `uv lock` learns which requirement is not in the environment."""
    (warning,) = warnings(PROJECT.replace(old, new))
    assert warning.startswith("sub/uv.lock may be out of date: ")
    assert said in warning
    assert warning.endswith("; run `uv lock`")


def test_many_differences_are_counted() -> None:
    """A whole new pyproject.toml does not fill the screen."""
    (warning,) = warnings(PROJECT.replace('"lib>=3"', '"n1", "n2", "n3", "n4"'))
    assert "and 2 more" in warning


@pytest.mark.parametrize(
    "project",
    [
        PROJECT.replace("Demo", "other").replace("lib>=3", "new"),
        PROJECT.replace('version = "0.2"', 'dynamic = ["dependencies"]').replace("lib>=3", "new"),
        PROJECT.replace("lib>=3", "not a requirement !"),
        PROJECT.replace('include-group = "docs"', 'include-group = "dev"'),
        PROJECT.replace('["d"]', "[1]"),
        "[project]\nname = 1",
        "",
    ],
)
def test_what_cannot_be_compared_is_not_called_old(project: str) -> None:
    """The hint is dropped where only uv could judge; installing goes on."""
    assert warnings(project) == ()


def test_locks_without_metadata_are_not_compared() -> None:
    """Newer locks may leave out what they were made from."""
    cut = LOCK[: LOCK.index("[package.metadata]")]
    assert warnings(PROJECT.replace("lib>=3", "new"), cut) == ()


def test_members_have_their_own_requires_python() -> None:
    """The lock of a workspace has the requires-python of all members together."""
    lock = LOCK.replace("[[package]]", '[manifest]\nmembers = ["demo", "lib"]\n[[package]]').replace(
        ">=3.11, <4", ">=3.12"
    )
    assert warnings(PROJECT, lock) == ()


@pytest.mark.parametrize(
    "project",
    ["[project", "\xff", "[tool]\nuv = 1", "[tool.uv]\ndefault-groups = [1]", "dependency-groups = 1"],
)
def test_a_broken_pyproject_is_an_error(project: str) -> None:
    """Default groups are read from it: to guess them would install another set of packages."""
    with pytest.raises(InputError) as caught:
        parse_uvlock(LOCK.encode(), "/w/uv.lock", "sub/uv.lock", project.encode("latin-1"))
    assert caught.value.code == "invalid-pyproject"
    assert "sub/pyproject.toml" in caught.value.message
