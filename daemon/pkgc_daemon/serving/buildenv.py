"""Build environments: what a build requires, resolved, obtained into the store and placed in its work folder.

Build requirements take the same way as everything else (index pages, verified bytes, trees of the store);
they are resolved once for all builds that want the same at the same time.  Running builds is `builds`' work.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urldefrag

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pkgc_daemon.building.metadata import read_metadata, size_of
from pkgc_daemon.building.requires import Metadata, applicable, resolve
from pkgc_daemon.building.shared import Shared
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.selection.versions import Release, VersionLists
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import (
    STRONG_ALGORITHMS,
    ArchiveSource,
    Candidate,
    Digest,
    Tree,
    Wanted,
)

from .asking import Asking, Obtained
from .buildable import interpreter_facts

#: The Tree of a build requirement: of a pinned version, or of a direct reference (`Wanted.source`).
Obtain = Callable[[Wanted, Asking], Awaitable[Obtained]]

#: Seconds for which a resolution serves later builds (all of one lock, and of the next one).
REMEMBERED_FOR = 60.0
#: Resolutions, and METADATA files, that are kept in memory.
_MOST_RESOLUTIONS, _MOST_METADATA = 256, 2048
#: Bytes of METADATA that are kept in memory, about.
_KEPT_METADATA = 16 << 20
#: Attempts to place a build environment whose trees turn out to be damaged.
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class BuildEnvironment:
    """Where the hooks of a build run."""

    python: str
    scripts: str
    wire: Mapping[str, Any] = field(default_factory=dict)
    """Of its interpreter, when it was made for the build."""
    installed: tuple[Obtained, ...] = ()
    """What pkgc put into it, by name."""

    @property
    def versions(self) -> dict[str, Version]:
        """Project -> version of what pkgc put into it."""
        return {one.tree.manifest.name: Version(one.version) for one in self.installed}


def needed(error: PkgcError, title: str) -> PkgcError:
    """The same error, which also says for which build."""
    if error.message.startswith(f"{title}:"):
        return error
    line = f"needed to build: {title}"
    context = f"{error.context}\n{line}" if error.context else line
    return PkgcError(
        error.code, error.message, context=context, hint=error.hint, exit_status=error.exit_status
    )


class BuildEnvironments:
    """Makes build environments.

    Args:
        store: what is there already.
        versions: what the sources offer.
        shared: resolutions under way, and builds inside them.
        obtain: see `Obtain`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: Store,
        versions: VersionLists,
        shared: Shared,
        obtain: Obtain,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._versions = versions
        self._shared = shared
        self._obtain = obtain
        self._clock = clock
        self._resolved: OrderedDict[Hashable, tuple[float, tuple[Obtained, ...]]] = OrderedDict()
        self._metadata: OrderedDict[str, Metadata] = OrderedDict()
        self._metadata_size = 0

    async def required(
        self,
        requirements: Sequence[str],
        asking: Asking,
        title: str,
        preferred: Mapping[str, Version] | None = None,
    ) -> tuple[Obtained, ...]:
        """The trees of what `requirements` need for the target, by name.

        Args:
            requirements: PEP 508 texts.
            asking: of the build; its settings are not those of its requirements.
            title: what is built, for messages.
            preferred: see `resolve`.

        Raises:
            PkgcError: ``build-requirements``, ``build-cycle``, ``not-in-cache`` (offline), …
        """
        markers = asking.interpreter.markers
        wanted = await asyncio.to_thread(applicable, requirements, markers, title)
        if not wanted:
            return ()
        inner = dataclasses.replace(asking, settings=(), isolated=True)
        key = self._key(wanted, inner, preferred or {})
        known = self._resolved.get(key)
        if known is not None and self._clock() - known[0] <= REMEMBERED_FOR and self._is_there(known[1]):
            return known[1]

        async def work() -> tuple[Obtained, ...]:
            offers = _Offers(self, inner)
            releases = await resolve(wanted, markers, offers, label=title, preferred=preferred)
            found = tuple(offers.obtained[id(releases[name])] for name in sorted(releases))
            self._resolved[key] = (self._clock(), found)
            self._resolved.move_to_end(key)
            while len(self._resolved) > _MOST_RESOLUTIONS:
                self._resolved.popitem(last=False)
            return found

        return await self._shared.run(key, "", work)

    def _is_there(self, obtained: Sequence[Obtained]) -> bool:
        return all(self._store.has_tree(one.tree.sha256) for one in obtained)

    @staticmethod
    def _key(wanted: Sequence[str], asking: Asking, preferred: Mapping[str, Version]) -> Hashable:
        options = hashlib.sha256(repr(asking.options).encode("utf-8", "surrogatepass")).hexdigest()
        # --refresh means: ask again, but once in a call.
        when = asking.asked_at if asking.mode == "refresh" or asking.refresh_packages else 0.0
        return (
            "requirements",
            frozenset(wanted),
            (*interpreter_facts(asking.interpreter), hash(asking.interpreter.tags)),
            options,
            (asking.mode, when, asking.refresh_packages, asking.no_build),
            (asking.given.no_binary, asking.given.only_binary),
            frozenset(preferred.items()),
            asking.world_identity,
        )

    # -- what the resolver asks ------------------------------------------------------------------------

    async def releases(self, project: str, asking: Asking) -> tuple[Release, ...]:
        """The versions of `project` that may be used; offline: those whose bytes are here.

        Raises:
            PkgcError: a source cannot be asked; ``not-in-cache``.
        """
        assert asking.context is not None
        found = await self._versions.releases(
            project,
            asking.interpreter,
            asking.options,
            reporter=asking.context.output,
            mode=asking.mode_for(project),
            asked_at=asking.asked_at,
            no_binary=asking.given.no_binary,
            only_binary=asking.given.only_binary,
            no_build=asking.no_build,
        )
        if asking.mode != "offline":
            return found
        held = []
        for release in found:
            candidates = tuple([one for one in release.candidates if await self._is_held(one)])
            if candidates:
                held.append(dataclasses.replace(release, candidates=candidates))
        if found and not held:
            raise PkgcError(
                "not-in-cache",
                f"{project} is needed for a build and not in the cache, and pkgc is offline",
                context=f"newest on the index: {found[0].version}",
                hint="run once without --offline",
            )
        return tuple(held)

    async def _is_held(self, candidate: Candidate) -> bool:
        if candidate.url.startswith("file:"):
            return True
        digests = [one for one in candidate.hashes if one.algorithm in STRONG_ALGORITHMS]
        await self._store.settle(digests)
        shas = [sha256 for one in digests if (sha256 := self._store.sha256_of(one)) is not None]
        return any(
            self._store.artifact(sha256) is not None or self._store.has_tree(sha256) for sha256 in shas
        )

    async def obtain(self, wanted: Wanted, asking: Asking) -> Obtained:
        """See `Obtain`."""
        return await self._obtain(wanted, asking)

    async def metadata(self, tree: Tree) -> Metadata:
        """What a tree's METADATA says of dependencies.

        Raises:
            PkgcError: ``build-requirements``: it is too large.
        """
        known = self._metadata.get(tree.sha256)
        if known is None:
            path = tree.root / tree.manifest.dist_info / "METADATA"
            label = f"{tree.manifest.name} {tree.manifest.version}"
            known = await asyncio.to_thread(read_metadata, str(path), label)
            if tree.sha256 not in self._metadata:
                self._metadata[tree.sha256] = known
                self._metadata_size += size_of(known)
            while len(self._metadata) > _MOST_METADATA or self._metadata_size > _KEPT_METADATA:
                self._metadata_size -= size_of(self._metadata.popitem(last=False)[1])
        return known

    # -- the environment -------------------------------------------------------------------------------

    async def make(self, work: str, obtained: Sequence[Obtained], asking: Asking) -> BuildEnvironment:
        """Make an environment in the work folder, with what was obtained.

        Raises:
            PkgcError: it cannot be made.
        """
        create = {"python": asking.interpreter.executable, "version": asking.interpreter.version}
        target = {"venv": f"{work}/env", "interpreter": None, "create": create}
        return await self._place(target, obtained, (), asking)

    async def change(
        self, environment: BuildEnvironment, work: str, obtained: Sequence[Obtained], asking: Asking
    ) -> BuildEnvironment:
        """Make an environment have exactly what was obtained."""
        new = {one.tree.sha256 for one in obtained}
        old = {one.tree.sha256 for one in environment.installed}
        if new == old:
            return environment
        gone = [one for one in environment.installed if one.tree.sha256 not in new]
        target = {"venv": f"{work}/env", "interpreter": dict(environment.wire)}
        added = [one for one in obtained if one.tree.sha256 not in old]
        changed = await self._place(target, added, gone, asking)
        return dataclasses.replace(changed, installed=tuple(obtained))

    async def _place(
        self,
        target: dict[str, Any],
        added: Sequence[Obtained],
        gone: Sequence[Obtained],
        asking: Asking,
    ) -> BuildEnvironment:
        assert asking.context is not None
        context = asking.context
        added = list(added)
        settled: set[str] = set()
        for _attempt in range(_ATTEMPTS):
            args: dict[str, Any] = {
                **target,
                "fingerprint": None,
                "remove": [_removal(one, target["interpreter"]) for one in gone],
                "add": [self._addition(one) for one in added],
                # What a build does to its environment stays there: no file of the store is linked into it.
                "link_mode": "reflink",
                "compile": False,
                "strict": False,
                "settled": sorted(settled),
            }
            if context.umask is not None:
                args["umask"] = context.umask
            result = await context.world.do("apply_plan", args)
            if result["status"] == "done":
                for warning in result.get("warnings", ()):
                    context.output.detail(f"build environment: {warning}")
                wire = result["interpreter"]
                return BuildEnvironment(wire["executable"], wire["paths"]["scripts"], wire, tuple(added))
            if result["status"] == "reinstall":
                settled.update(result["names"])
                continue
            if result["status"] == "damaged":
                await self._store.damaged_tree(result["sha256"])
                added = [
                    await self._again(one, asking) if one.tree.sha256 == result["sha256"] else one
                    for one in added
                ]
        raise PkgcError(
            "build-environment-failed",
            f"the build environment {target['venv']} could not be made",
            context=f"the last answer was: {result['status']}",
            hint="does something else change temporary folders, or the cache?",
        )

    async def _again(self, one: Obtained, asking: Asking) -> Obtained:
        """A tree that turned out to be damaged, unpacked anew."""
        artifact = await self._store.obtain_artifact(one.tree.sha256)
        if artifact is None:
            return await self._obtain(one.wanted, asking)
        tree = await self._store.ensure_tree(artifact, one.tree.manifest.filename)
        return dataclasses.replace(one, tree=tree)

    def _addition(self, one: Obtained) -> dict[str, Any]:
        return {
            "name": one.tree.manifest.name,
            "version": one.version,
            "tree": str(one.tree.root),
            "manifest": str(self._store.manifest_path(one.tree.sha256)),
            "sha256": one.tree.sha256,
            "provenance": one.provenance(),
            "direct_url": one.direct_url,
            "requested": False,
        }


