"""Index pages: bytes of the Simple repository API, JSON or HTML, become files; no network and no cache.

A page may list thousands of files where one version is wanted. So a page keeps the parsed entries and makes
`PageFile`s of those only whose file name carries a wanted version.
Rules: standards S1-S5 (PEP 503, 592, 629, 691, 700, 792).
"""

from __future__ import annotations

import codecs
import gc
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import unquote, urljoin

import orjson

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.selection.filenames import LONGEST_NAME, cut_filename, normalize
from pkgc_daemon.selection.htmlpages import parse_html
from pkgc_daemon.vocabulary import JSON, Digest

#: What pages are asked for with (S2): JSON first, because HTML is frozen (PEP 833).
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
#: The version of the API that this module knows.
API_VERSION = (1, 4)
#: The largest page that is read, in bytes; the largest real ones have some 30 MB.
MAX_PAGE_BYTES = 100_000_000
#: HTML costs far more time a byte than JSON does.
MAX_HTML_BYTES = 32_000_000
#: Files of one version that are considered; releases with a thousand are unheard of.
MAX_FILES = 5_000
#: Digests of one file that are read.
_MAX_DIGESTS = 32
#: What an HTML page may be written in. Not every codec that Python has: some need quadratic time.
_CHARSETS = frozenset({"utf-8", "utf-8-sig", "ascii", "iso8859-1", "iso8859-15", "cp1252"})

_JSON_TYPES = frozenset({"application/vnd.pypi.simple.v1+json", "application/json"})
_HTML_TYPES = frozenset({"application/vnd.pypi.simple.v1+html", "text/html", "application/xhtml+xml"})
_WEB = ("https://", "http://")


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as a page lists it."""

    filename: str
    url: str
    """Absolute, without fragment; may hold credentials."""
    hashes: frozenset[Digest] = frozenset()
    """Advertised digests; those of unknown algorithms or shapes are left out."""
    size: int | None = None
    requires_python: str | None = None
    yanked: str | None = None
    """The reason ('' when none is given), or None when not yanked."""


class ProjectPage:
    """What one index says of one project.

    Args:
        url: where the page came from: base of relative URLs; without credentials.
        entries: objects shaped as in the `files` array of PEP 691.
        api_version: (major, minor).
        status: project status (PEP 792).
        weight: rough size in memory, in bytes.
    """

    __slots__ = ("_entries", "api_version", "status", "status_reason", "url", "weight")

    def __init__(
        self,
        url: str,
        entries: Sequence[Any],
        *,
        api_version: tuple[int, int] = (1, 0),
        status: str = "active",
        status_reason: str = "",
        weight: int = 0,
    ) -> None:
        self.url = url
        self._entries = entries
        self.api_version = api_version
        self.status = status
        self.status_reason = status_reason
        self.weight = weight

    @property
    def entry_count(self) -> int:
        """How many entries there are: what going through them costs."""
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<ProjectPage {redact(self.url)}, {len(self._entries)} files, {self.status}>"

    @property
    def files(self) -> tuple[PageFile, ...]:
        """Every usable file of the page, in its order. Costs time: see `files_of`."""
        return tuple(file for entry in self._entries if (file := _page_file(entry, self.url)) is not None)

    def _named(self) -> Iterator[tuple[str, Any]]:
        """Entries that have a file name of possible length, with that."""
        for entry in self._entries:
            filename = entry.get("filename") if isinstance(entry, dict) else None
            if isinstance(filename, str) and len(filename) <= LONGEST_NAME:
                yield filename, entry

    def files_of(self, project: str, matches: Callable[[str], bool]) -> tuple[PageFile, ...]:
        """The wheels and source archives of `project` (normalized) whose version text `matches`.

        `matches` gets the version as the file name writes it and should remember its verdicts. At most
        `MAX_FILES`, the first ones.
        """
        found: list[PageFile] = []
        for filename, entry in self._named():
            if len(found) >= MAX_FILES:
                break
            # The common case of `cut_filename`, inline: this loop sees every file of every page.
            if filename.endswith(".whl"):
                parts = filename.split("-", 2)
                if len(parts) < 3 or not matches(parts[1]) or normalize(parts[0]) != project:
                    continue
            else:
                pieces = cut_filename(filename)
                if pieces is None or not matches(pieces.version) or normalize(pieces.project) != project:
                    continue
            file = _page_file(entry, self.url)
            if file is not None:
                found.append(file)
        return tuple(found)

    def version_texts(self, project: str) -> set[str]:
        """Every version of `project` that the page has files of, as the file names write it."""
        texts = set()
        for filename, _ in self._named():
            pieces = cut_filename(filename)
            if pieces is not None and normalize(pieces.project) == project:
                texts.add(pieces.version)
        return texts

    def by_project(self) -> dict[str, ProjectPage]:
        """A flat list (find-links) split into one page for each project."""
        entries: dict[str, list[Any]] = {}
        for filename, entry in self._named():
            pieces = cut_filename(filename)
            if pieces is not None:
                entries.setdefault(normalize(pieces.project), []).append(entry)
        return {name: ProjectPage(self.url, some) for name, some in entries.items()}


def parse_page(body: bytes, content_type: str, url: str) -> ProjectPage:
    """Read a page.

    Args:
        body: the decoded content.
        content_type: the Content-Type field; decides between JSON and HTML (S2).
        url: base of relative URLs, without credentials; also names the page in messages.

    Raises:
        PkgcError: ``index-garbage``: neither JSON nor HTML, too large, malformed;
            ``index-api-version``: a major version of the API that is not known (PEP 629).
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if len(body) > MAX_PAGE_BYTES:
        raise _garbage(url, f"the page has {len(body)} bytes", f"at most {MAX_PAGE_BYTES} bytes")
    if kind in _JSON_TYPES:
        return _parse_json(body, url)
    if kind in _HTML_TYPES:
        if len(body) > MAX_HTML_BYTES:
            raise _garbage(url, f"the HTML page has {len(body)} bytes", f"at most {MAX_HTML_BYTES} bytes")
        return _parse_html(body, _charset(parameters), url)
    raise _garbage(
        url,
        f"Content-Type {content_type or '(none)'}",
        "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html or text/html",
    )


