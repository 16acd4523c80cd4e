"""Verdicts: are these bytes what somebody asked for? Pure; compares digests and sizes, computes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.vocabulary import Digest


@dataclass(frozen=True, slots=True)
class Expectation:
    """What one waiter accepts."""

    allowed: frozenset[Digest] = frozenset()
    """Of the lock: one match is enough (H6); empty: any."""
    advertised: frozenset[Digest] = frozenset()
    """Of the index: every one must match; they guard against corruption (H7)."""
    size: int | None = None
    """Exact, or None."""

    @property
    def algorithms(self) -> frozenset[str]:
        """What has to be computed for a verdict."""
        return frozenset(digest.algorithm for digest in self.allowed | self.advertised)

    @property
    def sha256(self) -> str | None:
        """The sha256 that the bytes must have, if it is known beforehand: it names the flight."""
        offered = {digest.hex for digest in self.advertised if digest.algorithm == "sha256"}
        if len(offered) == 1:
            return offered.pop()
        if len(self.allowed) == 1:
            (only,) = self.allowed
            return only.hex if only.algorithm == "sha256" else None
        return None

    def verdict(self, digests: frozenset[Digest], size: int, url: str) -> PkgcError | None:
        """Why the bytes with these `digests` (of all `algorithms`) will not do, or None."""
        if self.size is not None and size != self.size:
            return size_mismatch([self.size], size, url)
        if self.allowed and not self.allowed & digests:
            return PkgcError(
                "hash-mismatch",
                f"{redact(url)} has none of the hashes that the lock allows",
                context=_compared(self.allowed, digests),
                hint="The file may have been replaced at its source. If that is expected, lock again.",
            )
        if not self.advertised <= digests:
            return PkgcError(
                "advertised-hash-mismatch",
                f"{redact(url)} does not have the hash that its index advertises",
                context=_compared(self.advertised, digests),
                hint="The index, or a proxy in between, is broken. Try again, or use another index.",
            )
        return None


def size_mismatch(expected: Iterable[int], found: int, url: str) -> PkgcError:
    """The error for a file whose size the lock does not allow."""
    sizes = " or ".join(str(size) for size in sorted(set(expected)))
    return PkgcError(
        "size-mismatch",
        f"{redact(url)} does not have the size that the lock gives",
        context=f"expected: {sizes} bytes\nfound: {found} bytes",
        hint="The file may have been replaced at its source. If that is expected, lock again.",
    )


def of_lock(error: PkgcError, url: str) -> PkgcError:
    """An ``advertised-hash-mismatch`` in other words: what must match was said by a lock, not by an index."""
    return PkgcError(
        "hash-mismatch",
        f"{redact(url)} does not have the hash that is given for it",
        context=error.context,
        hint="The file may have been replaced at its source. If that is expected, lock again.",
    )


def _compared(expected: frozenset[Digest], digests: frozenset[Digest]) -> str:
    """H9: expected and got for every algorithm that was asked for, and the sha256 in any case."""
    algorithms = {digest.algorithm for digest in expected} | {"sha256"}
    lines = [f"expected: {digest}" for digest in sorted(expected)]
    lines += [f"got: {digest}" for digest in sorted(digests) if digest.algorithm in algorithms]
    return "\n".join(lines)
