"""The facade of the store: what the rest of the daemon asks; answers from memory wherever it can.

`artifact`, `find`, `tree`, `has_tree`, `known_filename` and `lease` are for the event loop: dictionary
access and at most one stat.  Everything slower is a coroutine whose work happens in threads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from pkgc_daemon.archives.manifest import head_of
from pkgc_daemon.archives.wheel import same_version, translate_os_error, wheel_identity
from pkgc_daemon.environments.watching import LOCAL
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store import artifacts, pages, trees
from pkgc_daemon.store.bytecode import Bytecode
from pkgc_daemon.store.catalog import Catalog
from pkgc_daemon.store.digests import find_by_any
from pkgc_daemon.store.filesystem import (
    NETWORK,
    boot_id,
    can_reflink,
    filesystem_kind,
    remove_tree,
    sync_filesystem,
)
from pkgc_daemon.store.housekeeping import Housekeeping
from pkgc_daemon.store.lanes import Job
from pkgc_daemon.store.layout import Layout
from pkgc_daemon.store.lock import CacheLock
from pkgc_daemon.store.manifests import ManifestCache
from pkgc_daemon.store.outlays import Laying, Outlays
from pkgc_daemon.store.publishing import Publishing
from pkgc_daemon.store.ready import ReadyCopies
from pkgc_daemon.store.records import Records
from pkgc_daemon.store.rows import ArtifactRow, TreeRow
from pkgc_daemon.store.workers import ThreadWorkers, Workers
from pkgc_daemon.vocabulary import Artifact, Digest, Origin, Tree

_LOG = logging.getLogger(__name__)
#: Trees whose manifests, without their files, are kept in memory.
_HEADS = 5_000
#: Partial downloads that nobody resumed for this long are swept at start (seconds).
_INCOMING_AGE = 14 * 86_400


class Store(Publishing, Records, Housekeeping):
    """One cache folder, opened by its one daemon. Made by `open`; use from the loop's thread only."""

    def __init__(
        self,
        layout: Layout,
        lock: CacheLock,
        catalog: Catalog,
        workers: Workers,
        boot: str,
        filesystem: str,
        bytecode: Bytecode,
        *,
        reflinks: bool,
    ) -> None:
        self.layout = layout
        self.lock = lock
        self.catalog = catalog
        self.workers = workers
        self.filesystem = filesystem
        """Kind of the cache's filesystem, for `status`."""
        self._boot = boot
        self._leases: Counter[str] = Counter()
        self._to_be_built: dict[str, Origin] = {}
        self._offers = {}
        self._page_names = pages.names(layout)
        self._heads = ManifestCache(_HEADS)
        self._publishing: dict[str, asyncio.Task[Artifact]] = {}
        self._building: dict[str, asyncio.Task[Tree]] = {}
        self._checking: dict[tuple[str, str], asyncio.Task[bool]] = {}
        self._closed = False
        self.ready = ReadyCopies(layout, self.has_tree, bytecode.path, watched=filesystem in LOCAL)
        bytecode.on_compiled = self.ready.renew
        self.outlays = Outlays(layout, workers, self.ready.discard, self.files_of, reflinks=reflinks)
        self.bytecode = bytecode

    @classmethod
    async def open(
        cls,
        cache_dir: Path,
        *,
        workers: Workers | None = None,
        lock: CacheLock | None = None,
        shared: bool = False,
    ) -> Store:
        """Open (or create) the store in `cache_dir` and sweep what an earlier daemon left behind.

        Args:
            cache_dir: the cache folder.
            workers: where unpacking runs; default: threads.
            lock: the cache lock, when the caller took it already; the store releases it at `close`.
            shared: a cache for other uids to read: its root is 0755, not 0700.

        Raises:
            PkgcError: ``cache-locked``, ``cache-unusable``, ``catalog-too-new``, ``store-io``, ``disk-full``.
        """
        return await asyncio.to_thread(cls._open, cache_dir, workers, lock, shared)

    @classmethod
    def _open(cls, cache_dir: Path, workers: Workers | None, lock: CacheLock | None, shared: bool) -> Store:
        owned = lock if lock is not None else CacheLock(cache_dir, shared=shared)
        catalog: Catalog | None = None
        try:
            layout = Layout(cache_dir)
            layout.create(shared=shared)
            kind = filesystem_kind(cache_dir)
            catalog = Catalog(layout.catalog, wal=kind not in NETWORK)
            adopted = artifacts.adopt(layout, catalog, _LOG.warning) + trees.adopt(
                layout, catalog, _LOG.warning
            )
            if adopted:
                _LOG.warning(
                    "%d files without a catalog entry were adopted; they are verified before use", adopted
                )
            catalog.facts.forget_orphans()
            for path in [*layout.temporary.iterdir(), *layout.ready.iterdir()]:
                remove_tree(path)
            oldest = time.time() - _INCOMING_AGE
            for path in list(layout.incoming.iterdir()):
                if path.stat().st_mtime < oldest:
                    remove_tree(path)
            reflinks = can_reflink(layout.temporary)
            made = workers or ThreadWorkers()
            boot = boot_id()
            bytecode = Bytecode.open(layout, boot, catalog.trees.__contains__)
            return cls(layout, owned, catalog, made, boot, kind, bytecode, reflinks=reflinks)
        except BaseException as error:
            if catalog is not None:
                catalog.close()
            if lock is None:
                owned.release()
            if isinstance(error, OSError):
                raise translate_os_error(error, f"opening the cache {cache_dir}") from error
            raise

    async def close(self) -> None:
        """Finish running work, make everything durable, release the lock. Doing it twice is fine."""
        if self._closed:
            return
        self._closed = True
        running = [*self._publishing.values(), *self._building.values(), *self._checking.values()]
        await asyncio.gather(*running, return_exceptions=True)
        await self.bytecode.close()
        try:
            await self.checkpoint()
        finally:
            await asyncio.to_thread(self._release)

    def _release(self) -> None:
        self.ready.close()
        self.workers.close()
        self.catalog.close()
        self.lock.release()

    async def checkpoint(self) -> None:
        """Make everything that was published durable (one syncfs), and save times of last use.

        For idle moments: on a busy disk it may take seconds (off the loop). Cheap when nothing is new.
        """
        self.catalog.save_use()
        new_artifacts = [row.sha256 for row in self.catalog.artifacts.values() if self._is_new(row)]
        new_trees = [row.sha256 for row in self.catalog.trees.values() if self._is_new(row)]
        new_bytecode = self.bytecode.unsynced
        if not new_artifacts and not new_trees and not new_bytecode:
            return
        try:
            await asyncio.to_thread(sync_filesystem, self.layout.root)
        except OSError as error:
            _LOG.warning("the cache could not be synced; it is verified after the next boot: %s", error)
            return
        self.catalog.mark_synced(new_artifacts, new_trees)
        await asyncio.to_thread(self.bytecode.synced, new_bytecode)

    def _is_new(self, row: ArtifactRow | TreeRow) -> bool:
        return not row.synced and row.boot == self._boot

    # -- artifacts -------------------------------------------------------------------------------------

    @property
    def incoming(self) -> Path:
        """The folder for partial downloads, on the store's filesystem."""
        return self.layout.incoming

    def is_suspect(self, row: ArtifactRow | TreeRow) -> bool:
        """Whether a row must be verified before use: not synced, and written before the last boot."""
        return not row.synced and row.boot != self._boot

    def artifact(self, sha256: str) -> Artifact | None:
        """The artifact, if it is there and passes the cheap check (one stat). No I/O beyond that.

        None also for a suspect (see the table in `store`): `obtain_artifact` verifies it first.
        """
        row = self.catalog.artifacts.get(sha256)
        if row is None or self.is_suspect(row) or not artifacts.is_intact(self.layout.artifact(sha256), row):
            return None
        row.used = time.time()
        return self._artifact(row)

    def find(self, digest: Digest) -> Artifact | None:
        """The artifact with this digest of any algorithm; aliases are known only after verification (H11).

        Not a wheel that was only ever built here: nobody can have meant it by its digest (H10).
        """
        sha256 = self.sha256_of(digest)
        return None if sha256 is None else self.artifact(sha256)

    async def obtain_artifact(self, sha256: str) -> Artifact | None:
        """Like `artifact`, but what is suspect or fails the cheap check is re-hashed: kept or put away."""
        found = self.artifact(sha256)
        if found is not None or sha256 not in self.catalog.artifacts:
            return found
        await self.check_once("artifact", sha256, self._recheck_artifact)
        return self.artifact(sha256)

    async def settle(self, digests: Iterable[Digest]) -> None:
        """Verify what of these is suspect, so that `find` and `has_tree` know it, or know that it is bad.

        Costs a few look-ups when nothing is.
        """
        for digest in digests:
            sha256 = self._sha256_of(digest) or self.catalog.claimed.get(digest, "")
            artifact, tree = self.catalog.artifacts.get(sha256), self.catalog.trees.get(sha256)
            if artifact is not None and self.is_suspect(artifact):
                await self.obtain_artifact(sha256)
            if tree is not None and self.is_suspect(tree):
                await self.load_tree(sha256)

    async def held(self, sha256: str) -> Artifact | None:
        """See `fetching.urlmemory.UrlMemory`. Nothing of what was only ever built here."""
        if self.only_built(sha256):
            return None
        found = await self.obtain_artifact(sha256)
        if found is not None or await self.load_tree(sha256) is None:
            return found
        size = await asyncio.to_thread(artifacts.read_size, self.layout, sha256)
        return Artifact(sha256, size, self.layout.artifact(sha256), self.digests(sha256))

    async def find_by_any(self, digests: frozenset[Digest], filename: str) -> Artifact | None:
        """The stored bytes that have one of these digests, also one that nobody has computed for them yet.

        What is stored under this file name is hashed for it, off the loop, once for each algorithm; aliases
        are remembered (H11). md5 and the like find nothing.

        Args:
            digests: as a lock names them.
            filename: of the file that should have one.
        """
        return await find_by_any(self, digests, filename)

    async def _recheck_artifact(self, sha256: str) -> bool:
        row = self.catalog.artifacts[sha256]
        renewed = await self.workers.run(artifacts.recheck, self.layout, row, self._boot)
        if renewed is None:
            _LOG.warning("the artifact %s (%s) is damaged and is put away", row.filename, sha256)
            await self.damaged_artifact(sha256)
            return False
        if sha256 in self.catalog.artifacts:
            self.catalog.put_artifact(*renewed)
        return True

    async def damaged_artifact(self, sha256: str) -> None:
        """Forget an artifact and remove its file: it is fetched again when it is wanted."""
        if sha256 in self.catalog.artifacts:
            self.catalog.drop_artifact(sha256)
            await asyncio.to_thread(self.layout.artifact(sha256).unlink, True)
            await self._drop_sidecar(sha256)

    async def _drop_sidecar(self, sha256: str) -> None:
        """The sidecar also says where a tree came from: it goes with the last of the two."""
        if sha256 not in self.catalog.artifacts and sha256 not in self.catalog.trees:
            await asyncio.to_thread(self.layout.sidecar(sha256).unlink, True)

    def _artifact(self, row: ArtifactRow) -> Artifact:
        return artifacts.as_artifact(self.layout, row, self.catalog.digests.get(row.sha256, ()))

    # -- trees -----------------------------------------------------------------------------------------

    def manifest_path(self, sha256: str) -> Path:
        """Where the manifest's bytes of a tree lie (`archives.manifest`), for hands that install it."""
        return self.layout.manifest(sha256)

    def tree_root(self, sha256: str) -> Path:
        """Where the files of a tree lie."""
        return self.layout.tree_root(sha256)

    def has_tree(self, sha256: str) -> bool:
        """Whether a tree is there and passes the cheap check (one stat); see `load_tree` for its manifest."""
        row = self.catalog.trees.get(sha256)
        return row is not None and not self.is_suspect(row) and trees.is_intact(self.tree_root(sha256), row)

    def tree(self, sha256: str) -> Tree | None:
        """The tree, if it passes the cheap check (one stat) and its manifest is in memory.

        None does not mean that there is none: `load_tree` reads the manifest, and verifies suspects.
        """
        manifest = self._heads.get(sha256)
        if manifest is None or not self.has_tree(sha256):
            return None
        self.catalog.trees[sha256].used = time.time()
        return Tree(sha256, self.tree_root(sha256), manifest)

    async def load_tree(self, sha256: str) -> Tree | None:
        """The tree, if it is there and whole: reads its manifest, verifies it completely when suspect."""
        found = self.tree(sha256)
        if found is not None or sha256 not in self.catalog.trees:
            return found
        await self.check_once("tree", sha256, self._recheck_tree)
        return self.tree(sha256)

    async def _recheck_tree(self, sha256: str) -> bool:
        row = self.catalog.trees[sha256]
        if self.has_tree(sha256):
            try:
                read = partial(trees.read_manifest, self.layout, sha256, head=True)
                self._heads.keep(await asyncio.to_thread(read))
            except PkgcError as error:
                _LOG.warning("the tree of %s (%s) is put away: %s", row.filename, sha256, error.message)
                await self.damaged_tree(sha256)
                return False
            return True
        renewed = await self.workers.run(trees.recheck, self.layout, sha256, self._boot, row.used)
        if renewed is None:
            _LOG.warning("the tree of %s (%s) is damaged and is put away", row.filename, sha256)
            await self.damaged_tree(sha256)
            return False
        if sha256 in self.catalog.trees:
            self.catalog.put_tree(renewed[0])
            self._heads.keep(head_of(renewed[1]))
        return True

    async def ensure_tree(self, artifact: Artifact, filename: str, laying: Laying | None = None) -> Tree:
        """The tree of `artifact`, unpacked now if need be; at most one unpacking per digest at a time.

        Args:
            artifact: verified bytes.
            filename: the wheel's file name; project and version must be those of the bytes (W7).
            laying: made in the same go, if this call is the one that has it unpacked.

        Raises:
            PkgcError: ``bad-archive``, ``bad-wheel``, ``disk-full``, ``store-io``; ``artifact-damaged`` when
                the bytes on disk are not those of the digest any more (they were put away: fetch again).
        """
        sha256 = artifact.sha256
        found = self.tree(sha256) or await self.load_tree(sha256)
        if found is None:
            task = self._building.get(sha256)
            if task is None:
                task = asyncio.create_task(self._build(artifact, filename, laying), name=f"unpack {filename}")
                self._building[sha256] = task
                task.add_done_callback(lambda done: self._built(sha256, done))
            # A thread cannot be stopped, and what it makes is of use: a waiter that leaves only leaves.
            found = await asyncio.shield(task)
        if found.manifest.filename != filename:
            name, version = wheel_identity(filename)
            manifest = found.manifest
            if name != manifest.name or not same_version(version, manifest.version):
                raise PkgcError(
                    "bad-wheel",
                    f"{filename}: its bytes are those of another distribution",
                    context=f"expected {name} {version}\nfound {manifest.name} {manifest.version}"
                    f" (stored as {manifest.filename})",
                    hint="The index offers the wrong file under this name.",
                )
        return found

    def files_of(self, sha256: str) -> int:
        """How many files a tree has; 0: there is none."""
        row = self.catalog.trees.get(sha256)
        return 0 if row is None else row.files

    def _built(self, sha256: str, task: asyncio.Task[Tree]) -> None:
        self._building.pop(sha256, None)
        if not task.cancelled():
            task.exception()  # seen: every waiter may have left

    async def _build(self, artifact: Artifact, filename: str, laying: Laying | None) -> Tree:
        sha256 = artifact.sha256
        outlay = self.outlays.order(sha256, laying)
        job = Job(
            str(self.layout.root), str(artifact.path), filename, sha256, self._boot, artifact.size, outlay
        )
        try:
            row, manifest, note = await self.workers.unpack(job)
        except PkgcError as error:
            known = self.catalog.artifacts.get(sha256)
            if error.code not in ("bad-archive", "bad-wheel", "store-io") or known is None:
                raise
            if await self.check_once("artifact", sha256, self._recheck_artifact):
                raise
            raise PkgcError(
                "artifact-damaged",
                f"{filename} was damaged in the cache and is put away",
                context=f"expected sha256:{sha256}\nfound other bytes ({error.message})",
                hint="Run the command again: the file is fetched anew.",
            ) from error
        self.outlays.deliver(laying, outlay, note)
        self.catalog.put_tree(row)
        self._heads.keep(manifest)
        return Tree(sha256, self.tree_root(sha256), manifest)

    async def damaged_tree(self, sha256: str) -> None:
        """Put a tree away, so that the next `ensure_tree` unpacks it again."""
        self._heads.drop(sha256)
        self.ready.forget([sha256])
        # First: bytecode counts by the times of this tree's files, and another unpacking has others.
        await self.bytecode.drop(sha256)
        if sha256 in self.catalog.trees:
            self.catalog.drop_tree(sha256)
            await asyncio.to_thread(self._put_away, self.layout.tree(sha256))
            await self._drop_sidecar(sha256)

    def _put_away(self, path: Path) -> None:
        away = self.layout.draft()
        try:
            os.rename(path, away)
        except FileNotFoundError:
            return
        except OSError as error:
            raise translate_os_error(error, "putting away a tree") from error
        remove_tree(away)

    async def check_once(self, kind: str, sha256: str, check: Callable[[str], Any]) -> bool:
        """One full check per item at a time, however many ask."""
        task = self._checking.get((kind, sha256))
        if task is None:
            task = asyncio.ensure_future(check(sha256))
            self._checking[kind, sha256] = task
            task.add_done_callback(lambda _: self._checking.pop((kind, sha256), None))
        return await asyncio.shield(task)
