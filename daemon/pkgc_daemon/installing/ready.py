"""Ready copies as the installer sees them: folders to take over, what is in them, when they are not right."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any, NamedTuple

from pkgc_daemon.store.copying import Evidence, is_as_it_was
from pkgc_daemon.vocabulary import FileEntry, Manifest


class ReadyCopy(NamedTuple):
    """One ready copy (`store.ready`), which belongs to the change that has it."""

    path: str
    files: int
    links: tuple[tuple[Any, ...], ...]
    """Fields of the `FileEntry`s that it shares with the tree: compared before they are used."""
    lines: str
    """RECORD's lines of its files, `records` among them, sorted; '' when `complete`."""
    records: Mapping[str, bytes]
    """Files of .dist-info that an installer writes, as they are in it."""
    complete: bool
    """RECORD is in it too, and right if `records` are what is to be written."""
    tops: Mapping[str, tuple[tuple[str, bool], ...]]
    """Of `site` and `data`: the names to move, and whether each is a folder."""
    bytecode: bool | None
    """None: there is no bytecode in it; else whether nothing of it is left to compile."""
    own: tuple[Evidence, ...]
    """All that is in it, where that has to be compared because nobody watched it."""

    @property
    def written(self) -> list[str]:
        """What of .dist-info has to go before other records are written."""
        return [*self.records, "RECORD"] if self.complete else list(self.records)


def from_note(item: Mapping[str, Any]) -> tuple[Manifest, ReadyCopy]:
    """The manifest without what is copied, and the copy.

    Args:
        item: of `apply_plan`'s ``add``; its ``ready`` is a map of ``path`` and ``note``.
    """
    path, note = item["ready"]["path"], item["ready"]["note"]
    copy = ReadyCopy(
        path,
        note["files"],
        note["links"],
        note["lines"],
        note["records"],
        note["complete"],
        note["tops"],
        note["bytecode"],
        note["own"],
    )
    manifest = Manifest(
        item["sha256"],
        note["filename"],
        note["name"],
        note["version"],
        note["dist_info"],
        note["data_dir"],
        note["root_is_purelib"],
        tuple(FileEntry(*entry) for entry in note["others"]),
        note["console_scripts"],
        note["gui_scripts"],
        note["requires_python"],
        note["newer"],
    )
    return manifest, copy


def is_unchanged(copy: ReadyCopy) -> bool:
    """Whether what nobody watched is as it was made."""
    changed = next((one[0] for one in copy.own if not is_as_it_was(copy.path, one)), None)
    if changed is None:
        return True
    import logging

    text = "the ready copy %s was changed by another program (%s) and is not used"
    logging.getLogger(__name__).warning(text, os.path.basename(copy.path), changed)
    return False


def inherits(folder: str) -> bool:
    """Whether what is made in a folder gets its group or an ACL: what is moved there would not."""
    if os.stat(folder).st_mode & stat.S_ISGID:
        return True
    try:
        os.getxattr(folder, "system.posix_acl_default")
    except (OSError, AttributeError):  # none, or there is no such thing on this file system or system
        return False
    return True


def leads_away(prefix: str, copy: str, folder: str) -> bool:
    """Whether a symlink stands in an environment where a copy has a folder, or one below it.

    Args:
        prefix: the environment.
        copy: what is laid out as that.
        folder: below both.
    """
    there = f"{prefix}/{folder}"
    if not os.path.lexists(there):
        return False
    if os.path.islink(there):
        return True
    with os.scandir(f"{copy}/{folder}") as entries:
        below = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return any(leads_away(prefix, copy, f"{folder}/{name}") for name in below)
