"""File names of distributions: what a name alone tells of project, version, build and tags.

It reads names with `packaging` and remembers the results: a page repeats the same few versions and tags in
thousands of names. It knows nothing of indexes and pages.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from packaging.tags import TooManyTagsError, parse_tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from pkgc_daemon.vocabulary import Interpreter, Wanted

#: Endings of source distributions; only .tar.gz is standard (PEP 625), the others are old but still served.
SDIST_ENDINGS = (".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz", ".tar.Z", ".tar")
#: Those that are built; the others were given up long before wheels were (standards.md B1).
BUILT_ENDINGS = (".tar.gz", ".zip")
#: No filesystem takes longer names, so such a file could not be stored either.
LONGEST_NAME = 255
#: A compressed tag set stands for a product of tags; real ones stand for fewer than 50.
_MOST_TAGS = 1000


class Pieces(NamedTuple):
    """A file name cut at its dashes, not validated."""

    project: str
    """As written, not normalized."""
    version: str
    """As written."""
    kind: Literal["wheel", "sdist"]


class WheelName(NamedTuple):
    """A valid wheel file name (standards W1)."""

    name: str
    """Normalized."""
    version: Version
    build: tuple[int, str] | tuple[()]
    tags: str
    """The compressed tag set as written, e.g. ``py2.py3-none-any``."""


class SdistName(NamedTuple):
    """The file name of a source archive that can be built (PEP 625, and older ones like it)."""

    name: str
    """Normalized."""
    version: Version


def cut_filename(filename: str) -> Pieces | None:
    """Cut `filename` into project and version, cheaply; None if it is neither wheel nor source archive."""
    if filename.endswith(".whl"):
        parts = filename.split("-", 2)
        return Pieces(parts[0], parts[1], "wheel") if len(parts) == 3 else None
    if filename.endswith(SDIST_ENDINGS):
        ending = next(ending for ending in SDIST_ENDINGS if filename.endswith(ending))
        project, dash, version = filename.removesuffix(ending).rpartition("-")
        return Pieces(project, version, "sdist") if dash else None
    return None


normalize = lru_cache(maxsize=8192)(canonicalize_name)
"""PEP 503 normalization, remembered."""


@lru_cache(maxsize=16384)
def parse_version(text: str) -> Version | None:
    """The version that `text` denotes, or None when it is not a PEP 440 version."""
    try:
        return Version(text)
    except (InvalidVersion, ValueError):
        return None


@lru_cache(maxsize=8192)
def _parse_front(front: str) -> tuple[str, Version, tuple[int, str] | tuple[()]] | None:
    try:
        # The tags are judged apart (with a limit, once for all projects), so a plain set stands in for them.
        name, version, build, _ = parse_wheel_filename(f"{front}-py3-none-any.whl")
    except (InvalidWheelFilename, ValueError):
        return None
    return name, version, build


@lru_cache(maxsize=8192)
def expand_tags(tags: str) -> tuple[str, ...]:
    """The tags of a compressed tag set (PEP 425), each as ``py-abi-platform``; empty when it is invalid."""
    try:
        return tuple(map(str, parse_tag(tags, limit=_MOST_TAGS)))
    except (TooManyTagsError, ValueError):
        return ()


def parse_wheel(filename: str) -> WheelName | None:
    """Read a wheel's file name; None when it is invalid, which means: ignore the file (standards 1.5)."""
    if not filename.endswith(".whl") or len(filename) > LONGEST_NAME:
        return None
    parts = filename[:-4].rsplit("-", 3)
    if len(parts) != 4:
        return None
    front = _parse_front(parts[0])
    tags = "-".join(parts[1:])
    if front is None or not expand_tags(tags):
        return None
    return WheelName(front[0], front[1], front[2], tags)


def is_sdist(filename: str) -> bool:
    """Whether `filename` is that of a source archive, whether or not it can be built."""
    return filename.endswith(SDIST_ENDINGS)


def parse_sdist(filename: str) -> SdistName | None:
    """Read a source archive's file name; None when it is invalid, or of a format that is not built."""
    if not filename.endswith(BUILT_ENDINGS) or len(filename) > LONGEST_NAME:
        return None
    pieces = cut_filename(filename)
    version = parse_version(pieces.version) if pieces is not None else None
    if pieces is None or version is None or not pieces.project:
        return None
    return SdistName(normalize(pieces.project), version)


class Ranking:
    """How well an interpreter likes each tag: rank 0 is its most preferred one."""

    def __init__(self, tags: tuple[str, ...]) -> None:
        self._ranks = {tag: rank for rank, tag in reversed(list(enumerate(tags)))}
        self._known: dict[str, int | None] = {}

    def rank(self, tags: str) -> int | None:
        """Rank of the best tag in a compressed tag set; None when the interpreter supports none of them."""
        try:
            return self._known[tags]
        except KeyError:
            pass
        ranks = self._ranks
        best = min((ranks[tag] for tag in expand_tags(tags) if tag in ranks), default=None)
        if len(self._known) < 8192:
            self._known[tags] = best
        return best


_ranking_of_tags = lru_cache(maxsize=32)(Ranking)


def ranking(interpreter: Interpreter) -> Ranking:
    """The ranking of an interpreter's tags, shared by all interpreters with equal tags."""
    return _ranking_of_tags(interpreter.tags)


class Pin:
    """Decides which version texts satisfy a Wanted (PEP 440: '==' with local versions, '===').

    Args:
        wanted: its `name`, `version` and `arbitrary` count.
    """

    __slots__ = ("_local", "_text", "_verdicts", "_version", "name")

    def __init__(self, wanted: Wanted) -> None:
        self.name = wanted.name
        self._text = wanted.version.strip().lower()
        self._version = None if wanted.arbitrary else parse_version(self._text)
        self._local = self._version is not None and self._version.local is not None
        self._verdicts: dict[str, bool] = {}

    def matches(self, text: str) -> bool:
        """Whether `text`, a version as a file name writes it, satisfies the pin."""
        verdict = self._verdicts.get(text)
        if verdict is None:
            verdict = self._verdicts[text] = self._judge(text)
        return verdict

    def _judge(self, text: str) -> bool:
        version = parse_version(text)
        if self._version is None:
            # '===' compares strings, ignoring case (PEP 440, 'Arbitrary equality'); file names escape '-'.
            spellings = {text.lower(), text.lower().replace("_", "-")}
            if version is not None:
                spellings.add(str(version))
            return self._text in spellings
        if version is None:
            return False
        if self._local or version.local is None:
            return version == self._version
        # Without a local segment in the pin, that of the candidate is ignored (PEP 440, 'Version matching').
        return version.__replace__(local=None) == self._version
