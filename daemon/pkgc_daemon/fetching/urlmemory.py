"""What fetching wants to have remembered of URLs, as nouns and a protocol (no code): `store`, a later stage,
implements it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from pkgc_daemon.vocabulary import STRONG_ALGORITHMS, Artifact, Digest, Origin

#: Algorithms by which stored bytes are found: nobody can make other bytes of the same digest.
TELLING = STRONG_ALGORITHMS | {"blake2b"}


@dataclass(frozen=True, slots=True)
class UrlState:
    """What a URL held when it was looked at last, and how to ask whether it still does."""

    sha256: str
    """Of its bytes; '' for what is not a file (the commit of a git reference is an `etag`)."""
    etag: str | None = None
    """ETag of the answer, weak or strong; of a local file ``file:`` and what `stat` said of it."""
    last_modified: str | None = None
    """Last-Modified of the answer, as it came."""
    checked: float = 0.0
    """Unix seconds."""
    answered_by: str | None = None
    """`urls.url_key` of the URL that answered, after redirects: to another one they mean nothing."""


class UrlMemory(Protocol):
    """Remembers what URLs held, and has the bytes."""

    async def url_state(self, key: str) -> UrlState | None:
        """What `remember_url` kept under `key`, or None."""

    async def remember_url(self, key: str, state: UrlState) -> None:
        """Keep `state`, in place of an earlier one."""

    async def held(self, sha256: str) -> Artifact | None:
        """The bytes with this digest, verified if they were suspect; or, without them, their tree.

        In the second case the file of the Artifact is not there (it was evicted, the tree was not).
        """

    async def settle(self, digests: Iterable[Digest]) -> None:
        """Verify what of these is suspect, so that `find` knows it."""

    def find(self, digest: Digest) -> Artifact | None:
        """The stored bytes with this digest, of any algorithm."""

    def sha256_of(self, digest: Digest) -> str | None:
        """The sha256 of the bytes that have this digest, if that was ever verified."""

    async def find_by_any(self, digests: frozenset[Digest], filename: str) -> Artifact | None:
        """Stored bytes with one of these digests, also if that has to be computed first (H11)."""

    async def remember_digests(self, artifact: Artifact) -> None:
        """Keep the digests of `artifact` that were computed after it had been stored."""

    async def record_origin(self, sha256: str, origin: Origin, filename: str) -> None:
        """Remember where these bytes were offered, and as what."""
