"""Build requirements: PEP 508 texts to one version of each project, found by backtracking (resolvelib).

Only what builds need is resolved: locks are resolved already.  What projects offer and what their metadata
says comes in through `Offers`; `resolvelib` is synchronous, so it runs in a thread of its own and asks the
event loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, Resolver
from resolvelib.resolvers import InconsistentCandidate, ResolutionTooDeep
from resolvelib.structs import RequirementInformation

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact_text
from pkgc_daemon.selection.versions import Release

T = TypeVar("T")

#: Steps after which a resolution is given up.
MAX_ROUNDS = 20_000
#: Versions of a project that a message names.
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Metadata:
    """What METADATA says of dependencies."""

    requires: tuple[str, ...] = ()
    """Requires-Dist, as written."""


class Offers(Protocol):
    """What there is to choose from. Called on the event loop, one question of a resolution at a time."""

    async def releases(self, project: str) -> Sequence[Release]:
        """Every usable version of `project` (normalized), in any order; empty: nobody has it."""

    async def metadata(self, project: str, release: Release) -> Metadata:
        """The metadata of one of these, or of what `direct` gave; brings its wheel into the store."""

    async def direct(self, requirement: Requirement) -> Release:
        """What the URL of a direct reference holds."""


class _Identity(NamedTuple):
    """A project, or (with a name of an extra) what that extra adds to it."""

    project: str
    extra: str


@dataclass(frozen=True, slots=True)
class _Need:
    """One requirement on one identity."""

    identity: _Identity
    specifier: SpecifierSet
    text: str
    url: str | None = None
    requirement: Requirement | None = field(default=None, compare=False)
    exactly: Release | None = None
    """From an extra to its own project: this release and no other."""


@dataclass(frozen=True, slots=True)
class _Pick:
    """One release, for one identity."""

    identity: _Identity
    release: Release
    text: str


class _Left(Exception):
    """Nobody waits for the resolution any more."""


async def resolve(
    requirements: Iterable[str],
    markers: Mapping[str, str],
    offers: Offers,
    *,
    label: str,
    preferred: Mapping[str, Version] | None = None,
) -> dict[str, Release]:
    """One release of every project that `requirements` need, directly or not.

    The newest version first; pre-releases if a specifier names one or there is nothing else (PEP 440); yanked
    releases only if they are pinned (PEP 592).

    Args:
        requirements: PEP 508 texts.
        markers: PEP 508 variables of the target.
        offers: what there is.
        label: what is built, for messages.
        preferred: normalized name -> version that is taken if it will do (because it is there already).

    Raises:
        PkgcError: ``build-requirements``: they contradict each other, nothing satisfies one, or one cannot be
            read; and what `offers` raises.
    """
    needs = [
        need
        for text in requirements
        for need in _needs(text, markers, ("",), f"the build requirements of {label}")
    ]
    if not needs:
        return {}
    bridge = _Bridge(asyncio.get_running_loop())
    provider = _Provider(bridge, offers, markers, preferred or {})

    def work() -> Mapping[_Identity, _Pick]:
        resolver: Resolver[_Need, _Pick, _Identity] = Resolver(provider, BaseReporter())
        return resolver.resolve(needs, max_rounds=MAX_ROUNDS).mapping

    try:
        picks = await bridge.run(work)
    except ResolutionImpossible as error:
        raise _impossible(label, error.causes, provider) from error
    except (ResolutionTooDeep, InconsistentCandidate) as error:
        raise PkgcError(
            "build-requirements",
            f"{label}: its build requirements could not be resolved",
            context=str(error),
            hint="build it with --no-build-isolation in an environment that has what it requires",
        ) from error
    return {pick.identity.project: pick.release for pick in picks.values() if not pick.identity.extra}


def applicable(requirements: Iterable[str], markers: Mapping[str, str], label: str) -> tuple[str, ...]:
    """Those of `requirements` whose markers are true for a target.

    Raises:
        PkgcError: ``build-requirements``: one is no PEP 508 text.
    """
    source = f"the build requirements of {label}"
    return tuple(dict.fromkeys(text for text in requirements if _needs(text, markers, ("",), source)))


def _needs(text: str, markers: Mapping[str, str], extras: Sequence[str], source: str) -> list[_Need]:
    """What a requirement asks for: its project, and each extra of it; nothing if its marker is false."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise PkgcError(
            "build-requirements",
            f"{source} cannot be read: {redact_text(text)!r}",
            context=redact_text(str(error)),
            hint="expected: a requirement as in PEP 508, such as 'setuptools >= 64'",
        ) from error
    marker = requirement.marker
    if marker is not None and not any(marker.evaluate({**markers, "extra": extra}) for extra in extras):
        return []
    project = canonicalize_name(requirement.name)
    shown = redact_text(text)
    names = ("", *sorted({canonicalize_name(extra) for extra in requirement.extras}))
    return [
        _Need(_Identity(project, name), requirement.specifier, shown, requirement.url, requirement)
        for name in names
    ]


