"""Whether an installed distribution is what one line of a lock wants, and if not, why, in words.

All texts about that are here, because people see them in the output of `sync`; it looks at nothing but what
was recorded and what is wanted (invariant 4; design.md 8, 'Origin of unhashed pins'; standards.md D7).
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from pkgc_daemon.redaction import redact
from pkgc_daemon.vocabulary import (
    STRONG_ALGORITHMS,
    ArchiveSource,
    Digest,
    DirectorySource,
    DirectSource,
    FilesSource,
    IndexOptions,
    Installed,
    LockedFile,
    Origin,
    SourceState,
    VcsSource,
    Wanted,
    settings_key,
)

#: Digests that tell bytes apart, whoever made them; blake2b is one although `--hash` does not take it (H5).
TELLING = STRONG_ALGORITHMS | {"blake2b"}
#: So many digests, or indexes, are shown one by one.
_SHOWN = 3
#: Hex digits of a digest or commit where it stands beside another one.
_SHORT = 12
_PORTS = {"http": ":80", "https": ":443", "ssh": ":22"}
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]\Z")


@dataclass(frozen=True, slots=True)
class Served:
    """What the index that serves an unhashed pin has for it now, or what the file is that a lock lists."""

    digests: frozenset[Digest] = frozenset()
    """Advertised for files of the pinned version; none: the index gives no hashes."""
    origins: frozenset[Origin] = frozenset()
    """Of its files that fit."""


def why_replace(
    want: Wanted,
    found: Sequence[Installed],
    *,
    forced: bool,
    served: Served | None,
    state: SourceState | None,
    settings: tuple[tuple[str, str], ...] = (),
    options: IndexOptions | None = None,
) -> str | None:
    """Why what is installed does not satisfy `want`, or None when it does.

    Args:
        found: everything installed under that name, at least one.
        forced: its reinstallation was asked for.
        served: of an unhashed pin; None: nobody could be asked, and then what is installed satisfies.
        state: of a direct reference; None: it was not looked up, so that only the lock's own digests or
            commit can tell.
        settings: of every build of this call; those of `want` come after them.
        options: the indexes that may serve a pin, to be named.
    """
    one = found[0]
    named = f"{one.name} {one.version}"
    if len(found) > 1:
        versions = ", ".join(each.version for each in found)
        return f"{one.name}: installed {len(found)} times ({versions})"
    if one.damaged is not None:
        return f"{named}: damaged: {one.damaged}"
    if not same_version(want, one.version):
        return f"{named}: the lock wants {want.version}"
    source = want.source
    if source is None or isinstance(source, FilesSource):
        if one.direct:
            servers = _servers(want, options) or "an index"
            return f"{named}: installed from {_origin(one)}, the lock wants it from {servers}"
    elif not _same_place(source, one):
        return f"{named}: {_installed_from(one)}, the lock wants it from {_target(source)}"
    if forced:
        return f"{named}: reinstall was asked for"
    built = True
    if source is None or isinstance(source, FilesSource):
        why = _why_not_pin(want, one, served, named, options)
        built = one.settings is not None  # a wheel of the index's has none
    elif isinstance(source, ArchiveSource):
        why = _why_not_archive(source, want, one, state, named)
        built = not (source.path or urlsplit(place_of(source.url)).path).endswith(".whl")
    elif isinstance(source, VcsSource):
        why = _why_not_commit(source, one, state, named)
    else:
        why = _why_not_directory(one, state, named)
    if why is None and built and (one.settings or None) != settings_key((*settings, *want.settings)):
        return f"{named}: built with other --config-settings"
    return why


# Direct references


def _same_place(source: DirectSource, one: Installed) -> bool:
    """Whether the records name the place that the lock names, and as the same kind of thing."""
    if one.origin is None or not one.direct:
        return False
    if _folder(source.subdirectory) != _folder(one.subdirectory):
        return False
    kind, place = one.origin.kind, place_of(one.origin.url)
    if isinstance(source, DirectorySource):
        return kind == "directory" and place == place_of(source.path) and one.editable is source.editable
    if isinstance(source, VcsSource):
        return kind == "vcs" and place.rstrip("/") == place_of(source.url).rstrip("/")
    return kind in ("url", "path") and place == place_of(source.path or source.url)


def place_of(url: str) -> str:
    """A URL or an absolute path in the one form that is compared.

    Without credentials, fragment, default port and needless percent-encoding (RFC 3986, 6.2.2); the path of a
    file: URL is bare, as a path is. A password or a signature that changes does not make another place.
    """
    if url.startswith("/"):
        return os.path.normpath(url)
    shown = redact(url).partition("#")[0]
    try:
        parts = urlsplit(shown)
    except ValueError:
        return shown
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return os.path.normpath(unquote(parts.path, errors="surrogateescape"))
    if not parts.netloc:
        return shown
    host = parts.netloc.lower().removesuffix(_PORTS.get(parts.scheme, "\0"))
    path = _PERCENT.sub(_canonical, parts.path or "/").replace(" ", "%20")
    return f"{parts.scheme}://{host}{path}{'?' + parts.query if parts.query else ''}"


def _canonical(match: re.Match[str]) -> str:
    char = chr(int(match.group()[1:], 16))
    return char if _UNRESERVED.match(char) else match.group().upper()


def _folder(subdirectory: str | None) -> str:
    return posixpath.normpath(subdirectory).strip("/") if subdirectory and subdirectory != "." else ""


def _why_not_archive(
    source: ArchiveSource, want: Wanted, one: Installed, state: SourceState | None, named: str
) -> str | None:
    """The bytes: by the digests that the lock gives, else by what the URL has now (T1, T1c)."""
    url = redact(source.url)
    if not one.hashes:
        return f"{named}: installed{_by(one)} without a record of what {url} was then"
    known, current = one.hashes, frozenset[Digest]()
    if want.hashes:
        if why := _why_not_hash(want.hashes, one, known, named):
            return why
    elif state is not None:
        current = state.digests
    same = bool(_strong(known) & _strong(current))
    if same:
        known |= current
    for digest in sorted(source.integrity):
        recorded = {other for other in known if other.algorithm == digest.algorithm}
        if recorded and digest not in recorded:
            have = ", ".join(map(str, sorted(recorded)))
            return f"{named}: installed from {url} with {have}, the lock wants {digest}"
    if same or want.hashes or _strong(source.integrity) & known:
        return None
    if _strong(source.integrity):
        return f"{named}: its {_algorithms(known)} is known, the lock wants {_digests(source.integrity)}"
    if state is not None and not state.asked and not current:
        return None
    if not current:
        return f"{named}: what {url} is now is not known"
    if comparable(_strong(known), _strong(current)):
        return f"{named}: the content of {url} changed ({_change(_strong(known), _strong(current))})"
    return f"{named}: only the {_algorithms(known)} of what {url} was then is known"


def _change(old: Iterable[Digest], new: Iterable[Digest]) -> str:
    """One digest before and after, of an algorithm that both have."""
    before, after = ({digest.algorithm: digest.hex for digest in digests} for digests in (old, new))
    both = before.keys() & after.keys()
    algorithm = "sha256" if "sha256" in both else min(both)
    return f"{algorithm}:{before[algorithm][:_SHORT]}… → {algorithm}:{after[algorithm][:_SHORT]}…"


def _why_not_commit(source: VcsSource, one: Installed, state: SourceState | None, named: str) -> str | None:
    commit = source.commit or (state.commit if state is not None else None)
    if commit is None:
        if state is not None and not state.asked and one.requested == source.requested:
            return None
        at = f"{source.requested} of " if source.requested else ""
        return f"{named}: the commit of {at}{redact(source.url)} is not known"
    if one.commit == commit.lower():
        old, new = (each or "the default branch" for each in (one.requested, source.requested))
        return None if old == new else f"{named}: recorded as {old}, the lock says {new} (the same commit)"
    return f"{named}: commit {(one.commit or '?')[:_SHORT]}… → {commit.lower()[:_SHORT]}…"


def _why_not_directory(one: Installed, state: SourceState | None, named: str) -> str | None:
    if one.fingerprint is None:
        return f"{named}: installed{_by(one)} without a record of what its directory held then"
    if state is not None and state.fingerprint == one.fingerprint:
        return None
    if state is not None and state.fingerprint is None and not state.asked:
        return None
    return f"{named}: its directory changed"


# Pins


def _why_not_pin(
    want: Wanted, one: Installed, served: Served | None, named: str, options: IndexOptions | None
) -> str | None:
    if isinstance(want.source, FilesSource):
        why = _why_not_listed(want.source, want, one, named)
        proven = any(not _strong(file.hashes).isdisjoint(one.hashes) for file in want.source.files)
        if why is None and served is not None and not (want.hashes or proven):
            recorded, current = _strong(one.hashes), _strong(served.digests)
            if comparable(recorded, current) and recorded.isdisjoint(current):
                where = _spelled(one) if one.origin is not None else "its file"
                return f"{named}: the content of {where} changed ({_change(recorded, current)})"
        return why
    if want.hashes:
        servers = _servers(want, options)
        return _why_not_hash(want.hashes, one, one.hashes, named, f" from {servers}" if servers else "")
    if served is not None and one.hashes:
        return _why_not_served(one, served, named)
    return None


def _why_not_hash(
    wanted: frozenset[Digest], one: Installed, known: frozenset[Digest], named: str, source: str = ""
) -> str | None:
    """T8: one allowed digest is enough (H6).

    Args:
        known: of the installed one.
        source: where the lock says the bytes are, or who may serve them, as a clause: `` from …``.
    """
    if not known:
        return f"{named}: {_unknown(one)}, the lock wants {_digests(wanted)}{source}"
    if not known.isdisjoint(wanted):
        return None
    if not comparable(known, wanted):
        return f"{named}: its {_algorithms(known)} is known, the lock wants {_digests(wanted)}{source}"
    return f"{named}: installed from {_origin(one)}, the lock wants {_digests(wanted)}{source}"


def _why_not_listed(source: FilesSource, want: Wanted, one: Installed, named: str) -> str | None:
    """A lock that lists files: the installed one must be one of them, by its digests, or where the lock has
    none, by its place. Of unknown origin it satisfies only where no file has any digest."""
    allowed = want.hashes or frozenset(digest for file in source.files for digest in file.hashes)
    if not allowed and not one.hashes and one.origin is None:
        return None
    if any(_is_file(file, source, want, one) for file in source.files):
        return None
    spot = one.origin.url.partition("#")[0].partition("?")[0] if one.origin is not None else ""
    twins = [
        file for file in source.files if file.hashes and file.filename == unquote(posixpath.basename(spot))
    ]
    place = f" from {_index(source.index)}" if source.index is not None else ""
    if allowed:
        digests = frozenset(twins[0].hashes) if twins and not want.hashes else allowed
        why = _why_not_hash(digests, one, one.hashes, named, place)
        if why is not None:
            return why
    urls = sorted({redact(file.url) for file in source.files})
    listed = urls[0] if len(urls) == 1 else f"one of {len(urls)} files that it lists"
    return f"{named}: installed from {_spelled(one)}, the lock wants {listed}{place}"


def _is_file(file: LockedFile, source: FilesSource, want: Wanted, one: Installed) -> bool:
    """Whether the installed one was made from `file`: nothing contradicts, and something proves it."""
    algorithms = {digest.algorithm for digest in one.hashes}
    if any(digest.algorithm in algorithms and digest not in one.hashes for digest in file.hashes):
        return False
    if want.hashes and want.hashes.isdisjoint(one.hashes):
        return False
    if _strong(file.hashes):
        return not _strong(file.hashes).isdisjoint(one.hashes)
    if want.hashes:
        return True
    if one.origin is None or _spot(one.origin)[1] != _spot(Origin("index", redact(file.url)))[1]:
        return False
    return source.index is None or _spot(one.origin)[0] == redact(source.index).rstrip("/")


def _why_not_served(one: Installed, served: Served, named: str) -> str | None:
    """design.md 8, 'Origin of unhashed pins': the index must serve these bytes now.

    Only a strong digest says so. An index that advertises none says nothing of the bytes: then the file must
    be the one that was installed, at the same place of the same index.
    """
    strong = {digest for digest in served.digests if digest.algorithm in STRONG_ALGORITHMS}
    decisive = strong if comparable(one.hashes, strong) else served.digests
    if comparable(one.hashes, decisive) and one.hashes.isdisjoint(decisive):
        return f"{named}: installed from {_origin(one)}, {_server(one, served)} serves {_digests(decisive)}"
    if decisive is strong:
        return None
    if one.origin is not None and _spot(one.origin) in map(_spot, served.origins):
        return None
    where = sorted({origin.index or origin.url for origin in served.origins})
    return f"{named}: installed from {_origin(one)}, now served by {', '.join(where) or 'no file that fits'}"


def _server(one: Installed, served: Served) -> str:
    """Who serves the pin now, after 'installed from …': the same index, or which other one."""
    before = (one.origin.index or "").rstrip("/") if one.origin is not None else ""
    now = sorted({(each.kind, each.index) for each in served.origins if each.index is not None})
    if not now:
        return "the index now"
    if before in {index.rstrip("/") for _, index in now}:
        return "which now"
    kind, index = now[0]
    return f"but {_index(index) if kind == 'index' else redact(index)}"


def _spot(origin: Origin) -> tuple[str, str]:
    """An origin without what may differ from one answer to the next: the query of a signed URL."""
    url = origin.url.partition("#")[0].partition("?")[0]
    return (origin.index or "").rstrip("/"), url


def same_version(want: Wanted, version: str) -> bool:
    """Whether an installed version satisfies the pin (PEP 440: ``==`` without a local version ignores it).

    A direct reference may pin none: any version does.
    """
    if version == want.version or not want.version:
        return True
    if want.arbitrary:
        return version.lower() == want.version.lower()
    from packaging.version import InvalidVersion, Version

    try:
        pinned, found = Version(want.version), Version(version)
    except InvalidVersion:
        return False
    return pinned == found or (pinned.local is None and pinned == Version(found.public))


def comparable(one: Iterable[Digest], other: Iterable[Digest]) -> bool:
    """Whether two sets of digests have an algorithm in common."""
    return not {digest.algorithm for digest in one}.isdisjoint(digest.algorithm for digest in other)


def _strong(digests: Iterable[Digest]) -> frozenset[Digest]:
    return frozenset(digest for digest in digests if digest.algorithm in TELLING)


# Words


def _installed_from(one: Installed) -> str:
    if one.origin is not None:
        return f"installed from {_origin(one)}"
    return _unknown(one)


def _unknown(one: Installed) -> str:
    by = f"installed{_by(one)}, " if _by(one) else ""
    return f"{by}origin unknown"


def _by(one: Installed) -> str:
    return f" by {one.installer}" if one.installer and one.installer != "pkgc" else ""


def _origin(one: Installed) -> str:
    """Where it came from, after 'installed from'."""
    origin = one.origin
    if origin is None:
        return "a direct URL" if one.direct else "an unknown origin"
    below = f" (in {one.subdirectory})" if one.subdirectory else ""
    if origin.kind == "directory":
        how = ", editable" if one.editable else ""
        return f"the directory {_shown(place_of(origin.url))}{below}{how}"
    if origin.kind == "vcs":
        return f"{origin.url}{below} at {one.commit[:_SHORT]}…" if one.commit else origin.url
    if one.direct:
        return f"{origin.url}{below}"
    if origin.index is None:
        return origin.url
    return _index(origin.index) if origin.kind == "index" else origin.index


def _spelled(one: Installed) -> str:
    """The same with the file's own URL, where the file is what matters."""
    if one.origin is None or one.origin.index is None:
        return _origin(one)
    return f"{one.origin.url} of {_index(one.origin.index)}"


