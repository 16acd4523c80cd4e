"""Ready copies as the installer sees them: a folder to take over, and the note that says what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pkgc_daemon.store.copying import NOTE
from pkgc_daemon.vocabulary import FileEntry, Manifest


class ReadyCopy(NamedTuple):
    """One ready copy (`store.ready`), which belongs to the change that has it."""

    path: str
    files: int
    links: tuple[FileEntry, ...]
    """Files that it shares with the tree: compared before they are used."""
    lines: str
    """RECORD's lines of its files; '' when `complete`."""
    records: Mapping[str, bytes]
    """Files of .dist-info that an installer writes, as they are in it."""
    complete: bool
    """RECORD is in it too, and right if `records` are what is to be written."""

    @property
    def written(self) -> list[str]:
        """What of .dist-info has to go before other records are written."""
        return [*self.records, "RECORD"] if self.complete else list(self.records)


def read_note(item: Mapping[str, Any]) -> tuple[Manifest, ReadyCopy] | None:
    """The manifest without what is copied, and the copy; None when there is no such copy any more.

    Args:
        item: of `apply_plan`'s ``add``; its ``ready`` is the path.
    """
    import msgpack

    path: str = item["ready"]
    try:
        with open(path + NOTE, "rb") as file:
            note = msgpack.unpackb(file.read(), unicode_errors="surrogateescape", use_list=False)
        others = tuple(FileEntry(*entry) for entry in note["others"])
        copy = ReadyCopy(
            path,
            note["files"],
            tuple(FileEntry(*entry) for entry in note["links"]),
            note["lines"],
            note["records"],
            not note["lines"],
        )
        manifest = Manifest(
            item["sha256"],
            note["filename"],
            note["name"],
            note["version"],
            note["dist_info"],
            note["data_dir"],
            note["root_is_purelib"],
            others,
            note["console_scripts"],
            note["gui_scripts"],
            note["requires_python"],
            note["newer"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest, copy
