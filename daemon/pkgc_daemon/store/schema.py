"""The schema of the catalog: its migrations, and how many rows its tables may have. SQL only, no policy."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store.layout import is_sha256

_LOG = logging.getLogger(__name__)

#: Each step brings the schema one version further; `user_version` counts the steps done.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE artifacts (sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL, filename TEXT NOT NULL, boot TEXT NOT NULL, synced INTEGER NOT NULL,
        added REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE aliases (algorithm TEXT NOT NULL, hex TEXT NOT NULL, sha256 TEXT NOT NULL,
        PRIMARY KEY (algorithm, hex)) WITHOUT ROWID;
    CREATE TABLE trees (sha256 TEXT PRIMARY KEY, filename TEXT NOT NULL, name TEXT NOT NULL,
        version TEXT NOT NULL, files INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL, boot TEXT NOT NULL, synced INTEGER NOT NULL, added REAL NOT NULL,
        used REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE origins (sha256 TEXT NOT NULL, kind TEXT NOT NULL, url TEXT NOT NULL, page TEXT NOT NULL,
        filename TEXT NOT NULL, PRIMARY KEY (sha256, kind, url, page, filename)) WITHOUT ROWID;
    CREATE TABLE files (algorithm TEXT NOT NULL, hex TEXT NOT NULL, filename TEXT NOT NULL,
        page TEXT NOT NULL, project TEXT NOT NULL, seen REAL NOT NULL,
        PRIMARY KEY (algorithm, hex)) WITHOUT ROWID;
    CREATE INDEX files_seen ON files (seen);
    CREATE TABLE interpreters (key TEXT PRIMARY KEY, data BLOB NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
    """,
    # What one source says of a digest is not what another says.
    """
    DROP INDEX files_seen;
    ALTER TABLE files RENAME TO files_of_1;
    CREATE TABLE files (algorithm TEXT NOT NULL, hex TEXT NOT NULL, filename TEXT NOT NULL,
        page TEXT NOT NULL, project TEXT NOT NULL, seen REAL NOT NULL,
        PRIMARY KEY (algorithm, hex, page, filename)) WITHOUT ROWID;
    INSERT INTO files SELECT * FROM files_of_1;
    DROP TABLE files_of_1;
    CREATE INDEX files_seen ON files (seen);
    """,
    # Direct references: what their URLs held, what was built of sources, and who asked for what.
    """
    CREATE TABLE urls (key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, etag TEXT, last_modified TEXT,
        checked REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX urls_sha256 ON urls (sha256);
    CREATE INDEX urls_checked ON urls (checked);
    CREATE TABLE builds (key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, filename TEXT NOT NULL,
        note TEXT NOT NULL, added REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX builds_sha256 ON builds (sha256);
    CREATE INDEX builds_used ON builds (used);
    CREATE TABLE requests (venv TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
        sha256 TEXT NOT NULL, place TEXT NOT NULL, text TEXT NOT NULL, kind TEXT NOT NULL,
        url TEXT NOT NULL, page TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (venv, name)) WITHOUT ROWID;
    CREATE INDEX requests_at ON requests (at);
    """,
    # Requests held the lines of locks as they were written, credentials in them too. And what a wheel was
    # built of is no place where it was offered.
    """
    DELETE FROM requests;
    CREATE TABLE sources (sha256 TEXT NOT NULL, kind TEXT NOT NULL, url TEXT NOT NULL, page TEXT NOT NULL,
        filename TEXT NOT NULL, PRIMARY KEY (sha256, kind, url, page, filename)) WITHOUT ROWID;
    INSERT INTO sources SELECT * FROM origins
        WHERE kind IN ('directory', 'vcs') OR sha256 IN (SELECT sha256 FROM builds);
    DELETE FROM origins WHERE kind IN ('directory', 'vcs') OR sha256 IN (SELECT sha256 FROM builds);
    """,
    # Validators belong to the URL that answered, which need not be the one that was asked.
    """
    ALTER TABLE urls ADD COLUMN answered_by TEXT;
    """,
)
#: Schemas whose rows held secrets: nothing of them may stay in the file.
_SECRETS_IN = frozenset({3})

#: Table -> (column of age, rows that may be there).
_BOUNDS = {
    "files": ("seen", 300_000),
    "interpreters": ("used", 1_000),
    "urls": ("checked", 10_000),
    "builds": ("used", 10_000),
    "requests": ("at", 100_000),
}


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema of the database at `path` up to date.

    Raises:
        PkgcError: ``catalog-too-new``.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise PkgcError(
            "catalog-too-new",
            f"The catalog {path} was written by a newer pkgc",
            context=f"expected schema {len(MIGRATIONS)} or older\nfound schema {version}",
            hint="Upgrade pkgc, or choose another cache folder with PKGC_CACHE_DIR.",
        )
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN;{script};PRAGMA user_version = {number};COMMIT;")
    if version in _SECRETS_IN:
        try:
            # Rows that are deleted stay readable in the pages that were theirs.
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            _LOG.warning("the catalog could not be rewritten without its old rows: %s", error)


def trim(connection: sqlite3.Connection, *tables: str) -> None:
    """Drop the oldest rows of `tables` (default: of all that are bounded) beyond their bound."""
    for table in tables or _BOUNDS:
        column, bound = _BOUNDS[table]
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        if count > bound:
            # The age of the last one that may stay. Rows of one age go together: those of one call.
            oldest = f"SELECT {column} FROM {table} ORDER BY {column} DESC LIMIT 1 OFFSET ?"  # noqa: S608
            connection.execute(f"DELETE FROM {table} WHERE {column} <= ({oldest})", (bound,))  # noqa: S608


def check_texts(sha256: object, *texts: object) -> None:
    """Raise ValueError for a row that nobody wrote: a page that was overwritten may be a database still."""
    if not isinstance(sha256, str) or not is_sha256(sha256) or not all(isinstance(one, str) for one in texts):
        raise ValueError(f"a row that nobody wrote: {sha256!r}")


def check_numbers(*numbers: object) -> None:
    """The same for numbers."""
    if not all(isinstance(one, int | float) for one in numbers):
        raise ValueError("a row that nobody wrote: text for a number")


def is_damage(error: sqlite3.OperationalError) -> bool:
    """Whether the schema is not the one that this code made (a lost page), rather than the disk at fault."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
