"""Index pages on disk: one file each, replaced whole; losing one is never an error."""

from __future__ import annotations

import logging
import os
import struct

import msgpack

from pkgc_daemon.selection.ports import CachedPage
from pkgc_daemon.store.filesystem import make_folder, write_atomically
from pkgc_daemon.store.layout import Layout

_LOG = logging.getLogger(__name__)
_MAGIC = b"pkgc-page-1\n"
_HEAD = struct.Struct("<I")


def names(layout: Layout) -> set[str]:
    """The names of all files that pages are saved in."""
    found: set[str] = set()
    try:
        for folder in os.scandir(layout.pages):
            if folder.is_dir(follow_symlinks=False):
                found.update(entry.name for entry in os.scandir(folder))
    except OSError as error:
        _LOG.warning("the cached index pages cannot be listed: %s", error)
    return found


def load(layout: Layout, key: str) -> CachedPage | None:
    """The page saved under `key`; None when there is none or it is damaged."""
    try:
        raw = layout.page(key).read_bytes()
    except OSError:
        return None
    try:
        if not raw.startswith(_MAGIC):
            raise ValueError("another format")
        (length,) = _HEAD.unpack_from(raw, len(_MAGIC))
        start = len(_MAGIC) + _HEAD.size
        head = msgpack.unpackb(raw[start : start + length])
        body = raw[start + length :]
        if head["key"] != key or head["length"] != len(body):
            raise ValueError("another page, or a part of one")
        return CachedPage(
            key,
            head["url"],
            head["etag"],
            head["last_modified"],
            head["fresh_until"],
            head["type"],
            body,
            head.get("answered_by", ""),  # of pages saved earlier nobody knows: they are asked for plainly
        )
    except (ValueError, KeyError, TypeError, struct.error, msgpack.UnpackException) as error:
        _LOG.info("a cached index page is damaged and is fetched again: %s", error)
        return None


def save(layout: Layout, page: CachedPage) -> None:
    """Keep `page`; a failure to do so is logged, not raised."""
    head = msgpack.packb(
        {
            "key": page.key,
            "url": page.url,
            "etag": page.etag,
            "last_modified": page.last_modified,
            "fresh_until": page.fresh_until,
            "type": page.content_type,
            "answered_by": page.answered_by,
            "length": len(page.body),
        }
    )
    path = layout.page(page.key)
    try:
        make_folder(path.parent, 0o700)
        write_atomically(path, _MAGIC + _HEAD.pack(len(head)) + head + page.body, layout.temporary, 0o600)
    except OSError as error:
        _LOG.warning("an index page could not be cached: %s", error)


def drop(layout: Layout, key: str) -> None:
    """Forget the page saved under `key`; a failure to do so is logged, not raised."""
    try:
        layout.page(key).unlink(missing_ok=True)
    except OSError as error:
        _LOG.warning("a withdrawn index page could not be removed from the cache: %s", error)


def touch(layout: Layout, key: str, fresh_until: float) -> None:
    """Renew the freshness of the page saved under `key`, if it is there."""
    page = load(layout, key)
    if page is not None and page.fresh_until != fresh_until:
        save(layout, page._replace(fresh_until=fresh_until))