class _Collector:
    """The cyclic garbage collector, paused while any thread reads a page.

    A page makes hundreds of thousands of objects at once, none of them garbage: looking through all of them
    again and again takes several times as long as the reading, and orjson lets no other thread run meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses = 0
        self._resume = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is collected while the block runs."""
        with self._lock:
            if not self._pauses:
                self._resume = gc.isenabled()
                gc.disable()
            self._pauses += 1
        try:
            yield
        finally:
            with self._lock:
                self._pauses -= 1
                if not self._pauses and self._resume:
                    gc.enable()


_COLLECTOR = _Collector()


def _parse_json(body: bytes, url: str) -> ProjectPage:
    try:
        with _COLLECTOR.paused():
            data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # orjson also refuses nesting beyond 1024 levels, and bytes that are not UTF-8.
        raise _garbage(url, f"malformed JSON: {error}", "a JSON object (PEP 691)") from error
    if not isinstance(data, dict) or not isinstance(data.get("files"), list):
        raise _garbage(url, "JSON of another shape", 'an object with a "files" array (PEP 691)')
    meta = data.get("meta")
    status = data.get("project-status")
    given: JSON = status if isinstance(status, dict) else {}
    return ProjectPage(
        url,
        data["files"],
        api_version=_api_version(meta.get("api-version") if isinstance(meta, dict) else None, url),
        status=str(given.get("status") or "active"),
        status_reason=str(given.get("reason") or ""),
        weight=3 * len(body),
    )


