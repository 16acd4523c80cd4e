"""Partials: a file that grows on disk while it is hashed, and that another attempt, or another daemon, goes
on with; knows nothing of HTTP but the validator that makes going on safe.

What is on disk is always a prefix of the file, so its length says how much is good.  A path belongs to one
`Partial` at a time (flights.py sees to it); if the file is not what was written all the same, the bytes are
given up, never filled up.  The sidecar
(``<key>.json``) says of which file: URL and validator.  After a power failure the prefix may hold garbage;
the hash of the whole finds that, and flights.py then starts over.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.failures import TransferError, for_disk
from pkgc_daemon.fetching.patience import Kind
from pkgc_daemon.vocabulary import DIGEST_LENGTHS, Digest

#: Bytes handed to a thread at once. With one batch being written while the next one arrives, and the read
#: buffer of the connection, less than 1 MiB is ever in memory only.
BATCH = 256 * 1024
#: Seconds after which bytes that arrived are written even if they do not make a batch.
LATEST = 1.0
_REHASH_BLOCK = 1 << 20
#: Pieces that are written by one call; systems allow 1024 at least.
_PIECES = 512

T = TypeVar("T")


class Validator(NamedTuple):
    """What the sender calls this very content; only strong ones are kept (RFC 9110, 8.8 and 13.1.5)."""

    etag: str | None
    last_modified: str | None
    total: int | None
    answered_by: str | None = None
    """`urls.url_key` of the URL that gave it; None: nobody knows, or the hash of the whole decides anyway."""

    @property
    def if_range(self) -> str | None:
        """The value of If-Range, or None when the rest must not be asked for."""
        return self.etag or self.last_modified


class Follower(Protocol):
    """One who reads the file while it grows; its methods return at once and do not raise."""

    def grown(self, kept: int) -> None:
        """So many bytes are in the file, and will not change. Called in any thread."""

    def landed(self, sha256: str) -> None:
        """The file is complete, verified, and in the store. Called on the loop."""

    def dropped(self) -> None:
        """What has arrived counts no more. Called in any thread."""


class _Disturbed(OSError):
    """The file on disk is not the one that was written."""


class Partial:
    """One file on its way. Methods named ``_…_now`` run in a thread, one at a time; the rest on the loop.

    Args:
        path: where the bytes go; the sidecar is beside it. Nobody else may use it meanwhile.
        url: without credentials; a sidecar that names another URL is not believed.
        algorithms: computed in the same pass; sha256 always is.
    """

    def __init__(self, path: Path, url: str, algorithms: Iterable[str], executor: Executor) -> None:
        self.path = path
        self.sidecar = path.with_suffix(".json")
        self.kept = 0
        """Bytes on disk and hashed."""
        self.validator: Validator | None = None
        self.resumed = False
        """Whether any byte came from an earlier attempt."""
        self.follower: Follower | None = None
        """Nobody who follows it changes anything for the file."""
        self.noted = False
        """Whether there may be a sidecar."""
        self._url = url
        self._algorithms = frozenset({"sha256", *algorithms}) & DIGEST_LENGTHS.keys()
        self._hashers = _new_hashers(self._algorithms)
        self._executor = executor
        self._fd = -1
        self._inode: tuple[int, int] | None = None
        """Device and inode of the file that holds `kept`; None: no file is ours."""
        self._lost = False
        """Writing has failed: what arrives now has no place any more, until all starts over."""
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._writing: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- before the body -----------------------------------------------------------------------------

    async def recall(self) -> None:
        """Take over what an earlier flight left: read its sidecar, hash its bytes again."""
        await in_thread(self._executor, self._recall_now)

    async def start_over(self) -> None:
        """Forget every byte."""
        await self.settle()
        await in_thread(self._executor, self._discard_now)

    def begin(self, validator: Validator | None) -> None:
        """A body begins that continues at `kept`. A None validator: the rest can never be asked for."""
        self.validator = validator if validator is not None and validator.if_range else None
        self.resumed = self.kept > 0

    # -- the body ------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes in order. Call `ready` before the next `feed`."""
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size >= BATCH:
            self._submit()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LATEST, self._late)

    async def ready(self) -> None:
        """Wait until no more than one batch is being written and less than one is waiting.

        Raises:
            PkgcError: ``disk-full``, ``cache-write-failed``.
            TransferError: ``download-disturbed``: somebody has changed the file; start over.
        """
        while self._writing is not None and (self._writing.done() or self._waiting_size >= BATCH):
            await self._written()
            if self._waiting_size >= BATCH:
                self._submit()

    async def finish(self) -> frozenset[Digest]:
        """The body is complete: write the rest, close the file, and return its digests.

        Raises:
            PkgcError, TransferError: as `ready`.
        """
        self._stop_timer()
        await self._written()
        data, self._waiting, self._waiting_size = self._waiting, [], 0
        await in_thread(self._executor, self._finish_now, data)
        return self.digests()

    async def settle(self) -> None:
        """Write what has arrived and close the file; it may be gone on with. Does not raise."""
        self._stop_timer()
        try:
            await self._written()
            data, self._waiting, self._waiting_size = self._waiting, [], 0
            if data:
                await in_thread(self._executor, self._write_now, data)
        except (PkgcError, TransferError):
            # The disk is full or failing, and the bytes are lost; the transfer has failed in any case.
            self._waiting, self._waiting_size = [], 0
        await in_thread(self._executor, self._settle_now)

    def digests(self) -> frozenset[Digest]:
        """The digests of the bytes in `kept`."""
        return frozenset(Digest(name, hasher.hexdigest()) for name, hasher in self._hashers.items())

    def forget(self) -> None:
        """Remove the sidecar and what may be left of the file. Runs in a thread."""
        # What cannot be removed harms nobody: it is truncated at the next use, and swept when it is old.
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.sidecar.unlink(missing_ok=True)

    # -- batches -------------------------------------------------------------------------------------

    def _late(self) -> None:
        self._timer = None
        if self._waiting:
            if self._writing is None or self._writing.done():
                self._submit()
            else:
                self._timer = asyncio.get_running_loop().call_later(LATEST / 4, self._late)

    def _submit(self) -> None:
        """Hand the waiting bytes to a thread, unless it is still busy with the ones before."""
        last = self._writing
        if last is not None and (not last.done() or last.cancelled() or last.exception() is not None):
            return
        self._stop_timer()
        data, self._waiting, self._waiting_size = self._waiting, [], 0
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._executor, self._write_now, data)

    async def _written(self) -> None:
        writing = self._writing
        if writing is not None:
            # A cancelled waiter must not lose track of a thread that still writes.
            try:
                await asyncio.shield(writing)
            finally:
                if writing.done() and self._writing is writing:
                    self._writing = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- in a thread ---------------------------------------------------------------------------------

    def _write_now(self, data: list[bytes]) -> None:
        if self._lost:
            return
        try:
            if self._fd < 0:
                self._open_now(with_sidecar=True)
            self._append_now(data)
        except OSError as exc:
            raise self._give_up(exc) from exc

    def _finish_now(self, data: list[bytes]) -> None:
        try:
            if self._fd < 0:
                # The whole file came in one batch: no sidecar, it lives for a moment only.
                self._open_now(with_sidecar=False)
            self._append_now(data)
            self._check_now(os.stat(self.path, follow_symlinks=False), exact=True)
        except OSError as exc:
            raise self._give_up(exc) from exc
        finally:
            self._close_now()

    def _open_now(self, *, with_sidecar: bool) -> None:
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        if self.kept == 0:
            # Never a sidecar beside bytes of something else.
            self.forget()
            self._inode = (0, 0)
            flags |= os.O_CREAT | os.O_EXCL
        if with_sidecar and self.validator is not None:
            self._write_sidecar_now(self.validator)
        self._fd = os.open(self.path, flags, 0o600)
        status = os.fstat(self._fd)
        if self.kept == 0:
            self._inode = (status.st_dev, status.st_ino)
            return
        self._check_now(status, exact=False)
        # More than `kept` may be there: bytes that another process wrote or that were written half-way.
        os.ftruncate(self._fd, self.kept)
        os.lseek(self._fd, self.kept, os.SEEK_SET)

    def _check_now(self, status: os.stat_result, *, exact: bool) -> None:
        """The file must be the one that `kept` bytes went to; a hole must never be filled with zeros."""
        right_size = status.st_size == self.kept if exact else status.st_size >= self.kept
        if not right_size or (status.st_dev, status.st_ino) != self._inode:
            raise _Disturbed(f"expected: {self.kept} bytes\nfound: {status.st_size} bytes")

    def _give_up(self, exc: OSError) -> Exception:
        """Writing has failed: the error to raise. `settle` removes the bytes."""
        self.validator = None
        self._lost = True
        if isinstance(exc, _Disturbed) or (self.kept and isinstance(exc, FileNotFoundError)):
            error = PkgcError(
                "download-disturbed",
                f"somebody has changed {self.path} during the download",
                context=str(exc),
                hint="Only the daemon may write to its cache. Try again.",
            )
            return TransferError(Kind.SERVER, error)
        # To free the space is worth more than to keep the bytes.
        return for_disk(exc, self.path)

    def _write_sidecar_now(self, validator: Validator) -> None:
        self.noted = True
        record = {"url": self._url, **validator._asdict()}
        temporary = self.sidecar.with_suffix(".json.new")
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(self.sidecar)

    def _append_now(self, data: list[bytes]) -> None:
        views = [memoryview(piece) for piece in data]
        while views:
            # At once: each call lets go of the GIL, and has to wait for it afterwards.
            written = os.writev(self._fd, views[:_PIECES])
            self.kept += written
            while written:
                done, views[0] = views[0][:written], views[0][written:]
                for hasher in self._hashers.values():
                    hasher.update(done)
                written -= len(done)
                if not views[0]:
                    del views[0]
        if self.follower is not None:
            self.follower.grown(self.kept)

    def _close_now(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _settle_now(self) -> None:
        self._close_now()
        if self.validator is None or self.kept == 0:
            self._discard_now()

    def drop_follower(self) -> None:
        """Whoever follows the file need not any more."""
        follower, self.follower = self.follower, None
        if follower is not None:
            follower.dropped()

    def _discard_now(self) -> None:
        self._close_now()
        self.drop_follower()
        if self._inode is not None:
            self.forget()
        self._inode = None
        self._lost = False
        self.kept = 0
        self.validator = None
        self.resumed = False
        self._hashers = _new_hashers(self._algorithms)

    def _recall_now(self) -> None:
        self.noted = True
        # Whatever is there is left over, and nobody else's.
        self._inode = (0, 0)
        try:
            record = json.loads(self.sidecar.read_bytes())
            texts = (record["etag"], record["last_modified"])
            validator = Validator(*texts, record["total"], record.get("answered_by"))
            good = record["url"] == self._url and _is_sound(validator)
        except FileNotFoundError:
            # Nothing was left, or a daemon was killed before the sidecar was written.
            self._discard_now()
            return
        except (OSError, ValueError, KeyError, TypeError):
            good = False
        if not good:
            self._discard_now()
            return
        try:
            with self.path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                self._inode = (status.st_dev, status.st_ino)
                while block := stream.read(_REHASH_BLOCK):
                    for hasher in self._hashers.values():
                        hasher.update(block)
                    self.kept += len(block)
        except OSError:
            self._discard_now()
            return
        self.validator = validator
        if validator.total is not None and self.kept > validator.total:
            self._discard_now()


async def in_thread(executor: Executor, function: Callable[..., T], *args: object) -> T:
    """Run `function` in `executor`; when cancelled, wait for its end first.

    A thread cannot be stopped, and whoever uses the file next must not meet it: the work is short.
    """
    future = asyncio.get_running_loop().run_in_executor(executor, function, *args)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise


def hash_file(path: Path, algorithms: Iterable[str]) -> frozenset[Digest]:
    """Digests of a file; for a thread."""
    hashers = _new_hashers(frozenset(algorithms) & DIGEST_LENGTHS.keys())
    with path.open("rb") as stream:
        while block := stream.read(_REHASH_BLOCK):
            for hasher in hashers.values():
                hasher.update(block)
    return frozenset(Digest(name, hasher.hexdigest()) for name, hasher in hashers.items())


def take_stock(incoming: Path, stale_after: float) -> set[str]:
    """Names of the partial files that may be gone on with; removes stale ones and orphans."""
    found: set[str] = set()
    try:
        incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.scandir(incoming) as entries:
            names = {entry.name: entry.stat(follow_symlinks=False).st_mtime for entry in entries}
        oldest = time.time() - stale_after
        for name, changed in names.items():
            stem, _, suffix = name.partition(".")
            whole = f"{stem}.part" in names and f"{stem}.json" in names
            if suffix == "part" and whole and changed >= oldest:
                found.add(name)
            elif suffix in {"part", "json.new"} or (suffix == "json" and not whole):
                (incoming / name).unlink(missing_ok=True)
                (incoming / f"{stem}.json").unlink(missing_ok=True)
    except OSError as exc:
        raise for_disk(exc, incoming) from exc
    return found


def _new_hashers(algorithms: frozenset[str]) -> dict[str, hashlib._Hash]:
    # usedforsecurity: md5 and sha1 guard against corruption where an index gives nothing better.
    return {name: hashlib.new(name, usedforsecurity=False) for name in sorted(algorithms)}


def _is_sound(validator: Validator) -> bool:
    return (
        all(
            isinstance(v, str | None)
            for v in (validator.etag, validator.last_modified, validator.answered_by)
        )
        and (validator.total is None or (type(validator.total) is int and validator.total >= 0))
        and validator.if_range is not None
    )