class _Offers:
    """`building.requires.Offers` by the sources of one call."""

    def __init__(self, environments: BuildEnvironments, asking: Asking) -> None:
        self._environments = environments
        self._asking = asking
        self.obtained: dict[int, Obtained] = {}
        """id of a Release -> its tree."""
        self._local: set[tuple[str, str]] = set()
        self._kept: list[Release] = []

    async def releases(self, project: str) -> Sequence[Release]:
        """See `Offers.releases`."""
        found = await self._environments.releases(project, self._asking)
        self._kept += found  # so that no id is given twice
        self._local |= {(project, one.version.public) for one in found if one.version.local}
        return found

    async def metadata(self, project: str, release: Release) -> Metadata:
        """See `Offers.metadata`."""
        obtained = self.obtained.get(id(release))
        if obtained is None:
            version = str(release.version)
            # '==1.0' is satisfied by 1.0+local as well, which is another release: then only '===' is exact.
            exact = release.version.local is None and (project, version) in self._local
            wanted = Wanted(project, version, arbitrary=exact, text=f"{project}=={version}")
            obtained = await self._environments.obtain(wanted, self._asking)
            self.obtained[id(release)] = obtained
        return await self._environments.metadata(obtained.tree)

    async def direct(self, requirement: Requirement) -> Release:
        """See `Offers.direct`."""
        wanted = direct_wanted(requirement)
        obtained = await self._environments.obtain(wanted, self._asking)
        try:
            release = Release(Version(obtained.version), ())
        except InvalidVersion as error:
            raise PkgcError(
                "build-requirements", f"{wanted.text} has no valid version: {obtained.version}"
            ) from error
        self._kept.append(release)
        self.obtained[id(release)] = obtained
        return release


