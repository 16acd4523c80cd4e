"""Scans of watched environments: while nothing happened to one, its last answer is right.

Only a process that lives on gains by it (`use_watcher`); elsewhere every scan looks (`scan`). What may not be
trusted is not watched: an environment that is being changed, was just changed, lacks folders, or lies where
others can change it unseen.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from pkgc_daemon.vocabulary import Installed

from . import scan
from .watching import Watcher

#: Environments that are watched at once.
MAX_WATCHED = 64

Place = tuple[str, str, str, str]


class _Known(NamedTuple):
    """The answer of a scan that a watch vouches for, and what it means."""

    answer: dict[str, Any]
    installed: tuple[Installed, ...]


_watcher: Watcher | None = None
_known: OrderedDict[Place, _Known] = OrderedDict()
_lock = threading.Lock()


def use_watcher(watcher: Watcher | None) -> None:
    """Have scans of this process rely on `watcher`, or on none."""
    global _watcher
    with _lock:
        _watcher = watcher
        _known.clear()


def scan_environment(args: dict[str, Any]) -> dict[str, Any]:
    """See `scan.scan_environment`; the answer may be one that was given before, and must not be changed.

    Raises:
        PkgcError: as there.
    """
    watcher = _watcher
    if watcher is not None and _known:
        place = _place(args)
        with _lock:
            known = _known.get(place)
        if known is not None:
            if watcher.quiet(place):
                return known.answer
            with _lock:
                if _known.get(place) is known:
                    del _known[place]
    return scan.scan_environment(args)


def installed_from_wire(data: Mapping[str, Any]) -> tuple[Installed, ...]:
    """See `scan.installed_from_wire`; made once of an answer that is given again.

    Raises:
        PkgcError: as there.
    """
    with _lock:
        for known in _known.values():
            if known.answer is data:
                return known.installed
    return scan.installed_from_wire(data)


def is_watched(args: Mapping[str, Any]) -> bool:
    """Whether the last scan with these arguments found a watch that vouches for its answer."""
    with _lock:
        return _place(args) in _known


def watched_count() -> int:
    """How many environments had one when they were scanned last."""
    return len(_known)


def watch_environment(args: dict[str, Any]) -> bool:
    """Watch an environment that was scanned before.

    The watch is set first, and only then everything is looked at once more: what happened before shows in
    what is seen, and what happens later shows in the watch.

    Args:
        args: those of the scan.

    Returns:
        Whether it is watched now.

    Raises:
        PkgcError: it cannot be scanned any more.
    """
    watcher = _watcher
    if watcher is None:
        return False
    place = prefix, purelib, platlib, scripts = _place(args)
    with _lock:
        _known.pop(place, None)
    places = (prefix, scripts, purelib, platlib)
    for _ in range(
        2
    ):  # what is remembered of it may be old, or too new to be sure of: then the look renews it
        before = _dependencies(place)
        if before is not None and not watcher.arm(place, *before, places):
            return False
        answer = scan.scan_environment(args)
        if before is None or _dependencies(place) != before or not watcher.quiet(place):
            continue
        if answer["leftover"]:
            return False
        known = _Known(answer, scan.installed_from_wire(answer))
        with _lock:
            _known[place] = known
            while len(_known) > MAX_WATCHED:
                _known.popitem(last=False)
        return True
    return False


def _dependencies(place: Place) -> tuple[set[str], set[str]] | None:
    """See `scan.dependencies`; with the folders between those and the prefix.

    One of those that is renamed takes away everything below it.
    """
    found = scan.dependencies(*place)
    if found is not None:
        folders, prefix = found[0], place[0]
        for folder in tuple(folders):
            while folder.startswith(prefix + "/"):
                folder = os.path.dirname(folder)
                if folder in folders:
                    break
                folders.add(folder)
    return found


def _place(args: Mapping[str, Any]) -> Place:
    prefix: str = args["prefix"]
    return prefix, args["purelib"], args["platlib"], args.get("scripts") or os.path.join(prefix, "bin")
