"""Direct references: what a URL, path, directory or repository holds now, and its Tree.

Looked at before planning (`state`), because what is installed is compared with it; obtained after (`obtain`).
A URL without a hash is asked at every sync (invariant 4); bytes that a hash names are never asked for again.
"""

from __future__ import annotations

import posixpath
import re
import urllib.parse

from pkgc_daemon.errors import InputError, PkgcError
from pkgc_daemon.fetching.directurls import DirectUrls, not_in_cache
from pkgc_daemon.fetching.urlmemory import UrlState
from pkgc_daemon.installing.records import direct_url, file_url
from pkgc_daemon.redaction import redact
from pkgc_daemon.reporting import Reporter
from pkgc_daemon.selection.filenames import parse_sdist, parse_wheel, ranking
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import (
    ArchiveSource,
    Artifact,
    DirectorySource,
    Interpreter,
    Origin,
    SourceState,
    VcsSource,
    Wanted,
)

from .asking import Asking, CameFrom, Obtained
from .attempts import placed
from .buildable import Buildable
from .builds import Builder
from .elsewhere import check_url
from .obtaining import built_tree, check_python, decisive, is_source_archive

#: A whole commit: SHA-1, or SHA-256 of newer repositories.
_COMMIT = re.compile(r"([0-9a-fA-F]{40}|[0-9a-fA-F]{64})\Z")


