"""What a lock may name, seen from where the lock is: paths, URLs, repositories, digests, file names; no I/O.

A lock that came over the network names nothing of the machine that reads it (pip #14159), and no lock names
anything but http, https and local files: the rest would be a way around what fetching checks.
"""

from __future__ import annotations

import os.path
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from pkgc_daemon.inputs.locations import joined
from pkgc_daemon.inputs.problems import shown
from pkgc_daemon.vocabulary import DIGEST_LENGTHS, STRONG_ALGORITHMS, Digest

#: Algorithms that prove what a file is (PEP 751: "at least one secure algorithm"); locks may use blake2b too.
SECURE_ALGORITHMS = STRONG_ALGORITHMS | {"blake2b"}

_WEB = re.compile(r"https?://[^/?#\\\x00-\x20\x7f][^\x00-\x1f\x7f]*\Z", re.IGNORECASE)
_PLAIN_AUTHORITY = re.compile(r"https?://[A-Za-z0-9.-]+(?=[/?#]|\Z)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REPOSITORY = re.compile(r"(?:https?|ssh|git|file)://[^\x00-\x20\x7f]+\Z", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")


_URL_HINT = "have the lock made again so that it names a URL of this kind, or a path"


class LockProblem(ValueError):
    """Something in a lock that cannot be used. The message has no place; whoever reads the lock knows it."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file or folder of the machine where the lock is."""

    path: str
    """Absolute."""

    @property
    def url(self) -> str:
        """Its ``file:`` URL."""
        return "file://" + urllib.parse.quote(self.path)


@dataclass(frozen=True, slots=True)
class LockHome:
    """The place of a lock: what its relative names mean, and what it may not name."""

    folder: str
    """Absolute path of its folder; empty for a remote lock."""
    remote: bool

    @classmethod
    def of(cls, location: str) -> LockHome:
        """The home of a lock.

        Args:
            location: its absolute path, or its http(s) URL.
        """
        remote = re.match(r"https?:", location, re.IGNORECASE) is not None
        return cls("" if remote else os.path.dirname(location), remote)

    def local(self, path: str, folder: str | None = None) -> LocalFile:
        """The file or folder that `path` names, relative to the lock or to `folder`.

        Raises:
            LockProblem: ``remote-names-local``, ``invalid-lock``.
        """
        if self.remote:
            raise LockProblem(
                "remote-names-local",
                f"a lock from the network must not name local files, found {shown(path)!r}",
                "download the lock together with what it names, or have it name URLs",
            )
        if not path or "\0" in path:
            raise LockProblem("invalid-lock", f"{shown(path)!r} is no path")
        return LocalFile(joined(self.folder if folder is None else folder, path))

    def artifact(self, url: str) -> str | LocalFile:
        """The URL of an artifact without its fragment; a LocalFile for a ``file:`` URL.

        Raises:
            LockProblem: ``bad-artifact-url``, ``remote-names-local``.
        """
        if "#" in url:
            url = url.partition("#")[0]
        if _WEB.match(url) is not None:
            if _PLAIN_AUTHORITY.match(url) is None:
                _check_authority(url)
            return url
        if url[:5].lower() == "file:" and _CONTROL.search(url) is None:
            return self._file_url(url)
        raise LockProblem(
            "bad-artifact-url",
            f"the URL of a file must be http or https (or file, in a local lock), found {shown(url)!r}",
            _URL_HINT,
        )

    def repository(self, url: str) -> str:
        """The URL of a git repository, as git takes it.

        Raises:
            LockProblem: ``bad-artifact-url``, ``remote-names-local``.
        """
        url = url.removeprefix("git+")
        # Never `ext::…` or `-…`: git would run them.
        if _REPOSITORY.match(url) is None:
            raise LockProblem(
                "bad-artifact-url",
                f"the URL of a repository must be https, http, ssh, git or file, found {shown(url)!r}",
                _URL_HINT,
            )
        _check_authority(url)
        return self._file_url(url).url if url[:5].lower() == "file:" else url

    def _file_url(self, url: str) -> LocalFile:
        _check_authority(url)
        parts = urllib.parse.urlsplit(url)
        path = urllib.parse.unquote(parts.path)
        if parts.netloc not in {"", "localhost"} or not path.startswith("/"):
            message = f"not the URL of a local file: {shown(url)!r}"
            raise LockProblem("bad-artifact-url", message, _URL_HINT)
        return self.local(path)


def _check_authority(url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        valid = parts.scheme.lower() == "file" or bool(parts.hostname)
        _ = parts.port
    except ValueError as exc:
        message = f"{shown(url)!r} is not a valid URL: {exc}"
        raise LockProblem("bad-artifact-url", message, _URL_HINT) from exc
    # git hands such hosts and users to ssh, which would read them as options.
    if not valid or (parts.hostname or "").startswith("-") or (parts.username or "").startswith("-"):
        raise LockProblem("bad-artifact-url", f"{shown(url)!r} names no host", _URL_HINT)


def commit_id(text: str) -> str:
    """A full commit id, lower case.

    Raises:
        LockProblem: ``invalid-lock``.
    """
    commit = text.lower()
    if _COMMIT.match(commit) is None:
        raise LockProblem(
            "invalid-lock", f"a full commit id has 40 (or 64) hex digits, found {shown(text)!r}"
        )
    return commit


def subdirectory(text: str | None) -> str | None:
    """A folder inside a source tree; None for the tree itself.

    Raises:
        LockProblem: ``invalid-lock``: it leads out of the tree.
    """
    if text is None:
        return None
    parts = text.split("/")
    if text.startswith("/") or ".." in parts or _CONTROL.search(text) is not None:
        raise LockProblem("invalid-lock", f"the subdirectory {shown(text)!r} leads out of its source")
    return "/".join(part for part in parts if part not in {"", "."}) or None


def url_filename(url: str) -> str:
    """The last component of a URL's path, percent-decoded once (P1)."""
    for end in "?#":
        if end in url:
            url = url.partition(end)[0]
    name = url.rpartition("/")[2]
    return urllib.parse.unquote(name) if "%" in name else name


def check_filename(name: str) -> str:
    """`name`, if it is the name of one file and nothing more.

    Raises:
        LockProblem: ``invalid-lock``.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name or _CONTROL.search(name) is not None:
        raise LockProblem("invalid-lock", f"{shown(name)!r} is not the name of a wheel or source archive")
    return name


def known_digests(hashes: Mapping[str, object]) -> tuple[frozenset[Digest], list[str]]:
    """The digests of a table of hashes, and the algorithms that pkgc does not know.

    Raises:
        LockProblem: ``invalid-lock`` for a digest of the wrong form, ``weak-hash`` when none is secure (P2).
    """
    digests: set[Digest] = set()
    unknown: list[str] = []
    for algorithm, value in hashes.items():
        if algorithm.strip().lower() not in DIGEST_LENGTHS:
            unknown.append(algorithm)
            continue
        digests.add(digest(f"{algorithm}:{value}"))
    if not any(found.algorithm in SECURE_ALGORITHMS for found in digests):
        raise LockProblem(
            "weak-hash",
            f"no hash of a secure algorithm ({', '.join(sorted(SECURE_ALGORITHMS))}), "
            f"found {shown(', '.join(hashes))}",
            "have the lock made again, with sha256",
        )
    return frozenset(digests), unknown


def digest(text: str) -> Digest:
    """A digest as ``alg:hex``.

    Raises:
        LockProblem: ``invalid-lock``.
    """
    try:
        return Digest.parse(text)
    except ValueError as exc:
        raise LockProblem("invalid-lock", shown(str(exc))) from exc


def secure(digests: frozenset[Digest]) -> frozenset[Digest]:
    """Those that prove what a file is."""
    return frozenset(one for one in digests if one.algorithm in SECURE_ALGORITHMS)
