"""Additions: what a change adds, read from the wire of `apply_plan`, and the records that go with it."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping
from typing import Any

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.installing.compiled import read_bytecode
from pkgc_daemon.installing.ready import ReadyCopy, from_note
from pkgc_daemon.store.compiled import BytecodeError, Compiled
from pkgc_daemon.vocabulary import Manifest

INSTALLER = b"pkgc\n"


class TreeDamagedError(Exception):
    """A tree does not match its manifest; internal to this stage, the store heals it."""

    def __init__(self, sha256: str, path: str, detail: str, *, bytecode: bool = False) -> None:
        super().__init__(f"{path}: {detail}")
        self.sha256 = sha256
        self.path = path
        self.detail = detail
        self.bytecode = bytecode
        """It is its bytecode in the store, not the tree."""


class Addition:
    """One distribution to add: the wire map of `apply_plan` with its manifest read.

    With a ready copy, `manifest.files` has only what is not in that.
    """

    __slots__ = (
        "bytecode",
        "bytecode_path",
        "direct_url",
        "manifest",
        "manifest_path",
        "name",
        "provenance",
        "ready",
        "records",
        "requested",
        "tree",
        "version",
    )

    def __init__(
        self,
        item: Mapping[str, Any],
        manifest: Manifest,
        ready: ReadyCopy | None = None,
        bytecode: Compiled | None = None,
    ) -> None:
        self.ready = ready
        self.bytecode = bytecode
        self.bytecode_path: str = item.get("bytecode") or ""
        self.manifest_path: str = item["manifest"]
        self.name: str = item["name"]
        self.version: str = item["version"]
        self.tree: str = item["tree"]
        self.manifest = manifest
        self.provenance: Mapping[str, Any] | None = item.get("provenance")
        self.direct_url: Mapping[str, Any] | None = item.get("direct_url")
        self.requested = bool(item.get("requested"))
        self.records: Mapping[str, bytes] | None = item.get("records")

    @property
    def is_compiled(self) -> bool:
        """Whether it comes with all the bytecode that it can have."""
        if self.ready is not None and self.ready.bytecode is not None:
            return self.ready.bytecode
        return self.bytecode is not None and self.bytecode.whole

    def whole_manifest(self) -> Manifest:
        """The manifest with every file.

        Raises:
            TreeDamagedError: it cannot be read.
        """
        from pkgc_daemon.archives.manifest import manifest_from_bytes

        try:
            with open(self.manifest_path, "rb") as file:
                return manifest_from_bytes(file.read())
        except (OSError, PkgcError, ValueError) as error:
            raise TreeDamagedError(self.manifest.sha256, self.manifest_path, str(error)) from error

    def without_ready(self) -> None:
        """Install it from its tree.

        Raises:
            TreeDamagedError: the manifest cannot be read.
        """
        self.manifest = self.whole_manifest()
        self.ready = None

    def lines_of_ready(self, *, records: bool) -> list[str]:
        """RECORD's lines of what is in the ready copy.

        Args:
            records: those of the files that an installer adds too.

        Raises:
            TreeDamagedError: the manifest cannot be read.
        """
        from pkgc_daemon.store.copying import all_lines

        assert self.ready is not None
        if records:
            return self.ready.lines.splitlines(keepends=True)
        return all_lines(self.whole_manifest())


def record_files(item: Addition) -> Mapping[str, bytes]:
    """What an installer adds to .dist-info, except RECORD (D4, D5, PEP 710)."""
    if item.records is not None:
        return item.records
    return records_of(item.provenance, item.direct_url, requested=item.requested)


def records_of(
    provenance: Mapping[str, Any] | None, direct_url: Mapping[str, Any] | None, *, requested: bool
) -> dict[str, bytes]:
    """The same of the parts; also for ready copies, which have these files ahead of time."""
    files: dict[str, bytes] = {"INSTALLER": INSTALLER}
    if direct_url is not None:
        files["direct_url.json"] = json.dumps(direct_url, sort_keys=True).encode()
    elif provenance is not None:
        files["provenance_url.json"] = json.dumps(provenance, sort_keys=True).encode()
    if requested:
        files["REQUESTED"] = b""
    return files


def read_additions(
    items: list[dict[str, Any]], read: Callable[[bytes], Manifest]
) -> tuple[list[Addition], TreeDamagedError | None]:
    """The additions in normalized-name order, or the first whose manifest cannot be read."""
    found: list[Addition] = []
    for item in sorted(items, key=lambda item: str(item["name"])):
        if item.get("ready"):
            try:
                found.append(Addition(item, *from_note(item), read_bytecode(item, None)))
            except BytecodeError as error:
                return found, TreeDamagedError(item["sha256"], item["bytecode"], str(error), bytecode=True)
            continue
        try:
            with open(item["manifest"], "rb") as file:
                data = file.read()
            manifest = read(data)
        except FileNotFoundError:
            return found, TreeDamagedError(item["sha256"], item["manifest"], "is gone")
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise
            return found, TreeDamagedError(item["sha256"], item["manifest"], str(error))
        except (PkgcError, ValueError, TypeError, KeyError, IndexError) as error:
            return found, TreeDamagedError(item["sha256"], item["manifest"], f"cannot be read: {error}")
        try:
            found.append(Addition(item, manifest, bytecode=read_bytecode(item, data)))
        except BytecodeError as error:
            return found, TreeDamagedError(item["sha256"], item["bytecode"], str(error), bytecode=True)
    return found, None
