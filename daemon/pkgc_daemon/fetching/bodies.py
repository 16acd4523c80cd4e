"""Bodies: one attempt to get the bytes of a file, or the rest of them, over HTTP into a `Partial`; decides
what an answer means for the bytes that are already there, and leaves retrying to flights.py.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.failures import TRY_AGAIN, TransferError, for_status, translate
from pkgc_daemon.fetching.partials import BATCH, Partial, Validator
from pkgc_daemon.fetching.patience import Kind
from pkgc_daemon.fetching.transport import Reply, Transport
from pkgc_daemon.fetching.urls import has_secrets, url_key
from pkgc_daemon.later import Later
from pkgc_daemon.redaction import redact
from pkgc_daemon.selection.ports import Guard
from pkgc_daemon.vocabulary import Artifact, Digest, IndexOptions

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = Later("aiohttp")

#: Nothing that is installed is larger; a server that never ends must not fill the disk.
MAX_FILE_BYTES = 64 << 30
#: Less than this much within the longest bound of patience is a stall, though bytes do arrive.
CRAWL_BYTES = 16384

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z")
_SENT_BACK = re.compile(r"[\x20-\x7e]{1,1000}\Z")


class Stamp(NamedTuple):
    """What a server calls the content of a URL: enough to ask whether it still is the same."""

    etag: str | None
    last_modified: str | None
    answered_by: str | None
    """`urls.url_key` of that URL: the one that answered, after redirects. No other one is asked by this."""


class Condition(NamedTuple):
    """Bytes that are here, and the stamp that they had: with it the server need not send them again."""

    stamp: Stamp
    artifact: Artifact


class Unchanged(Exception):
    """The server says (304) that the URL still holds the bytes of the condition."""

    def __init__(self, condition: Condition) -> None:
        self.condition = condition


class _Misunderstood(Exception):
    """A 304 about other content than was asked about: then the file is simply fetched."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a waiter would have the file fetched from."""

    url: str
    """May hold credentials; no fragment."""
    options: IndexOptions
    identity: str
    """See `Transport.identity`."""
    size_hint: int | None = None
    """What the index says of the size; only believed where HTTP says nothing."""
    condition: Condition | None = None
    """The bytes are wanted only if the URL holds others by now."""
    fresh: bool = False
    """Caches on the way have to ask the server too."""

    @property
    def name(self) -> str:
        """Equal for sources that would send the same request."""
        return f"{self.url}\n{self.identity}\n{sorted(self.options.proxies.items())}"

    @property
    def is_local(self) -> bool:
        """Whether this is a ``file:`` URL."""
        return self.url[:5].lower() == "file:"

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc.rpartition("@")[2].lower()


class Progress(NamedTuple):
    """Whom to tell; called on the event loop."""

    expects: Callable[[int | None], None]
    """The whole size is known now (or not); may raise TransferError if it cannot be right."""
    arrived: Callable[[int], None]
    """So many bytes more of the file are here; negative when a transfer starts over."""
    received: Callable[[int], None]
    """So many bytes came over the network."""
    answered: Callable[[Stamp | None], None] = lambda stamp: None
    """The server gives the file, or the rest of it, and calls it so."""


