"""Local folders and find-links: flat lists of files in directories and pages, and `file:` indexes.

Reading the disk happens in one function, `read_local`, which is shaped like a hand (design.md 3): a map in, a
map out, so that it may run wherever the caller's files are.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.selection.filenames import SDIST_ENDINGS
from pkgc_daemon.selection.pages import MAX_HTML_BYTES, ProjectPage, parse_page
from pkgc_daemon.vocabulary import JSON

#: args of `read_local` -> its result, wherever it runs.
ReadFolder = Callable[[JSON], Awaitable[JSON]]


def read_local(args: JSON) -> JSON:
    """List a folder, or read a local page (blocking).

    Args:
        args: ``path``: absolute; ``page``: of a folder with an index.html, read that instead of listing it;
            ``stamp``: a stamp of an earlier result; ``look``: only say whether it is there.

    Returns:
        ``kind``: "missing"; "there" (for `look`); "same" (nothing changed since `stamp`); "folder" with
        ``files``: [name, size]…, sorted; "page" with ``data``. The latter two with ``stamp``.

    Raises:
        PkgcError: ``find-links-unreadable``.
    """
    path = args["path"]
    try:
        status = os.stat(path)
        if args.get("look"):
            return {"kind": "there"}
        if stat.S_ISDIR(status.st_mode):
            index = os.path.join(path, "index.html")
            if not args.get("page") or not os.path.isfile(index):
                return _list_folder(path, status, args.get("stamp"))
            path, status = index, os.stat(index)
        stamp = [status.st_ino, status.st_mtime_ns, status.st_size]
        if stamp == args.get("stamp"):
            return {"kind": "same"}
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_HTML_BYTES:
            raise PkgcError(
                "find-links-unreadable",
                f"{path} is neither a folder nor an HTML page",
                context=f"expected: a folder, or a file of at most {MAX_HTML_BYTES} bytes",
            )
        return {"kind": "page", "data": Path(path).read_bytes(), "stamp": stamp}
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return {"kind": "missing"}
        raise PkgcError(
            "find-links-unreadable",
            f"{path} cannot be read: {error.strerror}",
            hint="check the permissions, or leave this find-links location out",
        ) from error


def _list_folder(path: str, status: os.stat_result, known: Any) -> JSON:
    stamp = [status.st_ino, status.st_mtime_ns, 0]
    if stamp == known:
        return {"kind": "same"}
    files = []
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.endswith((".whl", *SDIST_ENDINGS)):
                continue
            try:
                if entry.is_file():
                    files.append([entry.name, entry.stat().st_size])
            except OSError:
                continue  # a dangling link, or a file that has just gone
    return {"kind": "folder", "files": sorted(files), "stamp": stamp}


async def read_folder_in_thread(args: JSON) -> JSON:
    """`read_local` in this process, off the event loop."""
    return await asyncio.to_thread(read_local, args)


def local_path(location: str) -> str | None:
    """The path that a find-links location or a ``file:`` URL names; None for other URLs.

    Raises:
        PkgcError: ``find-links-unreadable``: a ``file:`` URL of another host (RFC 8089).
    """
    if not location.startswith("file:"):
        return None if "://" in location else location
    parts = urlsplit(location)
    if parts.netloc not in ("", "localhost"):
        raise PkgcError(
            "find-links-unreadable",
            f"{location} names a file on another host",
            hint="write file:///path for a local path",
        )
    return unquote(parts.path) or "/"


def file_url(path: str) -> str:
    """The ``file:`` URL of an absolute path (RFC 8089)."""
    return "file://" + quote(os.fsencode(path), safe="/~")


async def read_local_project(url: str, read_folder: ReadFolder) -> ProjectPage | None:
    """A project's page in a ``file:`` index: the folder's index.html, else the files in it.

    Args:
        url: of the project's folder.
        read_folder: reads it.

    Returns:
        None when the index has no such folder.

    Raises:
        PkgcError: ``index-unreadable``: the index itself is not there, which says nothing of the project;
            ``find-links-unreadable``, ``index-garbage``.
    """
    path = local_path(url)
    assert path is not None
    result = await read_folder({"path": path, "page": True})
    if result["kind"] != "missing":
        return await asyncio.to_thread(_to_page, result, path)
    root = os.path.dirname(path.rstrip("/"))
    if (await read_folder({"path": root, "look": True}))["kind"] == "missing":
        raise PkgcError(
            "index-unreadable",
            f"the index {redact(url.rstrip('/').rpartition('/')[0])} cannot be read: "
            f"the directory {root} does not exist",
            context="expected: a directory with one folder for each project (PEP 503)\nfound: nothing",
            hint="correct the path or the URL of the index (-i/--index-url), or leave it out",
        )
    return None


def _to_page(result: JSON, path: str) -> ProjectPage | None:
    if result["kind"] == "missing":
        return None
    if result["kind"] == "page":
        return parse_page(result["data"], "text/html", file_url(path.rstrip("/")) + _slash(path))
    base = file_url(path.rstrip("/"))
    return ProjectPage(
        f"{base}/",
        [
            {"filename": name, "url": f"{base}/{quote(os.fsencode(name))}", "size": size}
            for name, size in result["files"]
        ],
    )


def _split(result: JSON, path: str) -> dict[str, ProjectPage]:
    page = _to_page(result, path)
    return {} if page is None else page.by_project()


def _slash(path: str) -> str:
    # Relative links of folder/index.html are relative to the folder, those of a page to its parent.
    return "/" if path.endswith("/") else ""


class FlatLists:
    """Local find-links locations, each read again only when it has changed.

    Args:
        read_folder: reads them.
    """

    def __init__(self, read_folder: ReadFolder) -> None:
        self._read_folder = read_folder
        self._known: dict[str, tuple[Any, dict[str, ProjectPage]]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def files(self, path: str, project: str) -> ProjectPage | None:
        """The files of `project` (normalized) in the folder or page at `path`; None if there are none.

        Raises:
            PkgcError: ``find-links-unreadable``, ``index-garbage``.
        """
        async with self._locks.setdefault(path, asyncio.Lock()):
            stamp, projects = self._known.get(path, (None, {}))
            result = await self._read_folder({"path": path, "stamp": stamp})
            if result["kind"] == "missing":
                raise PkgcError(
                    "find-links-unreadable",
                    f"the find-links location {path} does not exist",
                    hint="create it, or leave it out",
                )
            if result["kind"] != "same":
                projects = await asyncio.to_thread(_split, result, path)
                if len(self._known) > 100:
                    self._known.clear()
                self._known[path] = (result["stamp"], projects)
        return projects.get(project)
