"""Candidates: which of the listed files may satisfy a Wanted, best first, and why the others may not.

Pure. Two questions with one order: `choose` among files of index pages, `offline_choice` among digests whose
file names are known (design.md 8, 'Offline choice'). Both must give the same answer wherever both can, or an
environment would depend on what happened to be cached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from pkgc_daemon.redaction import redact
from pkgc_daemon.selection.filenames import (
    BUILT_ENDINGS,
    Pin,
    Ranking,
    WheelName,
    cut_filename,
    is_sdist,
    normalize,
    parse_sdist,
    parse_wheel,
    ranking,
)
from pkgc_daemon.selection.pages import PageFile
from pkgc_daemon.vocabulary import Candidate, Digest, IndexOptions, Interpreter, Origin, Wanted

#: The one entry of --no-binary and --only-binary that means every project.
ALL = ":all:"

RejectedKind = Literal["hash", "sdist", "format", "no-binary", "name", "tags", "python", "yanked"]
"""sdist: builds are forbidden; no-binary: wheels are; format: a source archive of a kind that is not used."""


class Source(NamedTuple):
    """An index, or a find-links location, that files come from."""

    kind: Literal["index", "find-links"]
    url: str
    """Without credentials."""
    name: str = ""
    """What its owner calls it, when it has a name."""

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.name} ({self.url})" if self.name else self.url


class Formats(NamedTuple):
    """Which kinds of files of a project may be used."""

    wheels: bool
    sdists: bool
    ban: str = ""
    """The option that forbids source archives."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file of the wanted version that may not be used, and why."""

    filename: str
    index: str
    """The index or find-links location, without credentials."""
    reason: str
    kind: RejectedKind
    hashes: frozenset[Digest] = frozenset()
    """Advertised digests."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the sources offer for a Wanted."""

    candidates: tuple[Candidate, ...] = ()
    """Best first; all of them may be tried, in this order, until one has an allowed hash."""
    rejected: tuple[Rejected, ...] = ()
    advertised: frozenset[Digest] = frozenset()
    """Every digest advertised for files of the wanted version by the sources that serve it."""
    fresh_until: float = 0.0
    """Unix seconds until which the pages say the same without being asked; 0: unknown."""
    generation: int = -1
    """`IndexClient.generation` when they had said it."""


class StoredChoice(NamedTuple):
    """What can be said of a hashed Wanted without the network."""

    use: Digest | None
    """Decided: this stored artifact; None: an index page is needed."""
    fallback: Digest | None
    """The best stored artifact that fits, for when the page cannot be had."""
    filename: str
    """File name of `use`, else of `fallback`; '' without either."""

    @property
    def is_sdist(self) -> bool:
        """Whether that is a source archive, which has to be built."""
        return is_sdist(self.filename)


_Order = tuple[int, int, int, tuple[int, str], str, int]


@lru_cache(maxsize=2048)
def _specifier(text: str) -> SpecifierSet | None:
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return None


@lru_cache(maxsize=4096)
def python_allowed(requires_python: str | None, python: str) -> bool:
    """Whether Python `python` (X.Y.Z) satisfies requires-python; what cannot be read excludes nobody."""
    specifier = _specifier(requires_python) if requires_python else None
    return specifier is None or specifier.contains(python, prereleases=True)


def binary_allowed(name: str, no_binary: frozenset[str], only_binary: frozenset[str]) -> bool:
    """Whether wheels of `name` may be used; a project's own name beats ':all:' (as in pip)."""
    if name in only_binary:
        return True
    if name in no_binary:
        return False
    return ALL in only_binary or ALL not in no_binary


def allowed_formats(
    name: str, no_binary: frozenset[str], only_binary: frozenset[str], no_build: bool = False
) -> Formats:
    """Which kinds of files of `name` may be used: both, unless one is excluded.

    A project's own name beats ':all:' (as in pip); `no_build` beats everything.
    """
    wheels = binary_allowed(name, no_binary, only_binary)
    if no_build:
        return Formats(wheels, False, "--no-build")
    if name in only_binary or (ALL in only_binary and name not in no_binary):
        return Formats(wheels, False, "--only-binary")
    return Formats(wheels, True)


def hash_possible(allowed: frozenset[Digest], advertised: frozenset[Digest]) -> bool:
    """Whether a file with these `advertised` digests can have an allowed one (H6).

    One match is enough. A file is ruled out only if its digest is advertised in every algorithm of the lock,
    none with an allowed value: in the others only the bytes can tell (H7).
    """
    if not allowed or not allowed.isdisjoint(advertised):
        return True
    return not {digest.algorithm for digest in allowed} <= {digest.algorithm for digest in advertised}


