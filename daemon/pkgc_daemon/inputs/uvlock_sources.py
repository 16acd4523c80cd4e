"""Where the bytes of a uv.lock's packages are: registries, archives, repositories, folders; no I/O."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable

from packaging.utils import canonicalize_name

from pkgc_daemon.inputs import lockhome
from pkgc_daemon.inputs.lockhome import LocalFile, LockHome, LockProblem
from pkgc_daemon.inputs.problems import shown
from pkgc_daemon.inputs.tomlfiles import Table, TypeProblem, number_at, table_at, tables_at, text_at
from pkgc_daemon.inputs.uvlock_package import Sourced, UvPackage
from pkgc_daemon.redaction import redact
from pkgc_daemon.vocabulary import ArchiveSource, Digest, DirectorySource, FilesSource, LockedFile, VcsSource

_NO_DIGESTS: frozenset[Digest] = frozenset()
_IS_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def sourced(package: UvPackage, home: LockHome) -> Sourced:
    """Where a package's bytes are; remembered in the package.

    Raises:
        LockProblem: ``invalid-lock``, ``bad-artifact-url``, ``remote-names-local``, ``unsupported-vcs``.
    """
    if package.sourced is None:
        source = package.source
        found = [read for kind, read in _KINDS.items() if kind in source]
        if len(found) != 1:
            raise LockProblem(
                "invalid-lock", f"its source must be one of {', '.join(_KINDS)}, found {', '.join(source)}"
            )
        try:
            package.sourced = found[0](package, source, home)
        except TypeProblem as exc:
            raise LockProblem("invalid-lock", str(exc)) from exc
    return package.sourced


def _text(table: Table, key: str) -> str:
    value = text_at(table, key)
    if not value:
        raise LockProblem("invalid-lock", f"{key} is empty")
    return value


def _registry(package: UvPackage, source: Table, home: LockHome) -> Sourced:
    """Files of an index, or of a folder of files (``--find-links``): `path`s are relative to the folder."""
    registry = _text(source, "registry")
    if not package.version:
        raise LockProblem("invalid-lock", "its version is missing")
    folder: str | None = None
    index = redact(registry)
    if _IS_URL.match(registry) is None or registry[:5].lower() == "file:":
        place = home.artifact(registry) if registry[:5].lower() == "file:" else home.local(registry)
        assert isinstance(place, LocalFile)
        folder, index = place.path, place.url
    files: list[LockedFile] = []
    for table in tables_at(package.table, "wheels"):
        files.append(_file(table, package, home, folder))
        if not files[-1].filename.endswith(".whl"):
            raise LockProblem("invalid-lock", f"{shown(files[-1].filename)!r} is not the name of a wheel")
    sdist = table_at(package.table, "sdist")
    if "url" in sdist or "path" in sdist:
        files.append(_file(sdist, package, home, folder))
    hashes: set[Digest] = set()
    for file in files:
        strong = lockhome.secure(file.hashes)
        if not strong:
            # With the digests of some files only, the others could never match.
            return Sourced(FilesSource(tuple(files), index), _NO_DIGESTS)
        hashes |= strong
    return Sourced(FilesSource(tuple(files), index), frozenset(hashes))


def _file(table: Table, package: UvPackage, home: LockHome, folder: str | None) -> LockedFile:
    url, path = text_at(table, "url"), text_at(table, "path")
    if url:
        filename = lockhome.url_filename(url)
        found = home.artifact(url)
        target = found.url if isinstance(found, LocalFile) else found
    elif path:
        if folder is None:
            raise LockProblem("invalid-lock", f"{shown(path)!r} is a path, but its index is a URL")
        filename = path.rpartition("/")[2]
        target = home.local(path, folder).url
    else:
        raise LockProblem("invalid-lock", "a file of an index has neither url nor path")
    # The rest of the name is read when a file is chosen.
    if canonicalize_name(lockhome.check_filename(filename).partition("-")[0]) != package.name and not (
        canonicalize_name(filename).startswith(f"{package.name}-")
    ):
        raise LockProblem("invalid-lock", f"{shown(filename)!r} is not a file of this project")
    return LockedFile(filename, target, _digests(table), number_at(table, "size"))


def _digests(table: Table) -> frozenset[Digest]:
    written = text_at(table, "hash")
    return _NO_DIGESTS if written is None else frozenset((lockhome.digest(written),))


def _integrity(package: UvPackage) -> tuple[frozenset[Digest], int | None]:
    """Hash and size of a package that is one archive: its only wheel's, or its sdist's."""
    wheels = tables_at(package.table, "wheels")
    table = wheels[0] if wheels else table_at(package.table, "sdist")
    return _digests(table), number_at(table, "size")


def _url(package: UvPackage, source: Table, home: LockHome) -> Sourced:
    found = home.artifact(_text(source, "url"))
    return _archive(package, found, lockhome.subdirectory(text_at(source, "subdirectory")))


def _path(package: UvPackage, source: Table, home: LockHome) -> Sourced:
    return _archive(package, home.local(_text(source, "path")), None)


def _archive(package: UvPackage, found: str | LocalFile, subdirectory: str | None) -> Sourced:
    integrity, size = _integrity(package)
    url, path = (found.url, found.path) if isinstance(found, LocalFile) else (found, None)
    return Sourced(ArchiveSource(url, path, subdirectory, integrity, size), lockhome.secure(integrity))


def _git(package: UvPackage, source: Table, home: LockHome) -> Sourced:
    """``URL?rev|tag|branch=…&subdirectory=…#commit``."""
    written, _, fragment = _text(source, "git").partition("#")
    url, _, query = written.partition("?")
    commit = lockhome.commit_id(urllib.parse.unquote(fragment))
    said = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    if "path" in said or said.get("lfs", "").lower() == "true":
        what = "an archive inside a repository" if "path" in said else "a repository with LFS files"
        raise LockProblem("unsupported-vcs", f"{what} cannot be installed", "name an archive of it instead")
    requested = said.get("rev") or said.get("tag") or said.get("branch")
    return Sourced(
        VcsSource(
            home.repository(url),
            requested=requested,
            commit=commit,
            subdirectory=lockhome.subdirectory(said.get("subdirectory")),
        ),
        _NO_DIGESTS,
    )


def _directory(package: UvPackage, source: Table, home: LockHome) -> Sourced:
    editable = "editable" in source
    path = text_at(source, "editable" if editable else "directory") or "."
    return Sourced(DirectorySource(home.local(path).path, editable=editable), _NO_DIGESTS)


def _virtual(package: UvPackage, source: Table, home: LockHome) -> Sourced:
    return Sourced(None, _NO_DIGESTS)


_KINDS: dict[str, Callable[[UvPackage, Table, LockHome], Sourced]] = {
    "registry": _registry,
    "url": _url,
    "git": _git,
    "path": _path,
    "directory": _directory,
    "editable": _directory,
    "virtual": _virtual,
}