class _Bridge:
    """A thread that asks the event loop, and ends when nobody waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._left = False
        self._asked: concurrent.futures.Future[Any] | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a new thread: one of a pool could wait for builds that wait for that pool."""
        done: asyncio.Future[tuple[T | None, BaseException | None]] = self._loop.create_future()

        def settle(value: T | None, error: BaseException | None) -> None:
            if not done.done():
                done.set_result((value, error))

        def body() -> None:
            value: T | None = None
            failure: BaseException | None = None
            try:
                value = work()
            except BaseException as error:  # every one is raised again, on the loop
                failure = error
            self._loop.call_soon_threadsafe(settle, value, failure)

        # With its context, so that what it asks knows inside which build it is asked.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(body,), name="pkgc-resolve", daemon=True).start()
        try:
            value, failure = await asyncio.shield(done)
        except asyncio.CancelledError:
            self._leave()
            while not done.done():
                try:
                    await asyncio.wait([done])
                except asyncio.CancelledError:
                    continue
            raise
        if isinstance(failure, _Left):
            raise asyncio.CancelledError
        if failure is not None:
            raise failure
        return value  # type: ignore[return-value]  # None only if T is

    def ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Called in the thread: the answer of the loop."""
        asked: concurrent.futures.Future[T]
        with self._lock:
            if self._left:
                raise _Left
            asked = self._asked = asyncio.run_coroutine_threadsafe(question(), self._loop)
        try:
            return asked.result()
        except concurrent.futures.CancelledError:
            raise _Left from None

    def _leave(self) -> None:
        with self._lock:
            self._left = True
            if self._asked is not None:
                self._asked.cancel()


class _Provider(AbstractProvider[_Need, _Pick, _Identity]):
    """What `resolvelib` asks."""

    def __init__(
        self,
        bridge: _Bridge,
        offers: Offers,
        markers: Mapping[str, str],
        preferred: Mapping[str, Version],
    ) -> None:
        self._bridge = bridge
        self._offers = offers
        self._markers = markers
        self._preferred = preferred
        self._releases: dict[str, list[Release]] = {}
        self._direct: dict[str, Release] = {}
        self._dependencies: dict[tuple[_Identity, int], list[_Need]] = {}

    def identify(self, requirement_or_candidate: _Need | _Pick) -> _Identity:
        """See `AbstractProvider.identify`."""
        return requirement_or_candidate.identity

    def get_preference(
        self,
        identifier: _Identity,
        resolutions: Mapping[_Identity, _Pick],
        candidates: Mapping[_Identity, Iterator[_Pick]],
        information: Mapping[_Identity, Iterator[RequirementInformation[_Need, _Pick]]],
        backtrack_causes: Sequence[RequirementInformation[_Need, _Pick]],
    ) -> tuple[bool, bool, bool, _Identity]:
        """What leaves no choice first, then what caused a conflict, then by name: always the same order."""
        needs = [one.requirement for one in information[identifier]]
        troubled = any(
            identifier == one.requirement.identity
            or (one.parent is not None and identifier == one.parent.identity)
            for one in backtrack_causes
        )
        fixed = any(need.url is not None or need.exactly is not None for need in needs)
        return not fixed, not any(_pins(need) for need in needs), not troubled, identifier

    def find_matches(
        self,
        identifier: _Identity,
        requirements: Mapping[_Identity, Iterator[_Need]],
        incompatibilities: Mapping[_Identity, Iterator[_Pick]],
    ) -> list[_Pick]:
        """The releases that satisfy everything asked of this identity so far, best first."""
        needs = list(requirements[identifier])
        refused = {id(pick.release) for pick in incompatibilities[identifier]}
        return [
            _Pick(identifier, release, f"{identifier.project} {release.version}")
            for release in self._fitting(identifier.project, needs)
            if id(release) not in refused
        ]

    def is_satisfied_by(self, requirement: _Need, candidate: _Pick) -> bool:
        """See `AbstractProvider.is_satisfied_by`."""
        return self._satisfies(candidate.release, requirement)

    def get_dependencies(self, candidate: _Pick) -> list[_Need]:
        """What a release requires; an extra requires its own project too."""
        identity, release = candidate.identity, candidate.release
        known = self._dependencies.get((identity, id(release)))
        if known is not None:
            return known
        metadata = self._bridge.ask(lambda: self._metadata(identity.project, release))
        source = f"the dependencies of {candidate.text}"
        found = [
            need
            for text in metadata.requires
            for need in _needs(text, self._markers, (identity.extra,), source)
        ]
        if identity.extra:
            own = _Identity(identity.project, "")
            text = f"{identity.project}=={release.version}"
            found.append(_Need(own, SpecifierSet(), text, exactly=release))
        self._dependencies[identity, id(release)] = found
        return found

    def versions(self, project: str) -> list[Release]:
        """What is known to be there, newest first."""
        return self._releases.get(project, [])

    async def _metadata(self, project: str, release: Release) -> Metadata:
        return await self._offers.metadata(project, release)

    async def _list(self, project: str) -> Sequence[Release]:
        return await self._offers.releases(project)

    async def _look(self, requirement: Requirement) -> Release:
        return await self._offers.direct(requirement)

    def _fitting(self, project: str, needs: Sequence[_Need]) -> list[Release]:
        exact = next((need.exactly for need in needs if need.exactly is not None), None)
        if exact is not None:
            offered = [exact]
        elif any(need.url is not None for need in needs):
            offered = [self._direct_release(need) for need in needs if need.url is not None][:1]
        else:
            offered = self._listed(project)
        fitting = [one for one in offered if all(self._satisfies(one, need) for need in needs)]
        if exact is not None or any(need.url is not None for need in needs):
            return fitting
        if not any(_pins(need) for need in needs):
            fitting = [one for one in fitting if not one.yanked]
        if not any(need.specifier.prereleases for need in needs):
            final = [one for one in fitting if not one.version.is_prerelease]
            fitting = final or fitting
        wish = self._preferred.get(project)
        return sorted(fitting, key=lambda one: one.version != wish)  # stable: newest first otherwise

    def _listed(self, project: str) -> list[Release]:
        known = self._releases.get(project)
        if known is None:
            found = self._bridge.ask(lambda: self._list(project))
            known = sorted(found, key=lambda one: one.version, reverse=True)
            self._releases[project] = known
        return known

    def _direct_release(self, need: _Need) -> Release:
        assert need.url is not None
        requirement = need.requirement
        assert requirement is not None
        known = self._direct.get(need.url)
        if known is None:
            known = self._direct[need.url] = self._bridge.ask(lambda: self._look(requirement))
        return known

    def _satisfies(self, release: Release, need: _Need) -> bool:
        if need.exactly is not None:
            return release is need.exactly
        if need.url is not None:
            return release is self._direct_release(need)
        return need.specifier.contains(release.version, prereleases=True)


def _pins(need: _Need) -> bool:
    """Whether it names one version (PEP 592 lets only such requirements take yanked files)."""
    return any(
        one.operator == "===" or (one.operator == "==" and not one.version.endswith(".*"))
        for one in need.specifier
    )


def _impossible(
    label: str, causes: Iterable[RequirementInformation[_Need, _Pick]], provider: _Provider
) -> PkgcError:
    lines: dict[str, None] = {}
    projects: dict[str, None] = {}
    for cause in causes:
        need, parent = cause.requirement, cause.parent
        who = f"the build of {label}" if parent is None else parent.text
        lines[f"{need.text} (required by {who})"] = None
        if need.url is None:
            projects[need.identity.project] = None
    missing = ""
    for project in projects:
        releases = provider.versions(project)
        shown = ", ".join(
            f"{one.version} (yanked)" if one.yanked else str(one.version) for one in releases[:_SHOWN]
        )
        more = f" and {len(releases) - _SHOWN} older" if len(releases) > _SHOWN else ""
        lines[
            f"{project}: there is {shown}{more}" if shown else f"{project}: nothing that fits is offered"
        ] = None
        if not releases:
            missing = missing or project
    what = f"nothing offers {missing}" if missing else "they contradict each other, or nothing satisfies them"
    return PkgcError(
        "build-requirements",
        f"{label}: its build requirements cannot be satisfied: {what}",
        context="\n".join(lines),
        hint="check the indexes that are given (-i, -f), or build it with --no-build-isolation in an "
        "environment that has what it requires",
    )