def source_urls(options: IndexOptions, project: str = "") -> frozenset[str]:
    """The sources of a call as `KnownFiles` names them: whose word counts for `offline_choice`.

    Args:
        options: the sources.
        project: normalized; one that is pinned to an index has no other source.
    """
    indexes = () if options.no_index else options.indexes
    if project in options.pins:
        return frozenset() if options.no_index else frozenset({redact(options.pins[project])})
    return frozenset(redact(location) for location in (*indexes, *options.find_links))


def choose(
    wanted: Wanted,
    files_by_index: Sequence[tuple[Source, Sequence[PageFile]]],
    interpreter: Interpreter,
    *,
    no_binary: frozenset[str] = frozenset(),
    only_binary: frozenset[str] = frozenset(),
    no_build: bool = False,
) -> Choice:
    """Sort the files of the wanted version into candidates, best first, and rejected ones.

    The order: wheels before source archives, higher version (only local versions differ), better tag, file
    whose advertised digest is allowed or that is a local file, higher build tag, file name, earlier index.

    Args:
        wanted: the pin.
        files_by_index: files in order of the sources' priority; of other versions too, they are ignored.
        interpreter: the target; its tags and version count.
        no_binary: projects whose wheels are excluded, or ':all:'.
        only_binary: exceptions from it, and projects whose source archives are excluded, or ':all:'.
        no_build: all source archives are excluded.
    """
    pin = Pin(wanted)
    ranks = ranking(interpreter)
    formats = allowed_formats(wanted.name, no_binary, only_binary, no_build)
    fitting: list[tuple[Version, _Order, Candidate]] = []
    rejected: list[Rejected] = []
    advertised: set[Digest] = set()
    seen: set[str] = set()

    for position, (source, files) in enumerate(files_by_index):
        for file in files:
            pieces = cut_filename(file.filename)
            if pieces is None or not pin.matches(pieces.version) or file.url in seen:
                continue
            seen.add(file.url)
            advertised.update(file.hashes)
            problem = _problem(file, pieces.kind, wanted, formats, ranks, interpreter)
            if problem is None:
                version, order = _order(file, wanted, ranks, position)
                fitting.append((version, order, _candidate(file, wanted, source, version, pieces.kind)))
            else:
                rejected.append(Rejected(file.filename, source.url, problem[1], problem[0], file.hashes))

    fitting.sort(key=lambda one: one[1])
    fitting.sort(key=lambda one: one[0], reverse=True)  # stable: versions first, then the order above
    fitting.sort(key=lambda one: one[2].is_sdist)
    candidates = tuple(candidate for _, _, candidate in fitting)
    if not wanted.hashes and any(candidate.yanked is None for candidate in candidates):
        # PEP 592: a yanked file serves an exact pin only if nothing else does. A lock's hash names its file.
        rejected += [
            Rejected(one.filename, one.origin.index or "", "yanked, and others are not", "yanked", one.hashes)
            for one in candidates
            if one.yanked is not None
        ]
        candidates = tuple(candidate for candidate in candidates if candidate.yanked is None)
    return Choice(candidates, tuple(rejected), frozenset(advertised))


_Problem = tuple[RejectedKind, str]


def forbidden(kind: Literal["wheel", "sdist"], filename: str, formats: Formats) -> _Problem | None:
    """Why a file of this kind may not be used at all, whatever its name says; None when it may."""
    if kind == "wheel":
        if formats.wheels:
            return None
        return "no-binary", "wheels of this project are excluded by --no-binary"
    if not formats.sdists:
        return "sdist", f"would have to be built, which {formats.ban} forbids"
    if not filename.endswith(BUILT_ENDINGS):
        return "format", f"source archives of this format are not used, only {' and '.join(BUILT_ENDINGS)}"
    return None


def _problem(
    file: PageFile,
    kind: Literal["wheel", "sdist"],
    wanted: Wanted,
    formats: Formats,
    ranks: Ranking,
    interpreter: Interpreter,
) -> _Problem | None:
    if not hash_possible(wanted.hashes, file.hashes):
        return "hash", "none of its advertised hashes is allowed"
    if (problem := forbidden(kind, file.filename, formats)) is not None:
        return problem
    name = parse_wheel(file.filename) if kind == "wheel" else parse_sdist(file.filename)
    if name is None:
        return "name", f"not a valid file name of a {'wheel' if kind == 'wheel' else 'source archive'}"
    if name.name != wanted.name:
        return "name", f"belongs to project {name.name}"
    if isinstance(name, WheelName) and ranks.rank(name.tags) is None:
        return "tags", f"the target supports none of its tags ({name.tags})"
    if not python_allowed(file.requires_python, interpreter.version):
        return "python", f"requires Python {file.requires_python}, the target is {interpreter.version}"
    return None


