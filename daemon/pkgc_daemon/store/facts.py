"""Facts that no file of the store can tell: what URLs held, what was built of which source, and who asked for
what in which environment.  Rows of the catalog, the recently used ones mirrored in memory; losing them costs
a request, a build or an answer of `pkgc why`, never a wrong one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

from pkgc_daemon.fetching.urlmemory import UrlState
from pkgc_daemon.store.layout import is_sha256
from pkgc_daemon.store.schema import trim
from pkgc_daemon.vocabulary import Origin, OriginKind

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Job = Callable[[sqlite3.Connection], Any]

#: Kinds of origins that a row may name.
ORIGIN_KINDS = frozenset(get_args(OriginKind))
#: Rows (of requests: environments) in memory; writes after which a table is looked at for old rows.
_MIRRORED, _ENVIRONMENTS, _TRIM_AFTER = 2_000, 256, 256


@dataclass(frozen=True, slots=True)
class BuildRow:
    """A wheel that was built, and what its builder wrote down about it."""

    sha256: str
    filename: str
    note: dict[str, Any]
    """Whatever JSON can hold."""


@dataclass(frozen=True, slots=True)
class Request:
    """Why a distribution is in an environment: the line of a lock that asked for it, and its origin."""

    version: str
    sha256: str
    """Of the wheel; '' when nobody knows."""
    place: str
    """FILE:LINE as the user named it, or ''."""
    text: str
    """The requirement as written."""
    origin: Origin | None
    at: float
    """Unix seconds."""


class _Mirror(Generic[K, T]):
    """The rows that were used last. A None says that there is no such row."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: OrderedDict[K, T | None] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._rows

    def get(self, key: K) -> T | None:
        self._rows.move_to_end(key)
        return self._rows[key]

    def put(self, key: K, row: T | None) -> None:
        self._rows[key] = row
        self._rows.move_to_end(key)
        if len(self._rows) > self._limit:
            self._rows.popitem(last=False)

    def forget(self, is_gone: Callable[[T], bool]) -> None:
        for key, row in self._rows.items():
            if row is not None and is_gone(row):
                self._rows[key] = None