class DirectSources:
    """States and Trees of direct references; shared by all calls.

    Args:
        store: what is there already.
        direct_urls: archives by their URL, or by the hash that is given for it.
        builder: wheels of everything that is none.
    """

    def __init__(self, store: Store, direct_urls: DirectUrls, builder: Builder) -> None:
        self._store = store
        self._direct_urls = direct_urls
        self._builder = builder

    async def state(self, wanted: Wanted, asking: Asking, reporter: Reporter) -> tuple[SourceState, str]:
        """What the reference of `wanted` holds now, and the project's name where that shows ('' if not).

        Raises:
            PkgcError: its place cannot be asked, or holds no project.
        """
        source = wanted.direct
        assert source is not None
        try:
            if isinstance(source, ArchiveSource):
                if asking.context is not None:
                    check_url(asking.context.world, source.url)
                return await self._archive_state(wanted, source, asking, reporter), ""
            if isinstance(source, DirectorySource):
                return await self._directory_state(source, asking)
            return await self._vcs_state(source, asking, reporter), ""
        except PkgcError as error:
            raise placed(error, wanted) from error

    async def _archive_state(
        self, wanted: Wanted, source: ArchiveSource, asking: Asking, reporter: Reporter
    ) -> SourceState:
        if not is_source_archive(filename := archive_name(source.url)):
            check_tags(filename, asking.interpreter)  # before anything is downloaded
        if wanted.hashes:
            return SourceState(wanted.hashes, asked=False)
        try:
            current = await self._direct_urls.current(
                source.url,
                integrity=source.integrity,
                size=source.size,
                filename=archive_name(source.url),
                options=asking.options,
                reporter=reporter,
                mode=asking.mode_for_url(wanted.name),
                since=asking.asked_at or None,
            )
        except PkgcError as error:
            if asking.mode != "offline" or error.code != "not-in-cache":
                raise
            if not decisive(source.integrity):
                _warn_unknown(source.url, reporter)
            return SourceState(asked=False)
        if not current.asked:
            reporter.warning(
                f"{redact(source.url)} was not asked whether it changed (--offline): "
                "using what was there last",
                "not-revalidated",
            )
        fetched = current.came_from == "network" and source.path is None
        return SourceState(current.artifact.digests, asked=current.asked, fetched=fetched)

    async def _directory_state(self, source: DirectorySource, asking: Asking) -> tuple[SourceState, str]:
        assert asking.context is not None
        found = await asking.context.world.do(
            "inspect_directory",
            {"path": source.path, "subdirectory": source.subdirectory, "editable": source.editable},
        )
        project = found.get("project") or {}
        return SourceState(fingerprint=found["fingerprint"]), str(project.get("name") or "")

    async def _vcs_state(self, source: VcsSource, asking: Asking, reporter: Reporter) -> SourceState:
        commit = source.commit
        if commit is None and source.requested is not None and _COMMIT.match(source.requested):
            commit = source.requested
        if commit is not None:
            return SourceState(commit=commit.lower())
        key = f"git {redact(source.url)} {source.requested or ''}"
        if asking.mode == "offline":
            known = await self._store.url_state(key)
            if known is None or known.etag is None:
                _warn_unknown(source.url, reporter)
                return SourceState(asked=False)
            reporter.warning(
                f"{redact(source.url)} was not asked whether it changed (--offline): "
                f"using commit {known.etag}",
                "not-revalidated",
            )
            return SourceState(commit=known.etag, asked=False)
        assert asking.context is not None
        found = await asking.context.world.do(
            "resolve_git", {"url": source.url, "requested": source.requested}
        )
        commit = found["commit"]
        if commit is None:  # a short commit, which only the repository itself can complete
            commit = await self._builder.resolve_commit(source, asking)
        if not asking.world_identity:
            await self._store.remember_url(key, UrlState("", commit, None, asking.asked_at))
        return SourceState(commit=commit)

    async def obtain(
        self, wanted: Wanted, state: SourceState, asking: Asking, reporter: Reporter
    ) -> Obtained:
        """The Tree of a direct reference.

        Raises:
            PkgcError: it cannot be had, built, or is not what the lock says.
        """
        source = wanted.direct
        assert source is not None
        try:
            if isinstance(source, ArchiveSource):
                if asking.context is not None:
                    check_url(asking.context.world, source.url)
                obtained = await self._obtain_archive(wanted, source, state, asking, reporter)
            else:
                obtained = await self._obtain_tree(wanted, source, state, asking)
            check_python(obtained.tree, asking.interpreter)
            check_identity(wanted, obtained.tree.manifest.name, obtained.tree.manifest.version)
        except PkgcError as error:
            raise placed(error, wanted) from error
        return obtained

    async def expected(self, wanted: Wanted, state: SourceState, *, strict: bool) -> tuple[Origin, CameFrom]:
        """Where `obtain` would take it from, as far as that shows: nothing is downloaded or built.

        Args:
            strict: fail where `obtain` is known to fail.

        Raises:
            PkgcError: ``not-in-cache``.
        """
        source = wanted.direct
        if isinstance(source, ArchiveSource):
            if strict and not state.asked and not state.digests:
                raise placed(not_in_cache(source.url), wanted)
            await self._store.settle(state.digests)
            held = any(self._store.find(digest) is not None for digest in decisive(state.digests))
            if not held:
                return archive_origin(source), "network"
            if is_source_archive(archive_name(source.url)):
                return archive_origin(source), "build"
            return archive_origin(source), "network" if state.fetched else "store"
        assert source is not None
        if isinstance(source, DirectorySource):
            return Origin("directory", file_url(source.path)), "build"
        if strict and state.commit is None:
            raise placed(_never_asked(source), wanted)
        at = f"@{state.commit}" if state.commit else ""
        return Origin("vcs", f"git+{redact(source.url)}{at}"), "build"

    async def _obtain_archive(
        self,
        wanted: Wanted,
        source: ArchiveSource,
        state: SourceState,
        asking: Asking,
        reporter: Reporter,
    ) -> Obtained:
        filename, origin = archive_name(source.url), archive_origin(source)
        if is_source_archive(filename) and (before := await self._built_before(wanted, source, asking)):
            return before
        artifact, came_from = await self._archive(wanted, source, state, asking, reporter)
        if state.fetched and came_from == "store":
            came_from = "network"
        found = SourceState(artifact.digests, asked=state.asked)
        record = direct_url(source, found, asking.settings_for(wanted))
        if not is_source_archive(filename):
            check_tags(filename, asking.interpreter)
            tree = await self._store.load_tree(artifact.sha256) or await self._store.ensure_tree(
                artifact, filename
            )
            return Obtained(wanted, tree, origin, came_from, artifact.digests, direct_url=record)
        buildable = _of_archive(source, artifact.sha256, str(artifact.path))
        with self._store.lease([artifact.sha256]):
            built = await self._builder.wheel(buildable, asking, asking.settings_for(wanted), wanted)
        tree = await built_tree(self._store, built)
        made: CameFrom = "store" if built.from_cache else "build"
        return Obtained(wanted, tree, origin, made, artifact.digests, built=True, direct_url=record)

    async def _built_before(self, wanted: Wanted, source: ArchiveSource, asking: Asking) -> Obtained | None:
        """What was built of a source archive that was evicted, when a digest says that it is the one."""
        settings = asking.settings_for(wanted)
        for digest in sorted(wanted.hashes or source.integrity):
            sha256 = self._store.sha256_of(digest)
            if sha256 is None or self._store.artifact(sha256) is not None or source.size is not None:
                continue
            digests = self._store.digests(sha256)
            if not source.integrity <= digests:
                continue
            built = await self._builder.known(_of_archive(source, sha256), asking, settings, wanted)
            if built is not None:
                tree = await built_tree(self._store, built)
                record = direct_url(source, SourceState(digests), settings)
                origin = archive_origin(source)
                return Obtained(wanted, tree, origin, "store", digests, built=True, direct_url=record)
        return None

    async def _archive(
        self,
        wanted: Wanted,
        source: ArchiveSource,
        state: SourceState,
        asking: Asking,
        reporter: Reporter,
    ) -> tuple[Artifact, CameFrom]:
        """The bytes: by hash from the store, wherever they came from once; else by URL."""
        current = await self._direct_urls.current(
            source.url,
            integrity=source.integrity,
            size=source.size,
            filename=archive_name(source.url),
            options=asking.options,
            reporter=reporter,
            mode=asking.mode_for_url(wanted.name),
            since=asking.asked_at or None,
            allowed=wanted.hashes or frozenset(one for one in state.digests if one.algorithm == "sha256"),
        )
        return current.artifact, current.came_from

    async def _obtain_tree(
        self, wanted: Wanted, source: DirectorySource | VcsSource, state: SourceState, asking: Asking
    ) -> Obtained:
        settings = asking.settings_for(wanted)
        if isinstance(source, DirectorySource):
            url = file_url(source.path)
            origin = Origin("directory", url)
            buildable = Buildable(
                "directory",
                f"directory:{source.path}:{state.fingerprint}",
                source.path,
                source.path,
                subdirectory=source.subdirectory,
                editable=source.editable,
                origin=origin,
            )
        else:
            if state.commit is None:
                raise _never_asked(source)
            url = redact(source.url)
            origin = Origin("vcs", f"git+{url}@{state.commit}")
            buildable = Buildable(
                "git",
                f"git:{url}@{state.commit}",
                f"{url}@{(state.commit or '')[:12]}",
                subdirectory=source.subdirectory,
                url=source.url,
                commit=state.commit,
                requested=source.requested,
                origin=origin,
            )
        built = await self._builder.wheel(buildable, asking, settings, wanted)
        tree = await built_tree(self._store, built)
        made: CameFrom = "store" if built.from_cache else "build"
        record = direct_url(source, state, settings)
        return Obtained(wanted, tree, origin, made, built=True, direct_url=record)


