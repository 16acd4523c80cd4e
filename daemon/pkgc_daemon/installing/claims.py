"""Claims: where the files of installed distributions lie, folder by folder, so that few RECORDs are parsed.

Whether a distribution that stays owns a file of one that leaves is told by its RECORD. Most have no folder in
common with it; what folders a RECORD names is remembered as long as the file is the same.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from pkgc_daemon.environments.files import NotRegularError, read_regular
from pkgc_daemon.environments.records import MAX_RECORD
from pkgc_daemon.installing.layout import Layout

#: Distributions that are remembered.
_REMEMBERED = 4_000
#: Nanoseconds for which a file that was just written may change without its time telling.
_SETTLED = 2_000_000_000

Stamp = tuple[int, int, int, int]


class _Known(NamedTuple):
    stamp: Stamp
    claims: frozenset[str] | None


_known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
_lock = threading.Lock()


def claims_of(layout: Layout, paths: Iterable[str]) -> frozenset[str]:
    """Folders of `paths` (relative to the prefix); in folders which all distributions share, the paths."""
    shared = {*layout.sites, layout.scripts}
    found = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        found.add(path if folder in shared else folder)
    return frozenset(found)


def may_own(layout: Layout, dist_info: str, about: frozenset[str]) -> bool:
    """Whether a distribution may own a file of which `claims_of` gives one of `about`.

    Args:
        dist_info: relative to the prefix.
    """
    place = os.path.join(layout.prefix, dist_info)
    try:
        found = os.stat(f"{place}/RECORD")
    except OSError:
        return True  # an older kind of distribution, or none that can be read: let others find out
    stamp = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
    key = (place, layout.scripts)
    with _lock:
        known = _known.get(key)
    if known is None or known.stamp != stamp:
        known = _Known(stamp, _read(layout, dist_info))
        if time.time_ns() - max(stamp[:2]) > _SETTLED:
            with _lock:
                _known[key] = known
                while len(_known) > _REMEMBERED:
                    _known.popitem(last=False)
    return known.claims is None or not known.claims.isdisjoint(about)


def _read(layout: Layout, dist_info: str) -> frozenset[str] | None:
    """The claims of a RECORD; None when it has to be parsed to know them."""
    try:
        data = read_regular(f"{layout.prefix}/{dist_info}/RECORD", MAX_RECORD)
    except (OSError, NotRegularError):
        return None
    text = data.decode("utf-8", "surrogateescape")
    if '"' in text or "//" in text or "\r" in text:
        return None
    site = os.path.dirname(dist_info)
    start = f"{site}/" if site else ""
    depth = site.count("/") + 1 if site else 0
    back = "../" * depth
    paths = set()
    for line in text.split("\n"):
        path = line.partition(",")[0]
        if path.startswith("../") and depth and path.startswith(back) and "/." not in path[len(back) :]:
            path = path[len(back) :]
        elif path[:1] in (".", "/") or "/." in path:
            return None
        else:
            path = start + path
        if path.startswith("."):
            return None
        paths.add(path)
    return claims_of(layout, paths)