class Facts:
    """The tables `urls`, `builds` and `requests`. For the event loop's thread; nothing here blocks.

    Args:
        ask: runs a job in the thread of the catalog, after everything that was posted before it.
        post: queues a job for that thread.
    """

    def __init__(self, ask: Callable[[Job], Future[Any]], post: Callable[[Job], None]) -> None:
        self._ask = ask
        self._post = post
        self._urls: _Mirror[str, UrlState] = _Mirror(_MIRRORED)
        self._builds: _Mirror[str, BuildRow] = _Mirror(_MIRRORED)
        self._requests: _Mirror[str, dict[str, Request]] = _Mirror(_ENVIRONMENTS)
        self._writes = {"urls": 0, "builds": 0, "requests": 0}

    # -- urls ----------------------------------------------------------------------------------------

    async def url(self, key: str) -> UrlState | None:
        """What `put_url` kept."""
        sql = "SELECT sha256, etag, last_modified, checked, answered_by FROM urls WHERE key = ?"
        return await self._recall(self._urls, key, sql, _url_of)

    def put_url(self, key: str, state: UrlState) -> None:
        """Keep what a URL holds."""
        self._urls.put(key, state)
        etag, changed, by = map(_optional, (state.etag, state.last_modified, state.answered_by))
        row = (_text(key), state.sha256, etag, changed, state.checked, by)
        self._write("urls", lambda db: db.execute("INSERT OR REPLACE INTO urls VALUES (?,?,?,?,?,?)", row))

    # -- builds --------------------------------------------------------------------------------------

    async def build(self, key: str) -> BuildRow | None:
        """What `put_build` kept; its time of use becomes now."""
        sql = "SELECT sha256, filename, note FROM builds WHERE key = ?"
        found = await self._recall(self._builds, key, sql, _build_of)
        if found is not None:
            row = (time.time(), _text(key))
            self._post(lambda db: db.execute("UPDATE builds SET used = ? WHERE key = ?", row))
        return found

    async def build_of(self, sha256: str) -> BuildRow | None:
        """The row of a wheel that was built here, the one used last; None: it was not."""
        sql = "SELECT sha256, filename, note FROM builds WHERE sha256 = ? ORDER BY used DESC LIMIT 1"
        row = await asyncio.wrap_future(self._ask(lambda db: db.execute(sql, (sha256,)).fetchone()))
        return None if row is None else _build_of(row)

    def put_build(self, key: str, build: BuildRow) -> None:
        """Keep what was built under a key."""
        now = time.time()
        note = json.dumps(build.note)
        self._builds.put(key, dataclasses.replace(build, note=json.loads(note)))
        row = (_text(key), build.sha256, _text(build.filename), note, now, now)
        self._write(
            "builds", lambda db: db.execute("INSERT OR REPLACE INTO builds VALUES (?,?,?,?,?,?)", row)
        )

    def drop_build(self, key: str) -> None:
        """Forget a build."""
        self._builds.put(key, None)
        self._post(lambda db: db.execute("DELETE FROM builds WHERE key = ?", (_text(key),)))

    def forget(self, sha256: str) -> None:
        """Neither bytes nor tree of this digest are there any more: forget the rows that lead to it."""
        self._urls.forget(lambda row: row.sha256 == sha256)
        self._builds.forget(lambda row: row.sha256 == sha256)
        self._post(lambda db: _delete(db, sha256))

    def forget_orphans(self) -> None:
        """Forget rows that lead to what is not in the catalog (after a start)."""
        there = "SELECT sha256 FROM artifacts UNION SELECT sha256 FROM trees"
        for table in ("urls", "builds"):
            sql = f"DELETE FROM {table} WHERE sha256 <> '' AND sha256 NOT IN ({there})"  # noqa: S608
            self._post(lambda db, sql=sql: db.execute(sql))  # type: ignore[misc]

    # -- requests ------------------------------------------------------------------------------------

    async def requests(self, venv: str) -> Mapping[str, Request]:
        """What `put_requests` kept of an environment, by name; empty when nothing is known."""
        if venv in self._requests:
            return self._requests.get(venv) or {}
        sql = (
            "SELECT name, version, sha256, place, text, kind, url, page, at FROM requests"
            " WHERE venv = ? ORDER BY name"
        )
        rows = await asyncio.wrap_future(self._ask(lambda db: db.execute(sql, (_text(venv),)).fetchall()))
        if venv not in self._requests:
            self._requests.put(venv, {name: request for row in rows for name, request in _request_of(row)})
        return self._requests.get(venv) or {}

    async def put_requests(self, venv: str, requests: Mapping[str, Request]) -> None:
        """Keep these in place of all earlier ones of an environment; that only times differ is no reason."""
        if _timeless(await self.requests(venv)) == _timeless(requests):
            return
        self._requests.put(venv, dict(requests))
        place = _text(venv)
        rows = [_request_row(place, name, request) for name, request in requests.items()]

        def replace(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM requests WHERE venv = ?", (place,))
            connection.executemany("INSERT INTO requests VALUES (?,?,?,?,?,?,?,?,?,?)", rows)

        self._write("requests", replace)

    # -- both ----------------------------------------------------------------------------------------

    async def _recall(
        self, mirror: _Mirror[str, T], key: str, sql: str, make: Callable[[Any], T | None]
    ) -> T | None:
        if key not in mirror:
            row = await asyncio.wrap_future(self._ask(lambda db: db.execute(sql, (_text(key),)).fetchone()))
            if key not in mirror:  # nobody wrote it meanwhile
                mirror.put(key, None if row is None else make(row))
        return mirror.get(key)

    def _write(self, table: str, job: Job) -> None:
        self._post(job)
        self._writes[table] += 1
        if self._writes[table] % _TRIM_AFTER == 0:
            self._post(lambda db: trim(db, table))


def _delete(connection: sqlite3.Connection, sha256: str) -> None:
    connection.execute("DELETE FROM urls WHERE sha256 = ?", (sha256,))
    connection.execute("DELETE FROM builds WHERE sha256 = ?", (sha256,))


# A page of the database that was overwritten may hold rows that nobody wrote: they are no rows.


def _url_of(row: Any) -> UrlState | None:
    sha256, etag, last_modified, checked, answered_by = row
    texts = all(one is None or isinstance(one, str) for one in (etag, last_modified, answered_by))
    if sha256 != "" and not (isinstance(sha256, str) and is_sha256(sha256)):
        return None
    if not texts or not isinstance(checked, float):
        return None
    return UrlState(sha256, etag, last_modified, checked, answered_by)


def _build_of(row: Any) -> BuildRow | None:
    sha256, filename, note = row
    if not all(isinstance(one, str) for one in row) or not is_sha256(sha256):
        return None
    try:
        told = json.loads(note)
    except (ValueError, RecursionError):
        return None
    return BuildRow(sha256, filename, told) if isinstance(told, dict) else None


def _request_of(row: Any) -> list[tuple[str, Request]]:
    *texts, at = row
    if not all(isinstance(one, str) for one in texts) or not isinstance(at, float):
        return []
    name, version, sha256, place, text, kind, url, page = texts
    origin = Origin(kind, url, page or None) if kind in ORIGIN_KINDS else None
    return [(name, Request(version, sha256, place, text, origin, at))]


def _request_row(venv: str, name: str, request: Request) -> tuple[str | float, ...]:
    origin = request.origin
    told = (origin.kind, origin.url, origin.index or "") if origin is not None else ("", "", "")
    texts = (name, request.version, request.sha256, request.place, request.text, *told)
    return (venv, *map(_text, texts), request.at)


def _timeless(requests: Mapping[str, Request]) -> dict[str, Request]:
    return {name: dataclasses.replace(request, at=0.0) for name, request in requests.items()}


def _text(text: str) -> str:
    """`text` as SQLite can hold it: file names may have lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _optional(text: str | None) -> str | None:
    return None if text is None else _text(text)