def archive_name(url: str) -> str:
    """The file name in a URL, decoded once (CVE-2026-13346); never one that a server gives.

    Raises:
        InputError: ``bad-url``: there is none, or it would leave its folder.
    """
    name = urllib.parse.unquote(posixpath.basename(urllib.parse.urlsplit(url).path))
    if not name or "/" in name or "\\" in name or name in (".", "..") or not name.isprintable():
        raise InputError("bad-url", f"{redact(url)} names no file", hint="give the URL of a wheel or archive")
    return name


def expected_version(wanted: Wanted, obtained: Obtained | None) -> str:
    """The version as far as it shows before anything is opened or built; '' when it does not.

    Args:
        obtained: what had to be opened all the same, because nothing else told its name.
    """
    if obtained is not None:
        return obtained.version
    if wanted.version or not isinstance(wanted.source, ArchiveSource):
        return wanted.version
    filename = archive_name(wanted.source.url)
    wheel = parse_wheel(filename)
    if wheel is not None:
        return str(wheel.version)
    sdist = parse_sdist(filename)
    return str(sdist.version) if sdist is not None and sdist.name == wanted.name else ""


def _of_archive(source: ArchiveSource, sha256: str, path: str = "") -> Buildable:
    """A source archive as the builder takes it; without a path only what was built before can be had."""
    filename = archive_name(source.url)
    return Buildable(
        "archive",
        f"sha256:{sha256}",
        filename,
        path,
        filename,
        subdirectory=source.subdirectory,
        origin=archive_origin(source),
    )


def _warn_unknown(url: str, reporter: Reporter) -> None:
    reporter.warning(
        f"{redact(url)} was not asked whether it changed (--offline), and is not in the cache: "
        "only what is installed from it can stay",
        "not-revalidated",
    )


def _never_asked(source: VcsSource) -> PkgcError:
    return PkgcError(
        "not-in-cache",
        f"{redact(source.url)} was never asked for {source.requested or 'its default branch'}",
        hint="run once without --offline",
    )


def archive_origin(source: ArchiveSource) -> Origin:
    """Where an archive comes from."""
    return Origin("path" if source.path is not None else "url", redact(source.url))


def check_tags(filename: str, interpreter: Interpreter) -> None:
    """Refuse a wheel that is not for the target.

    Raises:
        PkgcError: ``no-matching-wheel``; ``bad-wheel-name``.
    """
    name = parse_wheel(filename)
    if name is None:
        raise InputError("bad-wheel-name", f"{filename} is no valid name of a wheel")
    if ranking(interpreter).rank(name.tags) is None:
        raise PkgcError(
            "no-matching-wheel",
            f"{filename} is not for {interpreter.implementation} {interpreter.version} on this platform",
            context=f"expected: a tag such as {interpreter.tags[0]}\nfound: {name.tags}",
            hint="give the URL of a wheel that fits, or use another Python (--python)",
        )


def check_identity(wanted: Wanted, name: str, version: str) -> None:
    """Hold what the content says of itself against what the lock says.

    Raises:
        PkgcError: ``metadata-mismatch``.
    """
    from packaging.utils import canonicalize_name

    from pkgc_daemon.installing.plan import same_version

    if wanted.name and canonicalize_name(name) != wanted.name:
        raise PkgcError(
            "metadata-mismatch",
            f"{wanted.text or wanted.name}: its content is {name} {version}, not {wanted.name}",
            hint="correct the name in the lock",
        )
    if wanted.version and not same_version(wanted, version):
        raise PkgcError(
            "metadata-mismatch",
            f"{wanted.text or wanted.name}: its content is {name} {version}, the lock wants {wanted.version}",
            hint="lock again",
        )