def _index(url: str, name: str = "") -> str:
    return f"index {name} ({redact(url)})" if name else f"index {redact(url)}"


def _servers(want: Wanted, options: IndexOptions | None) -> str:
    """Who may serve a pin; '' when nobody says that."""
    if isinstance(want.source, FilesSource):
        return _index(want.source.index) if want.source.index is not None else ""
    options = options or IndexOptions()
    pin = options.pins.get(want.name)
    indexes = () if options.no_index else options.indexes if pin is None else (pin,)
    places = [_index(url, options.names.get(url, "")) for url in indexes]
    places += map(redact, options.find_links if pin is None else ())
    return " or ".join(places) if len(places) <= _SHOWN else f"one of {len(places)} places"


def _target(source: DirectSource) -> str:
    """Where the lock wants it from."""
    below = f" (in {source.subdirectory})" if source.subdirectory else ""
    if isinstance(source, DirectorySource):
        how = ", editable" if source.editable else ""
        return f"the directory {_shown(source.path)}{below}{how}"
    if isinstance(source, VcsSource):
        at = source.requested or source.commit
        return f"{redact(source.url)}{below}{f' at {at}' if at else ''}"
    return f"{redact(source.url)}{below}"


def _shown(path: str) -> str:
    """A path whose bytes need not be UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()


def _algorithms(digests: Iterable[Digest]) -> str:
    return ", ".join(sorted({digest.algorithm for digest in digests}))


def _digests(digests: Iterable[Digest]) -> str:
    listed = sorted(map(str, digests))
    if len(listed) > _SHOWN:
        return f"one of {len(listed)} other hashes"
    return listed[0] if len(listed) == 1 else f"one of {', '.join(listed)}"