def direct_wanted(requirement: Requirement) -> Wanted:
    """The Wanted of a build requirement with a URL.

    Raises:
        PkgcError: ``build-requirements``: no archive is at such a URL.
    """
    assert requirement.url is not None
    url, fragment = urldefrag(requirement.url)
    shown = f"{requirement.name} @ {redact(requirement.url)}"
    if not url.startswith(("https://", "http://", "file:///")):
        raise PkgcError(
            "build-requirements",
            f"the build requirement {shown} cannot be used",
            context=f"expected: the URL of an archive (https:, http:, file:)\nfound: {redact(url)}",
            hint="build it with --no-build-isolation in an environment that has what it requires",
        )
    parts = dict(parse_qsl(fragment))
    integrity = set()
    for key, value in parts.items():
        try:
            integrity.add(Digest.parse(f"{key}:{value}"))
        except ValueError:
            continue  # subdirectory, egg
    path = None
    if url.startswith("file:"):
        from pkgc_daemon.fetching.localfiles import path_of

        path = path_of(url)
    source = ArchiveSource(url, path, parts.get("subdirectory") or None, frozenset(integrity))
    return Wanted(canonicalize_name(requirement.name), "", source=source, text=shown)


def _removal(one: Obtained, wire: Mapping[str, Any]) -> dict[str, Any]:
    manifest = one.tree.manifest
    site = wire["paths"]["purelib" if manifest.root_is_purelib else "platlib"]
    return {
        "name": manifest.name,
        "version": manifest.version,
        "dist_info": f"{site}/{manifest.dist_info}",
    }