def _order(file: PageFile, wanted: Wanted, ranks: Ranking, position: int) -> tuple[Version, _Order]:
    # Trying a local file costs no transfer, so it may go first even though its hash is not known yet.
    promising = not wanted.hashes.isdisjoint(file.hashes) or file.url.startswith("file:")
    found = file_order(file.filename, ranks, promising=promising, position=position)
    assert found is not None  # `_problem` has seen to it
    return found


def file_order(
    filename: str, ranks: Ranking, *, promising: bool = True, position: int = 0
) -> tuple[Version, _Order] | None:
    """What files of one project are sorted by: version (higher first), then the rest; None: it does not fit.

    Wheels go before source archives, which this alone does not tell.
    """
    wheel = parse_wheel(filename)
    if wheel is None:
        sdist = parse_sdist(filename)
        return (
            (sdist.version, (0, int(not promising), *_build_key(()), filename, position)) if sdist else None
        )
    rank = ranks.rank(wheel.tags)
    if rank is None:
        return None
    return wheel.version, (rank, int(not promising), *_build_key(wheel.build), filename, position)


def _build_key(build: tuple[int, str] | tuple[()]) -> tuple[int, tuple[int, str]]:
    """Sorts higher build tags first (W1). Suffixes of one number, which hardly exist, too."""
    if not build:
        return 1, (0, "")
    # Inverting each character makes a descending order of strings; the sentinel puts longer ones first.
    suffix = "".join(chr(0x10FFFF - ord(character)) for character in build[1]) + chr(0x10FFFF)
    return 0, (-build[0], suffix)


def _candidate(
    file: PageFile, wanted: Wanted, source: Source, version: Version, kind: Literal["wheel", "sdist"]
) -> Candidate:
    return Candidate(
        name=wanted.name,
        version=str(version),
        filename=file.filename,
        url=file.url,
        origin=Origin(source.kind, redact(file.url), source.url),
        hashes=file.hashes,
        size=file.size,
        requires_python=file.requires_python,
        yanked=file.yanked,
        is_sdist=kind == "sdist",
    )


def offline_choice(
    wanted: Wanted,
    interpreter: Interpreter,
    known_filename: Callable[[Digest], str | None],
    stored: Callable[[Digest], bool],
    *,
    no_binary: frozenset[str] = frozenset(),
    only_binary: frozenset[str] = frozenset(),
    no_build: bool = False,
) -> StoredChoice:
    """Decide a hashed pin without the network, if that gives what the network would give.

    It does if every allowed digest has a known file name, and the best of these files is stored: the best
    wheel that fits, else the source archive, which the caller builds or has built. The best tag of all is not
    enough: a file of which nothing is known may have a higher build tag or local version.

    Args:
        wanted: a pin; without hashes the answer is always "ask the index".
        interpreter: the target.
        known_filename: see `ports.KnownFiles`; bound to the sources of the call (`source_urls`), because
            others may not have a say in what it installs.
        stored: whether the artifact with a digest is in the store, verified.
        no_binary: as in `choose`.
        only_binary: as in `choose`.
        no_build: as in `choose`.
    """
    nothing = StoredChoice(None, None, "")
    if not wanted.hashes:
        return nothing
    formats = allowed_formats(wanted.name, no_binary, only_binary, no_build)
    pin = Pin(wanted)
    ranks = ranking(interpreter)
    files: dict[str, tuple[Version, _Order]] = {}
    holding: dict[str, Digest] = {}
    all_known = True
    for digest in sorted(wanted.hashes):
        filename = known_filename(digest)
        if filename is None:
            all_known = False
            continue
        pieces = cut_filename(filename)
        if (
            pieces is None
            or normalize(pieces.project) != wanted.name
            or not pin.matches(pieces.version)
            or forbidden(pieces.kind, filename, formats) is not None
        ):
            continue
        order = file_order(filename, ranks)
        if order is None:
            continue
        files.setdefault(filename, order)
        if filename not in holding and stored(digest):
            holding[filename] = digest

    if not holding:
        return nothing
    best = _best(files)
    best_stored = _best({filename: files[filename] for filename in holding})
    use = holding[best_stored]
    if best_stored == best and all_known:
        return StoredChoice(use, use, best_stored)
    return StoredChoice(None, use, best_stored)


def _best(files: dict[str, tuple[Version, _Order]]) -> str:
    wheels = {filename: order for filename, order in files.items() if not is_sdist(filename)} or files
    newest = max(version for version, _ in wheels.values())
    return min(order for version, order in wheels.values() if version == newest)[4]