def _parse_html(body: bytes, charset: str, url: str) -> ProjectPage:
    try:
        page = parse_html(body.decode(charset, "replace"))
        base = urljoin(url, page.base) if page.base else url
    except ValueError as error:
        raise _garbage(url, f"malformed HTML: {error}", "an HTML page (PEP 503)") from error
    entries = []
    for anchor in page.anchors:
        target, _, fragment = anchor.href.partition("#")
        entry: JSON = {
            "filename": unquote(target.partition("?")[0].rpartition("/")[2]),
            "url": target,
            # PEP 503: '#<algorithm>=<hex>'; old pages put several parameters there.
            "hashes": dict(piece.split("=", 1) for piece in fragment.split("&") if "=" in piece),
            "requires-python": anchor.requires_python,
            "yanked": False if anchor.yanked is None else (anchor.yanked or True),
        }
        entries.append(entry)
    return ProjectPage(
        base,
        entries,
        api_version=_api_version(page.meta.get("pypi:repository-version"), url),
        status=page.meta.get("pypi:project-status") or "active",
        status_reason=page.meta.get("pypi:project-status-reason") or "",
        weight=8 * len(body),
    )


def _page_file(entry: Any, base: str) -> PageFile | None:
    """The file that `entry` describes; None when it names no file that could be fetched."""
    if not isinstance(entry, dict):
        return None
    filename, url = entry.get("filename"), entry.get("url")
    if not isinstance(filename, str) or not isinstance(url, str) or not filename or "/" in filename:
        return None
    if len(filename) > LONGEST_NAME:
        return None
    if not url.startswith(_WEB):
        try:
            url = urljoin(base, url)
        except ValueError:
            return None
        # A page from the web must not make the daemon read local files.
        if not url.startswith(_WEB) and not (url.startswith("file:") and base.startswith("file:")):
            return None
    size = entry.get("size")
    requires_python = entry.get("requires-python")
    yanked = entry.get("yanked")
    return PageFile(
        filename,
        url.partition("#")[0],
        _digests(entry.get("hashes")),
        size if type(size) is int and size >= 0 else None,
        requires_python if isinstance(requires_python, str) and requires_python.strip() else None,
        (yanked if isinstance(yanked, str) else "") if yanked else None,
    )


def _digests(hashes: object) -> frozenset[Digest]:
    if not isinstance(hashes, dict):
        return frozenset()
    found = []
    for algorithm, value in islice(hashes.items(), _MAX_DIGESTS):
        try:
            found.append(Digest.parse(f"{algorithm}:{value}"))
        except ValueError:
            # An algorithm of the future, or noise such as '#egg=': no statement about the bytes (S3).
            continue
    return frozenset(found)


def _api_version(text: object, url: str) -> tuple[int, int]:
    if text is None:
        return (1, 0)  # PEP 629: missing means 1.0
    major, _, minor = str(text).partition(".")
    try:
        version = (int(major), int(minor or "0"))
    except ValueError:
        raise _garbage(url, f"API version {str(text)[:40]!r}", "major.minor (PEP 629)") from None
    if version[0] > API_VERSION[0]:
        raise PkgcError(
            "index-api-version",
            f"{redact(url)} speaks version {text} of the Simple repository API, unknown to this pkgc",
            context=f"expected: major version {API_VERSION[0]}\nfound: {text}",
            hint="upgrade pkgc, or use another index",
        )
    return version


def _charset(parameters: str) -> str:
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset":
            try:
                codec = codecs.lookup(value.strip().strip("\"'")).name
            except (LookupError, ValueError):
                break
            return codec if codec in _CHARSETS else "utf-8"
    return "utf-8"


def _garbage(url: str, found: str, expected: str) -> PkgcError:
    return PkgcError(
        "index-garbage",
        f"{redact(url)} did not answer with an index page",
        context=f"expected: {expected}\nfound: {found}",
        hint="check that the index URL is the root of a Simple repository API (it often ends in /simple/)",
    )


def digest_names(files: Iterable[PageFile]) -> list[tuple[Digest, str]]:
    """(digest, file name) pairs of `files`: what the store remembers for choices without the network."""
    return [(digest, file.filename) for file in files for digest in file.hashes]
