"""Attempts: the candidates of one Wanted that did not work, what may follow, and the error at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.selection.candidates import Choice
from pkgc_daemon.vocabulary import Candidate, Wanted

#: Errors that say that a file has other bytes than it should.
OTHER_BYTES = frozenset({"hash-mismatch", "advertised-hash-mismatch", "size-mismatch"})
#: Errors that say that a file is not for this target, or not at hand: the next one may be.
UNFIT = frozenset({"no-matching-wheel", "not-in-cache"})
#: Errors of a source, after which the same file from another one is tried.
NEXT_SOURCE = frozenset(
    {
        "bad-response",
        "bad-url",
        "connect-timeout",
        "connection-failed",
        "connection-refused",
        "dns-failure",
        "download-failed",
        "file-not-found",
        "file-unreadable",
        "http-status",
        "index-error",
        "proxy-failure",
        "stalled",
        "tls-certificate",
    }
)
#: Answers of an index that say that it does not have the pin (other errors: it could not be asked).
NOT_SERVED = frozenset({"unknown-package", "no-matching-version", "no-matching-wheel", "no-allowed-hash"})
#: Files that are downloaded for one Wanted before it fails: a page may list any number of wrong ones.
MAX_FETCHED = 20


@dataclass(slots=True)
class Attempts:
    """Every candidate that did not work, for the one error at the end."""

    lines: list[str] = field(default_factory=list)
    errors: list[PkgcError] = field(default_factory=list)
    first: str = ""
    """File name of the best candidate."""
    fetched: int = 0
    everywhere: bool = False
    """Every index was asked, because a source failed."""

    def add(self, candidate: Candidate, error: PkgcError) -> None:
        self.first = self.first or candidate.filename
        where = redact(candidate.origin.index or candidate.url)
        detail = (error.context or error.message).replace("\n", "\n    ")
        self.lines.append(f"{candidate.filename} from {where}:\n    {detail}")
        self.errors.append(error)


def failure(wanted: Wanted, attempts: Attempts, choice: Choice) -> PkgcError:
    """The error when no candidate would do: every file that was tried, with its digests."""
    last = attempts.errors[-1]
    # A lock that lists files names one of them for each target, all of whose hashes must match.
    several = ("not-in-cache",) if wanted.source is not None else ("hash-mismatch", "not-in-cache")
    if len(attempts.lines) == 1 and last.code not in several:
        return placed(last, wanted)
    lines = list(attempts.lines)
    for one in choice.rejected:
        if one.kind == "hash":
            lines.append(f"{one.filename} from {redact(one.index)}:\n    not tried: {one.reason}")
            lines += [f"      {digest}" for digest in sorted(one.hashes)]
    if last.code == "not-in-cache":
        return PkgcError(
            "not-in-cache",
            f"{wanted} ({wanted.place}) is not in the cache, and --offline forbids to download it",
            context="\n".join(lines),
            hint="run once without --offline",
        )
    if last.code == "no-matching-wheel":
        return PkgcError(
            "no-matching-wheel",
            f"{wanted} ({wanted.place}): no file that can be had is for this Python",
            context="\n".join(lines),
            hint=last.hint,
        )
    if last.code in OTHER_BYTES:
        allowed = "\n".join(f"  {digest}" for digest in sorted(wanted.hashes))
        return PkgcError(
            "hash-mismatch" if wanted.hashes else last.code,
            f"{wanted} ({wanted.place}): no file has an allowed hash",
            context="\n".join([*lines, *(["allowed by the lock:", allowed] if allowed else [])]),
            hint="either the lock is out of date or the file was changed: find out before you lock again",
        )
    return PkgcError(
        last.code,
        f"{wanted} ({wanted.place}): no file could be downloaded",
        context="\n".join(lines),
        hint=last.hint,
    )


def placed(error: PkgcError, wanted: Wanted) -> PkgcError:
    """The same error, which also says for which requirement: another one, because flights share theirs."""
    if not wanted.place.file or str(wanted.place) in f"{error.message}\n{error.context}":
        return error
    needed = f"needed for: {wanted} ({wanted.place})"
    return PkgcError(
        error.code,
        error.message,
        context=f"{error.context}\n{needed}" if error.context else needed,
        hint=error.hint,
        exit_status=error.exit_status,
    )
