"""Direct references: a URL or a path as written becomes the source that it names; nothing is opened.

The text alone decides (pip looks at the disk): what ends like an archive is one, any other path a directory.
Relative paths start at the working directory, not at the requirements file; so do those of ``-e``, of
``name @ ./path`` and of relative `file:` URLs.  That is what pip 26.3 and uv 0.13 do, tried with both; only
``-r``, ``-c`` and ``--find-links`` start at the file.  Names told by file names: a wheel's (binding), and a
source archive's if it has exactly the shape of PEP 625: `v1.0.tar.gz` and `python-demo-1.0.tar.gz` tell none.
"""

from __future__ import annotations

import os.path
import re
import urllib.parse
from typing import Literal, NamedTuple

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from pkgc_daemon.inputs.locations import (
    LOCAL_COPY_HINT,
    REMOTE_NAMES_LOCAL,
    file_url,
    joined,
    local_path,
)
from pkgc_daemon.vocabulary import (
    DIGEST_LENGTHS,
    STRONG_ALGORITHMS,
    ArchiveSource,
    Digest,
    DirectorySource,
    DirectSource,
    VcsSource,
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ARCHIVE = re.compile(r"\.(whl|zip|tgz|tbz|txz|tlz|tar(\.(gz|bz2|xz|lz|lzma))?)\Z", re.IGNORECASE)
_EXTRAS = re.compile(r"\[([A-Za-z0-9][A-Za-z0-9._, -]*)\]\Z")
_PROJECT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
#: On a path, only this is a fragment; anything else behind a `#` belongs to the name.
_PATH_FRAGMENT = re.compile(rf"#(?=(?:egg|subdirectory|{'|'.join(DIGEST_LENGTHS)})=)")
#: PEP 625: one dash; the name normalized, with underscores.
_SDIST = re.compile(r"([a-z0-9]+(?:_[a-z0-9]+)*)-([^-]+)\.tar\.gz\Z")
_FULL_COMMIT = re.compile(r"([0-9a-fA-F]{40}|[0-9a-fA-F]{64})\Z")
_BLANK = re.compile(r"[\s\0-\x1f\x7f]")

_GIT_TRANSPORTS = frozenset({"http", "https", "ssh", "git", "file"})
_OTHER_VCS = {"hg": "a Mercurial repository", "svn": "a Subversion repository", "bzr": "a Bazaar branch"}
_SCP_HINT = "write git+ssh://git@host/path.git: a slash, not a colon, follows the host"


class FormError(ValueError):
    """The text is no requirement of any form. The message may quote the text; the hint does not."""

    def __init__(self, message: str, hint: str | None = None, code: str = "invalid-requirement") -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


class Reference(NamedTuple):
    """What a URL or a path says."""

    source: DirectSource | None
    """None: it is of a kind that cannot be installed."""
    kind: str
    """What it is, for a person."""
    name: str = ""
    """Normalized; '' if the text does not tell it."""
    told_by: Literal["", "wheel", "egg", "sdist"] = ""
    """What tells the name. A wheel's file name is binding; the others are what the author says."""
    version: str = ""
    """A wheel's, from its file name."""
    hashes: frozenset[Digest] = frozenset()
    """The strong digests of the fragment: they satisfy hash mode (H1)."""


class _Fragment(NamedTuple):
    egg: str = ""
    subdirectory: str | None = None
    digests: frozenset[Digest] = frozenset()

    @property
    def strong(self) -> frozenset[Digest]:
        return frozenset(digest for digest in self.digests if digest.algorithm in STRONG_ALGORITHMS)


def is_archive_name(name: str) -> bool:
    """Whether a path or URL ends as archives do."""
    return _ARCHIVE.search(name) is not None


def looks_like_path(text: str) -> bool:
    """Whether `text`, which is no PEP 508 name, is a path by its looks."""
    return "/" in text or text.startswith(".") or is_archive_name(text)


def has_scheme(text: str) -> bool:
    """Whether `text` begins like a URL."""
    return _SCHEME.match(text) is not None


def without_extras(text: str) -> tuple[str, frozenset[str]]:
    """Cut ``[extra,…]`` off the end of a path or URL; the extras come normalized."""
    match = _EXTRAS.search(text)
    if match is None:
        return text, frozenset()
    names = (name.strip() for name in match[1].split(","))
    return text[: match.start()].rstrip(), frozenset(canonicalize_name(name) for name in names if name)


def parse_reference(text: str, cwd: str, *, editable: bool = False, remote: bool = False) -> Reference:
    """Read a URL or a path, without extras and marker.

    Args:
        text: as written, variables put in.
        cwd: the client's working directory: where relative paths start.
        editable: it follows ``-e``: then it is a directory or a repository, whatever it looks like.
        remote: it stands in a requirements file from the network, which may name nothing local.

    Raises:
        FormError: nothing of any known kind; ``remote-names-local``.
        InputError: ``no-working-directory``.
    """
    if "\0" in text or not text:
        raise FormError("it names nothing")
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    vcs, plus, transport = scheme.partition("+")
    if editable and not plus and (vcs == "git" or vcs in _OTHER_VCS):
        # As pip: after -e, the protocol of a version control system may stand for itself.
        text, plus, transport = f"{vcs}+{text}", "+", vcs
    if plus and vcs in _OTHER_VCS:
        return _other_vcs(text, _OTHER_VCS[vcs])
    if plus and vcs == "git" and transport in _GIT_TRANSPORTS:
        return _git(text, remote)
    if scheme in {"http", "https"}:
        if editable:
            raise FormError("only a directory or a repository can be editable", "take the -e away")
        return _remote_archive(text)
    if scheme == "file":
        url, _, fragment = text.partition("#")
        path = local_path(url)
        if path is None:
            raise FormError("it is not the URL of a local file")
        return _local(path, _parse_fragment(fragment), cwd, editable, remote)
    if text.startswith("git+"):
        raise FormError("git is reached by http, https, ssh, git or file", _SCP_HINT)
    if scheme and (scheme == "data" or not looks_like_path(text) or "://" in text):
        hint = "name an http, https or file URL, or a path"
        if scheme == "ssh":
            hint = "a git repository is written git+ssh://…"
        raise FormError(f"URLs that begin with {scheme}: are of no known kind", hint)
    path, *rest = _PATH_FRAGMENT.split(text, maxsplit=1)
    return _local(path, _parse_fragment(rest[0] if rest else ""), cwd, editable, remote)


def name_of_file(filename: str) -> tuple[str, Literal["", "wheel", "sdist"], str]:
    """The project that an archive's file name tells, what tells it, a wheel's version; '' where nothing does.

    Raises:
        FormError: the name of a wheel that is none (the binary distribution format).
    """
    if filename.endswith(".whl"):
        try:
            name, version, _, _ = parse_wheel_filename(filename)
        except InvalidWheelFilename as exc:
            raise FormError(f"invalid file name of a wheel: {filename!r}") from exc
        return name, "wheel", str(version)
    if (match := _SDIST.match(filename)) is not None:
        try:
            if str(Version(match[2])) == match[2]:
                return canonicalize_name(match[1]), "sdist", ""
        except InvalidVersion:
            pass
    return "", "", ""


def _parse_fragment(text: str) -> _Fragment:
    egg, subdirectory, digests = "", None, set()
    for part in text.split("&"):
        key, _, value = part.partition("=")
        if key == "egg" and not egg:
            # Extras are tolerated as pip did before 25: nothing depends on them.
            egg = without_extras(urllib.parse.unquote(value))[0]
            if not _PROJECT.match(egg):
                raise FormError(f"#egg= wants the name of a project, not {value!r}")
        elif key == "subdirectory" and subdirectory is None:
            subdirectory = _subdirectory(urllib.parse.unquote(value))
        elif key in DIGEST_LENGTHS:
            try:
                digests.add(Digest.parse(f"{key}:{urllib.parse.unquote(value)}"))
            except ValueError as exc:
                raise FormError(str(exc)) from exc
    return _Fragment(canonicalize_name(egg) if egg else "", subdirectory, frozenset(digests))


def _subdirectory(value: str) -> str | None:
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if value.startswith("/") or ".." in parts or "\0" in value:
        raise FormError(f"#subdirectory= leads out of the project: {value!r}")
    return "/".join(parts) or None


def _named(fragment: _Fragment, filename: str) -> tuple[str, Literal["", "wheel", "egg", "sdist"], str]:
    name, told_by, version = name_of_file(filename)
    if fragment.egg and told_by != "wheel":
        return fragment.egg, "egg", ""
    return name, told_by, version


def _checked_url(url: str) -> urllib.parse.SplitResult:
    if _BLANK.search(url):
        raise FormError("a URL holds no blanks", "write %20 for a blank, and ' ; ' before a marker")
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        hint = _SCP_HINT if url.startswith("ssh:") else None
        raise FormError("it is not a valid URL", hint) from exc
    if parts.scheme != "file" and (not parts.hostname or parts.hostname.startswith("-")):
        raise FormError("the URL names no host", _SCP_HINT if url.startswith("ssh:") else None)
    return parts


def _remote_archive(text: str) -> Reference:
    url, _, after = text.partition("#")
    parts = _checked_url(url)
    fragment = _parse_fragment(after)
    filename = urllib.parse.unquote(parts.path.rstrip("/").rpartition("/")[2])
    name, told_by, version = _named(fragment, filename)
    source = ArchiveSource(url, None, fragment.subdirectory, fragment.digests)
    return Reference(source, "a direct URL", name, told_by, version, fragment.strong)


def _local(path: str, fragment: _Fragment, cwd: str, editable: bool, remote: bool) -> Reference:
    if remote:
        raise _names_local()
    # Both peers resolve `..` in the text, and their direct_url.json is compared with ours.
    absolute = os.path.normpath(joined(cwd, path))
    if not is_archive_name(path):
        directory = DirectorySource(absolute, editable, fragment.subdirectory)
        told_by: Literal["", "egg"] = "egg" if fragment.egg else ""
        return Reference(directory, "a directory", fragment.egg, told_by, "", fragment.strong)
    if editable:
        raise FormError("only a directory or a repository can be editable", "take the -e away")
    name, by, version = _named(fragment, absolute.rpartition("/")[2])
    source = ArchiveSource(file_url(absolute), absolute, fragment.subdirectory, fragment.digests)
    return Reference(source, "a local archive", name, by, version, fragment.strong)


def _git(text: str, remote: bool) -> Reference:
    """Read ``git+TRANSPORT://…[@REVISION][#…]``; as in pip, the revision follows the path's last ``@``."""
    url, _, after = text[len("git+") :].partition("#")
    fragment = _parse_fragment(after)
    parts = _checked_url(url)
    if parts.scheme == "file":
        if remote:
            raise _names_local()
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise FormError("git+file: wants an absolute path: git+file:///…")
    path, at, revision = parts.path.rpartition("@")
    requested = urllib.parse.unquote(revision) if at else None
    if requested is not None and (not requested or requested.startswith("-") or _BLANK.search(requested)):
        raise FormError("what follows the @ is no revision")
    source = VcsSource(
        url=urllib.parse.urlunsplit(parts._replace(path=path)) if at else url,
        requested=requested,
        commit=requested.lower() if requested and _FULL_COMMIT.match(requested) else None,
        subdirectory=fragment.subdirectory,
    )
    told_by: Literal["", "egg"] = "egg" if fragment.egg else ""
    return Reference(source, "a git repository", fragment.egg, told_by, "", fragment.strong)


def _other_vcs(text: str, kind: str) -> Reference:
    fragment = _parse_fragment(text.partition("#")[2])
    return Reference(None, kind, fragment.egg, "egg" if fragment.egg else "", "", fragment.strong)


def _names_local() -> FormError:
    return FormError(
        "a requirements file from the network may name nothing local", LOCAL_COPY_HINT, REMOTE_NAMES_LOCAL
    )