async def receive(
    transport: Transport,
    source: Source,
    partial: Partial,
    progress: Progress,
    *,
    connect_timeout: float,
    verifiable: bool,
    cap: int = MAX_FILE_BYTES,
) -> frozenset[Digest]:
    """Get the file, or the rest of it, and return the digests of the whole.

    Args:
        connect_timeout: seconds.
        verifiable: everybody knows the sha256 of the file beforehand, so that a partial that is complete
            need not be asked about, and its rest may come from wherever a redirect leads; otherwise the URL
            that sent it says whether it is still the file.
        cap: bytes beyond which the body is not read.

    Raises:
        TransferError: the attempt failed; `partial` holds what arrived (settle it).
        Unchanged: the condition of `source` holds, and nothing was transferred.
    """
    known = partial.validator
    complete = known is not None and known.total == partial.kept
    if complete and verifiable:
        return await _finish_complete(partial, progress)
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    guard: Guard | None = None
    if complete and known is not None and not source.fresh:
        # Since an earlier attempt that could not publish it. Asking for the rest would be a 416.
        guard = guard_of(Stamp(*known[:2], known.answered_by))
    elif partial.kept and not complete and known is not None and known.if_range is not None:
        rest = {"Range": f"bytes={partial.kept}-", "If-Range": known.if_range}
        if verifiable:
            headers |= rest
        elif known.answered_by is not None:
            guard = Guard(rest, known.answered_by)
    elif partial.kept:
        await partial.start_over()
    if source.fresh:
        headers["Cache-Control"] = "no-cache"
    condition = source.condition if not partial.kept else None
    if condition is not None:
        guard = guard_of(condition.stamp)
    try:
        async with transport.open(
            source.url,
            headers,
            source.options,
            guard=guard,
            connect_timeout=connect_timeout,
            read_bufsize=BATCH,
        ) as reply:
            by = await _answered_by(reply, verifiable)
            if condition is not None and reply.status == 304 and reply.guarded:
                if same_stamp(condition.stamp, reply.headers):
                    raise Unchanged(condition)
                raise _Misunderstood
            if complete and known is not None and reply.status == 304 and reply.guarded:
                # If-None-Match compares weakly (RFC 9110, 13.1.2).
                name = "etag" if known.etag else "last-modified"
                if (theirs := reply.headers.get(name, known.if_range or "").strip()) != known.if_range:
                    await partial.start_over()
                    raise _bad_answer(source, known.if_range or "", theirs)
                progress.answered(stamp_of(reply.headers, by))
                return await _finish_complete(partial, progress)
            total = await _align(reply, source, partial, progress, verifiable, by)
            progress.answered(stamp_of(reply.headers, by))
            progress.expects(total)
            if total is not None and total > cap:
                raise _too_large(source, cap)
            position = await _read_body(reply, partial, progress, transport.limits.stall, cap, source)
            if total is None and "chunked" not in reply.headers.get("transfer-encoding", ""):
                # The end of the connection is the end of the body: a cut looks the same.
                total = source.size_hint
            if total is not None and position < total:
                # RFC 9110, 15.3.7: a part may be shorter than asked; the next attempt goes on from there.
                raise _too_short(source, total, position)
            return await partial.finish()
    except _Misunderstood:
        plain = replace(source, condition=None)
        return await receive(
            transport, plain, partial, progress,
            connect_timeout=connect_timeout, verifiable=verifiable, cap=cap,
        )  # fmt: skip
    except (aiohttp.ClientError, OSError, TimeoutError, PkgcError) as exc:
        raise translate(exc, source.url) from exc


async def _finish_complete(partial: Partial, progress: Progress) -> frozenset[Digest]:
    """Every byte was there before: nothing is read, the hash of the whole decides."""
    progress.expects(partial.kept)
    partial.begin(partial.validator)
    return await partial.finish()


async def _read_body(
    reply: Reply, partial: Partial, progress: Progress, window: float, cap: int, source: Source
) -> int:
    """Read to the end of the body; returns the position in the file."""
    clock = asyncio.get_running_loop().time
    content = reply.content
    position = partial.kept
    window_began, window_position = clock(), position
    try:
        while data := await content.readany():
            position += len(data)
            progress.arrived(len(data))
            progress.received(len(data))
            partial.feed(data)
            if position > cap:
                # Not a prefix of anything that is wanted.
                await partial.start_over()
                raise _too_large(source, cap)
            await partial.ready()
            if clock() - window_began > window:
                if position - window_position < CRAWL_BYTES:
                    raise TransferError(
                        Kind.STALL, PkgcError("stalled", f"hardly anything arrives from {redact(source.url)}")
                    )
                window_began, window_position = clock(), position
    except (aiohttp.ClientError, OSError, TimeoutError):
        # After a failure aiohttp gives out nothing more, although bytes that arrived before it may wait.
        rest = _unread(content)
        if rest:
            progress.received(len(rest))
            partial.feed(rest)
        raise
    return position


def _unread(content: aiohttp.StreamReader) -> bytes:
    """What `content` holds back: private to aiohttp, hence the care. A test fails if it stops working."""
    pieces, offset = getattr(content, "_buffer", ()), getattr(content, "_buffer_offset", 0)
    return b"".join(pieces)[offset:]


async def _answered_by(reply: Reply, verifiable: bool) -> str | None:
    """Whose word the validators of an answer are.

    None: it would cost time to say (a signed URL), and the bytes are known by their hash.
    """
    return None if verifiable and has_secrets(reply.exact_url) else await url_key(reply.exact_url)


