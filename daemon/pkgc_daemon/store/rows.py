"""Rows of the catalog for what lies on the disk: plain data; children make them without a database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ArtifactRow:
    """What is known of an artifact: its bytes' signature on disk and how certain they are."""

    sha256: str
    size: int
    mtime_ns: int
    inode: int
    filename: str
    boot: str
    synced: bool
    added: float
    used: float


@dataclass(slots=True)
class TreeRow:
    """What is known of a tree; `mtime_ns` and `inode` are those of its root folder."""

    sha256: str
    filename: str
    name: str
    version: str
    files: int
    size: int
    mtime_ns: int
    inode: int
    boot: str
    synced: bool
    added: float
    used: float
