"""Ready copies as the installer sees them: folders to take over, and what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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
    own: tuple[tuple[str, int, int], ...]
    """(path, size, mtime_ns) of what has to be compared because nobody watched it."""

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