async def _align(
    reply: Reply, source: Source, partial: Partial, progress: Progress, verifiable: bool, by: str | None
) -> int | None:
    """Make `partial` ready for the body of this answer, and say how long the whole file is, if known.

    Raises:
        TransferError: the body is not what was asked for.
    """
    if reply.status == 206:
        known, found = partial.validator, _CONTENT_RANGE.match(reply.headers.get("content-range", ""))
        start = int(found[1]) if found else -1
        total = int(found[3]) if found and found[3] != "*" else None
        theirs = _validator(reply.headers, total, by)
        if (
            known is None
            or not (reply.guarded or verifiable)
            or start != partial.kept
            or (total is not None and known.total is not None and total != known.total)
            or (theirs is not None and theirs.etag and known.etag and theirs.etag != known.etag)
        ):
            # peers.md: 206 with another offset, or of another file, is discarded and counts as an attempt.
            expected = f"bytes {partial.kept}-"
            await partial.start_over()
            raise _bad_answer(source, expected, reply.headers.get("content-range", "no Content-Range"))
        partial.begin(known)
        return known.total if total is None else total
    if reply.status == 416:
        await partial.start_over()
        raise _bad_answer(source, "a range", "416 Range Not Satisfiable")
    if reply.status != 200:
        raise for_status(reply.status, reply.headers, reply.url)
    if partial.kept:
        # The validator has changed, or the server knows no ranges: this is the whole file (RFC 9110, 13.1.5).
        progress.arrived(-partial.kept)
        await partial.start_over()
    length = reply.headers.get("content-length", "")
    coded = "transfer-encoding" in reply.headers
    total = int(length) if length.isascii() and length.isdigit() and not coded else None
    partial.begin(_validator(reply.headers, total, by))
    return total


def _validator(headers: Mapping[str, str], total: int | None, by: str | None) -> Validator | None:
    """The strong validator of an answer, or None (RFC 9110, 8.8.1)."""
    if headers.get("accept-ranges", "").strip().lower() == "none":
        return None
    etag = headers.get("etag", "").strip()
    if len(etag) >= 2 and etag[0] == etag[-1] == '"' and '"' not in etag[1:-1]:
        return Validator(etag, None, total, by)
    changed = headers.get("last-modified")
    # 8.8.2.2: within the same second the file could have changed once more.
    if not etag and changed and _age(headers) >= 1:
        return Validator(None, changed, total, by)
    return None


def stamp_of(headers: Mapping[str, str], by: str | None) -> Stamp | None:
    """What to ask with next time, or None when the whole file has to be fetched then.

    Args:
        by: `urls.url_key` of the URL that answered; None: it is not known.

    What has changed within the last second may change again and keep its Last-Modified; the ETags of many
    servers are made of that and the size.
    """
    texts = (headers.get(name, "").strip() for name in ("etag", "last-modified"))
    etag, changed = (text if _SENT_BACK.match(text) else None for text in texts)
    if (etag is None and changed is None) or (changed is not None and _age(headers, unknown=1.0) < 1):
        return None
    return Stamp(etag, changed, by) if by else None


def guard_of(stamp: Stamp) -> Guard | None:
    """The conditional headers that ask whether `stamp` still holds; None when nobody can be asked so.

    If-Modified-Since only without an ETag: it is the less exact of the two (RFC 9110, 13.1.3). A server may
    take it by its word and answer 304 for a file that is *older* now, because somebody went back to an
    earlier one. If its 304 tells Last-Modified, `same_stamp` finds that; if not, only ``--refresh`` and
    ``--reinstall`` do, which ask without any condition.
    """
    if not stamp.answered_by or not (stamp.etag or stamp.last_modified):
        return None
    name = "If-None-Match" if stamp.etag else "If-Modified-Since"
    return Guard({name: stamp.etag or stamp.last_modified or ""}, stamp.answered_by)


def same_stamp(stamp: Stamp, headers: Mapping[str, str]) -> bool:
    """Whether a 304 is about what was asked; ETags are compared weakly (RFC 9110, 8.8.3.2)."""
    if not stamp.etag:
        return headers.get("last-modified", "").strip() in ("", stamp.last_modified)
    theirs = headers.get("etag", "").strip()
    return not theirs or theirs.removeprefix("W/") == stamp.etag.removeprefix("W/")


def _age(headers: Mapping[str, str], unknown: float = 0.0) -> float:
    """Seconds between the last change of a file and the answer; `unknown` when the answer does not say."""
    from email.utils import parsedate_to_datetime  # loads much, and few calls need it

    try:
        now, changed = headers["date"], headers["last-modified"]
        return parsedate_to_datetime(now).timestamp() - parsedate_to_datetime(changed).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return unknown


def _bad_answer(source: Source, expected: str, found: str) -> TransferError:
    error = PkgcError(
        "bad-response",
        f"{redact(source.url)} answered with another part of the file than asked for",
        context=f"expected: {expected}\nfound: {found}",
        hint="The server, or a proxy in between, is broken. Try again, or use another index.",
    )
    return TransferError(Kind.SERVER, error)


def _too_short(source: Source, total: int, found: int) -> TransferError:
    error = PkgcError(
        "download-failed",
        f"{redact(source.url)} ended too early",
        context=f"expected: {total} bytes\nfound: {found} bytes",
        hint=TRY_AGAIN,
    )
    return TransferError(Kind.SERVER, error)


def _too_large(source: Source, cap: int) -> PkgcError:
    return PkgcError("file-too-large", f"{redact(source.url)} is larger than {cap} bytes")
