"""The catalog: SQLite with one writer thread, and a mirror in memory that answers without I/O.

Only facts are here, not policy: which artifacts and trees there are, under which other digests, where
they came from.  Losing the file loses no bytes: `artifacts` and `trees` adopt what lies on the disk.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.selection.filenames import cut_filename, normalize, parse_wheel
from pkgc_daemon.store.facts import ORIGIN_KINDS, Facts
from pkgc_daemon.store.filesystem import make_private
from pkgc_daemon.store.rows import ArtifactRow, TreeRow
from pkgc_daemon.store.schema import check_numbers, check_texts, is_damage, migrate, trim
from pkgc_daemon.vocabulary import Digest, Origin

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
Job = Callable[[sqlite3.Connection], Any]

#: Sources whose word on one digest is remembered, and names of one source: two already disagree.
_SOURCES_OF_A_FILE, _NAMES_OF_A_SOURCE = 16, 2
#: Seconds that rows wait for others to be written with.
_GATHER = 0.05


class Catalog:
    """Rows of the store. Reading is dictionary access; writing updates memory and queues the row.

    Args:
        path: the database file; a corrupt one is moved aside and begun anew.
        wal: whether the filesystem can do write-ahead logging.

    Raises:
        PkgcError: ``catalog-too-new`` for a schema of a newer pkgc, ``store-io`` when it cannot be opened.
    """

    def __init__(self, path: Path, *, wal: bool = True) -> None:
        self.artifacts: dict[str, ArtifactRow] = {}
        self.trees: dict[str, TreeRow] = {}
        self.aliases: dict[Digest, str] = {}
        self.digests: dict[str, set[Digest]] = {}
        """The reverse of `aliases`."""
        self.claimed: dict[Digest, str] = {}
        """What sidecars say of adopted artifacts: it tells what to verify, and is never believed."""
        self.origins: dict[str, set[tuple[Origin, str]]] = {}
        """Where bytes were offered, and under which file name."""
        self.sources: dict[str, set[tuple[Origin, str]]] = {}
        """Of wheels that were built here: what of, and their file name."""
        self._files: dict[tuple[str, bytes], tuple[tuple[str, str], ...]] = {}
        """Digest -> (source, file name), sources in the order in which they were heard."""
        self._named: dict[str, set[str]] = {}
        """File name -> digests of bytes that ever had it."""
        self._names: dict[str, set[str]] = {}
        """Normalized project -> its file names in `_named`."""
        self.facts = Facts(self.ask, self.post)
        self.generation = 0
        """Changes with everything that decides what the store has for a digest or a name."""
        self.write_error: str | None = None
        self.rebuilt = False
        self._path = path
        self._wal = wal
        self._jobs: queue.SimpleQueue[tuple[Job, Future[Any] | None] | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        """Somebody waits for the writer thread."""
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, args=(ready,), name="pkgc-catalog", daemon=True)
        self._thread.start()
        ready.result()

    # -- reading ---------------------------------------------------------------------------------------

    def known_filename(self, digest: Digest, sources: frozenset[str] | None = None) -> str | None:
        """The file name of `digest`, on which all agree who count; else None (`selection.ports.KnownFiles`).

        The name under which the bytes were checked (their tree's, else the artifact's) counts always: no
        page can change it, and it survives a lost catalog.
        """
        sha256 = digest.hex if digest.algorithm == "sha256" else self.aliases.get(digest, "")
        said = self._files.get((digest.algorithm, bytes.fromhex(digest.hex)), ())
        names = {filename for page, filename in said if sources is None or page in sources}
        row = self.trees.get(sha256) or self.artifacts.get(sha256)
        if row is not None and row.filename:
            names.add(row.filename)
        if len({parse_wheel(filename) or filename for filename in names} if len(names) > 1 else names) != 1:
            return None
        return min(names)

    def ask(self, job: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run `job` in the writer thread (after everything queued before it)."""
        future: Future[T] = Future()
        self._jobs.put((job, future))
        self._hurry.set()
        return future

    def named(self, filename: str) -> list[ArtifactRow]:
        """The artifacts that had this file name somewhere."""
        return [self.artifacts[one] for one in self._named.get(filename, ()) if one in self.artifacts]

    def names_of(self, project: str) -> frozenset[str]:
        """The file names that bytes of a project (normalized) ever had."""
        return frozenset(self._names.get(project, ()))

    def _name(self, filename: str, sha256: str) -> None:
        if filename not in self._named and (pieces := cut_filename(filename)) is not None:
            self._names.setdefault(normalize(pieces.project), set()).add(filename)
        self._named.setdefault(filename, set()).add(sha256)

    # -- writing ---------------------------------------------------------------------------------------

    def post(self, job: Job) -> None:
        """Queue `job` for the writer thread; nobody waits for it, and its failure is logged."""
        self._jobs.put((job, None))

    def put_artifact(self, row: ArtifactRow, digests: Iterable[Digest]) -> None:
        """Add or replace an artifact, and the other digests under which it was verified."""
        self.generation += 1
        self.artifacts[row.sha256] = row
        self._name(row.filename, row.sha256)
        values = (
            row.sha256,
            row.size,
            row.mtime_ns,
            row.inode,
            row.filename,
            row.boot,
            row.synced,
            row.added,
            row.used,
        )
        self._post("INSERT OR REPLACE INTO artifacts VALUES (?,?,?,?,?,?,?,?,?)", [values])
        others = [digest for digest in digests if digest.algorithm != "sha256"]
        for digest in others:
            self.aliases[digest] = row.sha256
            self.digests.setdefault(row.sha256, set()).add(digest)
        aliases = [(digest.algorithm, digest.hex, row.sha256) for digest in others]
        self._post("INSERT OR REPLACE INTO aliases VALUES (?,?,?)", aliases)

    def drop_artifact(self, sha256: str) -> None:
        """Forget an artifact; its aliases stay with its tree, its origins always (true of the digest)."""
        self.generation += 1
        if self.artifacts.pop(sha256, None) is not None:
            self._post("DELETE FROM artifacts WHERE sha256 = ?", [(sha256,)])
            self._drop_aliases(sha256)

    def _drop_aliases(self, sha256: str) -> None:
        if sha256 in self.artifacts or sha256 in self.trees:
            return
        self.facts.forget(sha256)
        for digest in self.digests.pop(sha256, ()):
            self.aliases.pop(digest, None)
        self._post("DELETE FROM aliases WHERE sha256 = ?", [(sha256,)])

    def put_tree(self, row: TreeRow) -> None:
        """Add or replace a tree."""
        self.generation += 1
        self.trees[row.sha256] = row
        values = (
            row.sha256,
            row.filename,
            row.name,
            row.version,
            row.files,
            row.size,
            row.mtime_ns,
            row.inode,
            row.boot,
            row.synced,
            row.added,
            row.used,
        )
        self._post("INSERT OR REPLACE INTO trees VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", [values])

    def drop_tree(self, sha256: str) -> None:
        """Forget a tree, and the aliases of its bytes unless the artifact is there."""
        self.generation += 1
        if self.trees.pop(sha256, None) is not None:
            self._post("DELETE FROM trees WHERE sha256 = ?", [(sha256,)])
            self._drop_aliases(sha256)

    def put_origin(self, sha256: str, origin: Origin, filename: str) -> None:
        """Remember where bytes came from, and under which file name.

        What only the download told gives way to what the one who wanted it says.
        """
        known = self.origins.setdefault(sha256, set())
        if (origin, filename) not in known:
            self.generation += 1
            known.add((origin, filename))
            self._name(filename, sha256)
            for lesser in [one for one in known if is_bare(one[0]) and not is_bare(origin)]:
                known.discard(lesser)
                gone = (sha256, lesser[0].kind, lesser[0].url, lesser[1])
                sql = "DELETE FROM origins WHERE sha256 = ? AND kind = ? AND url = ? AND filename = ?"
                self._post(f"{sql} AND page = ''", [gone])
            values = (sha256, origin.kind, origin.url, origin.index or "", filename)
            self._post("INSERT OR IGNORE INTO origins VALUES (?,?,?,?,?)", [values])

    def put_source(self, sha256: str, source: Origin, filename: str) -> None:
        """Remember of what a wheel was built here: no place from which anybody else can have it."""
        known = self.sources.setdefault(sha256, set())
        if (source, filename) not in known:
            self.generation += 1
            known.add((source, filename))
            values = (sha256, source.kind, source.url, source.index or "", filename)
            self._post("INSERT OR IGNORE INTO sources VALUES (?,?,?,?,?)", [values])

    def put_files(self, page: str, project: str, files: Iterable[tuple[Digest, str]]) -> None:
        """Remember file names that `page`, an index or a find-links location, gives to digests now."""
        page, now = sys.intern(page), time.time()
        given: dict[Digest, list[str]] = {}
        for digest, filename in files:
            names = given.setdefault(digest, [])
            if filename not in names and len(names) < _NAMES_OF_A_SOURCE:
                names.append(filename)
        stale, fresh = [], []
        for digest, names in given.items():
            key = (digest.algorithm, bytes.fromhex(digest.hex))
            known = self._files.get(key, ())
            if sorted(names) == sorted(filename for source, filename in known if source == page):
                continue
            self.generation += 1
            sources = list(dict.fromkeys(source for source, _ in known if source != page))
            kept = sources[-_SOURCES_OF_A_FILE + 1 :]
            self._files[key] = (
                *(one for one in known if one[0] in kept),
                *((page, filename) for filename in names),
            )
            dropped = [page, *sources[: len(sources) - len(kept)]]
            stale += [(digest.algorithm, digest.hex, source) for source in dropped]
            fresh += [(digest.algorithm, digest.hex, filename, page, project, now) for filename in names]
        self._post("DELETE FROM files WHERE algorithm = ? AND hex = ? AND page = ?", stale)
        self._post("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?)", fresh)

    def put_interpreter(self, key: str, data: bytes) -> None:
        """Remember what a probe told."""
        self._post("INSERT OR REPLACE INTO interpreters VALUES (?,?,?)", [(key, data, time.time())])

    def mark_synced(self, artifacts: Iterable[str], trees: Iterable[str]) -> None:
        """These are on the disk for certain."""
        for table, names in (("artifacts", list(artifacts)), ("trees", list(trees))):
            rows: dict[str, Any] = self.artifacts if table == "artifacts" else self.trees
            for sha256 in names:
                if sha256 in rows:
                    rows[sha256].synced = True
            self._post(f"UPDATE {table} SET synced = 1 WHERE sha256 = ?", [(sha256,) for sha256 in names])  # noqa: S608

    def save_use(self) -> None:
        """Write the times of last use that memory holds."""
        artifacts = [(row.used, row.sha256) for row in self.artifacts.values()]
        trees = [(row.used, row.sha256) for row in self.trees.values()]
        self._post("UPDATE artifacts SET used = ?1 WHERE sha256 = ?2 AND used < ?1", artifacts)
        self._post("UPDATE trees SET used = ?1 WHERE sha256 = ?2 AND used < ?1", trees)

    def close(self) -> None:
        """Write everything that is queued and end the thread. Blocks; doing it twice is fine."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._hurry.set()
            self._thread.join()

    def _post(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            self.post(lambda connection: connection.executemany(sql, rows))

    # -- the writer thread -----------------------------------------------------------------------------

    def _main(self, ready: Future[None]) -> None:
        try:
            connection = self._open()
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        try:
            while (first := self._jobs.get()) is not None:
                if first[1] is None:
                    # What nobody waits for comes in bursts: one transaction, and one wake-up, for each.
                    self._hurry.wait(_GATHER)
                self._hurry.clear()
                if not self._transaction(connection, first):
                    break
        finally:
            connection.close()

    def _transaction(self, connection: sqlite3.Connection, first: tuple[Job, Future[Any] | None]) -> bool:
        """Run `first` and all that is queued behind it in one transaction; False: time to end."""
        answers: list[tuple[Future[Any], Any]] = []
        item: tuple[Job, Future[Any] | None] | None = first
        more = True
        try:
            connection.execute("BEGIN")
            while True:
                assert item is not None
                job, future = item
                if future is None or future.set_running_or_notify_cancel():
                    try:
                        result = job(connection)
                    except sqlite3.OperationalError as error:
                        if future is None:
                            raise
                        future.set_exception(self._translate(error))
                    except Exception as error:
                        # One row that cannot be written (a lone surrogate, say) is no reason to lose others.
                        if future is not None:
                            future.set_exception(error)
                        else:
                            _LOG.warning("a row could not be written to the catalog: %s", error)
                    else:
                        if future is not None:
                            answers.append((future, result))
                try:
                    item = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    more = False
                    break
            connection.execute("COMMIT")
            self.write_error = None
        except sqlite3.Error as error:
            # Memory stays right, and the files can be adopted at the next start: say it and go on.
            self.write_error = str(error)
            _LOG.warning("the catalog could not be written: %s", error)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        for future, result in answers:
            future.set_result(result)
        return more

    def _open(self) -> sqlite3.Connection:
        try:
            connection = self._connect()
            try:
                return self._load(connection)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            if isinstance(error, sqlite3.OperationalError) and not is_damage(error):
                raise self._translate(error) from error
            _LOG.warning("the catalog is damaged (%s); it is rebuilt from the files", error)
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        mirrors = (self.artifacts, self.trees, self.aliases, self.digests, self.origins, self.sources)
        for mirror in (*mirrors, self._files, self._named, self._names):
            mirror.clear()
        try:
            return self._connect()
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _connect(self) -> sqlite3.Connection:
        self.rebuilt = not self._path.exists()
        # For nobody else to read: it says what was installed where. Its journals get the same mode.
        make_private(self._path, ("-wal", "-shm"))
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA journal_mode = {'WAL' if self._wal else 'TRUNCATE'}")
            connection.execute("PRAGMA synchronous = NORMAL")
            migrate(connection, self._path)
            trim(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _load(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        # A page that was overwritten may still be a database, with rows that nobody wrote.
        for row in connection.execute("SELECT * FROM artifacts"):
            artifact = self.artifacts[row[0]] = ArtifactRow(*row)
            check_texts(artifact.sha256, artifact.filename, artifact.boot)
            self._name(artifact.filename, artifact.sha256)
            check_numbers(artifact.size, artifact.mtime_ns, artifact.inode, artifact.added, artifact.used)
        for row in connection.execute("SELECT * FROM trees"):
            tree = self.trees[row[0]] = TreeRow(*row)
            check_texts(tree.sha256, tree.filename, tree.name, tree.version, tree.boot)
            check_numbers(tree.files, tree.size, tree.mtime_ns, tree.inode, tree.added, tree.used)
        for algorithm, value, sha256 in connection.execute("SELECT * FROM aliases"):
            self.aliases[Digest(algorithm, value)] = sha256
            self.digests.setdefault(sha256, set()).add(Digest(algorithm, value))
        for table, known in (("origins", self.origins), ("sources", self.sources)):
            for sha256, kind, url, page, filename in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608
                if kind not in ORIGIN_KINDS:
                    raise ValueError(f"a row that nobody wrote: the origin {kind!r}")
                self._name(filename, sha256)
                known.setdefault(sha256, set()).add((Origin(kind, url, page or None), filename))
        said = "SELECT algorithm, hex, page, filename FROM files ORDER BY algorithm, hex, seen"
        for algorithm, value, page, filename in connection.execute(said):
            key = (algorithm, bytes.fromhex(value))
            self._files[key] = (*self._files.get(key, ()), (sys.intern(page), filename))
        return connection

    def _translate(self, error: sqlite3.Error) -> PkgcError:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        return PkgcError(
            "disk-full" if full else "store-io",
            f"The catalog {self._path} cannot be used",
            context=f"expected a database\nfound {error}",
            hint="Free some space." if full else "Check the disk and the permissions of the cache folder.",
        )


def is_bare(origin: Origin) -> bool:
    """Whether an origin is no more than the URL that a download had: nobody has said what it is."""
    return origin.kind in ("index", "find-links") and origin.index is None
