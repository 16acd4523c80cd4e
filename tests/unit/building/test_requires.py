"""Build requirements: the versions that are taken, and what is said when there are none."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pkgc_daemon.building.requires import Metadata, applicable, resolve
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.selection.versions import Release

MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": "3.12.1",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "6",
    "platform_system": "Linux",
    "platform_version": "1",
    "python_full_version": "3.12.1",
    "python_version": "3.12",
    "sys_platform": "linux",
}


class Shelf:
    """Made-up offers: project -> version -> Requires-Dist; a version that ends in '!' is yanked."""

    def __init__(self, projects: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        self._releases: dict[str, list[Release]] = {}
        self._requires: dict[int, tuple[str, ...]] = {}
        self.urls: dict[str, Release] = {}
        self.asked: list[str] = []
        for project, versions in projects.items():
            for text, requires in versions.items():
                release = Release(Version(text.rstrip("!")), (), text.endswith("!"))
                self._releases.setdefault(project, []).append(release)
                self._requires[id(release)] = tuple(requires)

    def put(self, url: str, version: str, *requires: str) -> None:
        release = self.urls[url] = Release(Version(version), ())
        self._requires[id(release)] = requires

    async def releases(self, project: str) -> Sequence[Release]:
        await asyncio.sleep(0)
        return self._releases.get(project, [])

    async def metadata(self, project: str, release: Release) -> Metadata:
        self.asked.append(f"{project} {release.version}")
        await asyncio.sleep(0)
        return Metadata(self._requires[id(release)])

    async def direct(self, requirement: Requirement) -> Release:
        assert requirement.url is not None
        return self.urls[requirement.url]


async def picked(shelf: Shelf, *texts: str, **more: Any) -> dict[str, str]:
    found = await resolve(texts, MARKERS, shelf, label="demo 1.0", **more)
    return {name: str(release.version) for name, release in sorted(found.items())}


async def refused(shelf: Shelf, *texts: str) -> PkgcError:
    with pytest.raises(PkgcError) as failure:
        await picked(shelf, *texts)
    assert failure.value.code == "build-requirements"
    return failure.value


async def test_the_newest_fitting_versions_with_their_dependencies() -> None:
    """Else builds run with backends that are too old, or without what those need."""
    shelf = Shelf({"setuptools": {"64": [], "70.1": [], "9": []}, "cmaker": {"2": ["ninja<3"], "1": []}})
    shelf._releases["ninja"] = Shelf({"ninja": {"3": [], "2.9": []}})._releases["ninja"]
    for release in shelf._releases["ninja"]:
        shelf._requires[id(release)] = ()
    found = await picked(shelf, "Setuptools >= 40", "cmaker")
    assert found == {"setuptools": "70.1", "cmaker": "2", "ninja": "2.9"}


async def test_nothing_required_asks_nobody() -> None:
    """Else a project without build requirements cannot be built offline."""
    assert await picked(Shelf({})) == {}


async def test_markers_decide() -> None:
    """Else what only another platform needs is installed, or is missing."""
    shelf = Shelf({"a": {"1": ["b; sys_platform == 'win32'", "c; python_version >= '3.8'"]}, "c": {"1": []}})
    assert await picked(shelf, "a", "nothing; sys_platform == 'win32'") == {"a": "1", "c": "1"}


async def test_extras_bring_what_they_name() -> None:
    """Else `setuptools_scm[toml]` lacks its toml."""
    shelf = Shelf(
        {
            "scm": {"8": ["toml-x; extra == 'toml'", "base"], "7": []},
            "toml-x": {"1": []},
            "base": {"1": []},
        }
    )
    assert await picked(shelf, "scm[TOML]", "scm<9") == {"base": "1", "scm": "8", "toml-x": "1"}
    assert await picked(shelf, "scm") == {"base": "1", "scm": "8"}


async def test_an_extra_and_its_project_agree_on_the_version() -> None:
    """Else the extra of one version is installed with another version."""
    shelf = Shelf(
        {"scm": {"8": ["x; extra == 'e'"], "7": ["y; extra == 'e'"]}, "x": {"1": []}, "y": {"1": []}}
    )
    assert await picked(shelf, "scm[e]", "scm==7") == {"scm": "7", "y": "1"}


async def test_pre_releases_only_if_asked_for_or_alone() -> None:
    """PEP 440: else builds run with alphas of their backend."""
    shelf = Shelf({"a": {"2.0b1": [], "1.0": []}, "b": {"1.0a1": []}})
    assert await picked(shelf, "a", "b") == {"a": "1.0", "b": "1.0a1"}
    assert await picked(shelf, "a>=2.0b1") == {"a": "2.0b1"}


async def test_yanked_releases_only_if_pinned() -> None:
    """PEP 592: else builds run with what its authors have withdrawn."""
    shelf = Shelf({"a": {"2.0!": [], "1.0": []}, "b": {"1.0!": []}})
    assert await picked(shelf, "a") == {"a": "1.0"}
    assert await picked(shelf, "a==2.0") == {"a": "2.0"}
    assert await picked(shelf, "a===2.0") == {"a": "2.0"}
    assert "1.0 (yanked)" in ((await refused(shelf, "b")).context or "")
    await refused(shelf, "b==1.*")


async def test_an_older_version_is_taken_when_the_newest_contradicts() -> None:
    """Else a solvable set of requirements is refused."""
    shelf = Shelf({"a": {"2": ["c<2"], "1": ["c"]}, "b": {"1": ["c>=2"]}, "c": {"1": [], "2": []}})
    assert await picked(shelf, "a", "b") == {"a": "1", "b": "1", "c": "2"}


async def test_what_is_there_is_preferred() -> None:
    """Else asking the backend for more requirements replaces half of the build environment."""
    shelf = Shelf({"a": {"2": [], "1": []}, "b": {"1": ["a"]}})
    assert await picked(shelf, "a", "b", preferred={"a": Version("1")}) == {"a": "1", "b": "1"}
    assert await picked(shelf, "a>1", preferred={"a": Version("1")}) == {"a": "2"}


async def test_a_direct_reference() -> None:
    """Else `name @ URL` in build-system.requires is refused, or replaced by what an index has."""
    shelf = Shelf({"a": {"9": []}, "b": {"1": ["a<5"]}})
    url = "https://example.test/a-3.tar.gz"
    shelf.put(url, "3", "b")
    assert await picked(shelf, f"a @ {url}") == {"a": "3", "b": "1"}
    shelf.put(url, "7", "b")
    await refused(shelf, f"a @ {url}")


async def test_a_contradiction_names_all_who_are_part_of_it() -> None:
    """Else nobody can find out whose requirement to change."""
    shelf = Shelf({"a": {"1": ["c<2"]}, "b": {"1": ["c>=2"]}, "c": {"1": [], "2": []}})
    error = await refused(shelf, "a", "b")
    assert error.message.startswith("demo 1.0: ")
    context = error.context or ""
    assert "c<2 (required by a 1)" in context
    assert "c>=2 (required by b 1)" in context
    assert "c: there is 2, 1" in context


async def test_a_project_that_nobody_has() -> None:
    """Else a typo in build-system.requires looks like a contradiction."""
    error = await refused(Shelf({}), "setuptols")
    assert "nothing offers setuptols" in error.message
    assert "setuptols (required by the build of demo 1.0)" in (error.context or "")


async def test_a_missing_dependency_sends_back_to_an_older_version() -> None:
    """Else one bad release of a backend makes everything that needs it unbuildable."""
    shelf = Shelf({"a": {"2": ["gone"], "1": []}})
    assert await picked(shelf, "a") == {"a": "1"}


@pytest.mark.parametrize("text", ["set up tools", "a >=", "", "https://me:hunter2@example.test/a.tar.gz"])
async def test_an_unreadable_requirement(text: str) -> None:
    """Else a mistake in pyproject.toml shows as a traceback; and no credentials in the message."""
    error = await refused(Shelf({}), text)
    assert "hunter2" not in f"{error.message} {error.context}"


async def test_an_error_of_the_offers_comes_through() -> None:
    """Else an index that is down looks like a project that does not exist."""

    class Down(Shelf):
        async def releases(self, project: str) -> Sequence[Release]:
            raise PkgcError("connection-refused", "the index is down")

    with pytest.raises(PkgcError) as failure:
        await picked(Down({}), "a")
    assert failure.value.code == "connection-refused"


async def test_cancelling_ends_the_thread_and_what_it_asked() -> None:
    """Else Ctrl-C leaves a thread that waits, and a download that goes on."""
    begun, ended = asyncio.Event(), asyncio.Event()

    class Slow(Shelf):
        async def releases(self, project: str) -> Sequence[Release]:
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            return []

    task = asyncio.create_task(picked(Slow({}), "a"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(ended.wait(), 5)


async def test_metadata_is_asked_for_once() -> None:
    """Else a backtracking resolution downloads the same wheel again and again."""
    shelf = Shelf({"a": {"2": ["c<2"], "1": ["c"]}, "b": {"1": ["c>=2"]}, "c": {"1": [], "2": []}})
    await picked(shelf, "a", "b")
    assert len(shelf.asked) == len(set(shelf.asked))


def test_applicable_keeps_order_and_drops_what_is_not_for_the_target() -> None:
    """Else equal sets of requirements of two projects are resolved twice."""
    assert applicable(["b", "a; os_name == 'nt'", "c>1", "b"], MARKERS, "demo") == ("b", "c>1")


# Small graphs against brute force

NAMES = ("a", "b", "c")
VERSIONS = ("1", "2", "3")
SPECIFIERS = ("", "<2", ">=2", "==1", "!=3", ">3")
texts = st.tuples(st.sampled_from(NAMES), st.sampled_from(SPECIFIERS)).map("".join)
needs = st.lists(texts, max_size=2)
graphs = st.fixed_dictionaries(
    {name: st.dictionaries(st.sampled_from(VERSIONS), needs, max_size=3) for name in NAMES}
)


def satisfies(graph: Mapping[str, Mapping[str, Sequence[str]]], roots: Sequence[str], choice: Any) -> bool:
    """Whether `choice` (project -> version, or None for left out) satisfies everything."""
    waiting = list(roots)
    for name, version in choice.items():
        if version is not None:
            waiting += graph[name][version]
    for text in waiting:
        requirement = Requirement(text)
        version = choice.get(requirement.name)
        if version is None or not SpecifierSet(str(requirement.specifier)).contains(version):
            return False
    return True


@settings(max_examples=150, deadline=None)
@given(graphs, st.lists(texts, min_size=1, max_size=2))
async def test_a_solution_is_found_exactly_when_there_is_one(
    graph: Mapping[str, Mapping[str, Sequence[str]]], roots: Sequence[str]
) -> None:
    """Else solvable build requirements are refused, or contradicting ones are installed."""
    choices = [
        dict(zip(NAMES, versions, strict=True))
        for versions in itertools.product(*([None, *graph[name]] for name in NAMES))
    ]
    solvable = any(satisfies(graph, roots, choice) for choice in choices)
    if not solvable:
        await refused(Shelf(graph), *roots)
    else:
        found = await picked(Shelf(graph), *roots)
        assert satisfies(graph, roots, found)
        reached: set[str] = set()
        waiting = [Requirement(text).name for text in roots]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += [Requirement(text).name for text in graph[name][found[name]]]
        assert reached == set(found), "nothing superfluous"
