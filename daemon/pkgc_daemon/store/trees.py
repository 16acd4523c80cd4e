"""Trees on disk: building, cheap checks, full checks; a tree is a folder that is complete or not there.

Every function is synchronous and blocks (except `is_intact`, one stat); `store` runs them off the loop.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pkgc_daemon.archives.arriving import Arriving, Disagreement
from pkgc_daemon.archives.manifest import manifest_from_bytes, manifest_to_bytes
from pkgc_daemon.archives.wheel import translate_os_error, unpack_wheel
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store.filesystem import remove_tree, write_atomically
from pkgc_daemon.store.layout import Layout, is_sha256
from pkgc_daemon.store.rows import TreeRow
from pkgc_daemon.vocabulary import FileEntry, Manifest

if TYPE_CHECKING:
    from pkgc_daemon.store.catalog import Catalog

_CHUNK = 1 << 20


class Ahead:
    """A wheel that is unpacked while it arrives, into a draft, of which `build` makes a tree.

    Args:
        layout: the store's folders.
        incoming: the file that grows.
        total: bytes that it will have.

    Raises:
        OSError: it is not there, or the draft cannot be made.
    """

    def __init__(self, layout: Layout, incoming: Path, total: int) -> None:
        self.draft = _new_draft(layout)
        try:
            self.arriving = Arriving(str(incoming), total, str(self.draft / "root"))
        except BaseException:
            remove_tree(self.draft)
            raise

    def close(self) -> None:
        """Let go of everything; what `build` has published is not touched."""
        self.arriving.close()
        remove_tree(self.draft)


def _new_draft(layout: Layout) -> Path:
    draft = layout.draft()
    draft.mkdir(mode=0o755)
    draft.chmod(0o755)
    return draft


def build(
    layout: Layout, artifact: Path, filename: str, sha256: str, boot: str, ahead: Ahead | None = None
) -> tuple[TreeRow, Manifest]:
    """Unpack `artifact` and publish the tree; see the table in `store`. Leaves nothing behind on failure.

    Args:
        layout: the store's folders.
        artifact: verified bytes.
        filename: of the wheel.
        sha256: of those bytes.
        boot: id of this boot.
        ahead: what was unpacked while they arrived, if anything; it is used up.

    Raises:
        PkgcError: what `archives.wheel.unpack_wheel` raises; ``store-io`` or ``disk-full``.
    """
    if ahead is not None:
        try:
            return _build_ahead(layout, artifact, filename, sha256, boot, ahead)
        except (Disagreement, OSError):
            pass  # one reading of the whole decides, as it would have without
        finally:
            ahead.close()
    draft = layout.draft()
    try:
        try:
            draft.mkdir(mode=0o755)
            draft.chmod(0o755)
            manifest = unpack_wheel(str(artifact), filename, sha256, str(draft / "root"))
            return _publish(layout, draft, manifest, boot)
        except OSError as error:
            raise translate_os_error(error, f"unpacking {filename}") from error
    except BaseException:
        remove_tree(draft)
        raise


def _build_ahead(
    layout: Layout, artifact: Path, filename: str, sha256: str, boot: str, ahead: Ahead
) -> tuple[TreeRow, Manifest]:
    arriving = ahead.arriving
    if not arriving.is_of(str(artifact)):
        raise Disagreement("another file was unpacked")
    arriving.advance(os.stat(artifact).st_size)
    arriving.finish()
    try:
        manifest = unpack_wheel(str(artifact), filename, sha256, str(ahead.draft / "root"), arriving=arriving)
    except PkgcError as error:
        # Also what the archive does not allow: the same error comes again, from the reading that counts.
        raise Disagreement(error.message) from error
    return _publish(layout, ahead.draft, manifest, boot)


def _publish(layout: Layout, draft: Path, manifest: Manifest, boot: str) -> tuple[TreeRow, Manifest]:
    write_atomically(draft / "manifest", manifest_to_bytes(manifest), layout.temporary)
    target = layout.tree(manifest.sha256)
    if os.path.lexists(target):
        # Unknown to the catalog, or damaged: what stands there is not trusted.
        away = layout.draft()
        os.rename(target, away)
        os.rename(draft, target)
        remove_tree(away)
    else:
        os.rename(draft, target)
    return _row(layout, manifest, boot, time.time()), manifest


def is_intact(root: Path, row: TreeRow) -> bool:
    """The cheap check: the root folder is the one that was made, and nothing was put into or out of it."""
    try:
        status = os.stat(root, follow_symlinks=False)
    except OSError:
        return False
    return (status.st_ino, status.st_mtime_ns) == (row.inode, row.mtime_ns)


def read_manifest(layout: Layout, sha256: str, *, head: bool = False) -> Manifest:
    """The manifest beside a tree.

    Args:
        head: without its files, which are most of it.

    Raises:
        PkgcError: ``bad-manifest`` when it is missing, damaged or another's.
    """
    try:
        manifest = manifest_from_bytes(layout.manifest(sha256).read_bytes(), head=head)
    except OSError as error:
        raise PkgcError(
            "bad-manifest",
            f"The manifest of the tree {sha256} cannot be read",
            context=f"expected {layout.manifest(sha256)}\nfound {error.strerror}",
            hint="`pkgc cache verify` rebuilds it.",
        ) from error
    if manifest.sha256 != sha256:
        raise PkgcError(
            "bad-manifest",
            f"The manifest of the tree {sha256} is another's",
            context=f"expected {sha256}\nfound {manifest.sha256}",
            hint="`pkgc cache verify` rebuilds it.",
        )
    return manifest


def find_damage(root: Path, manifest: Manifest) -> str | None:
    """The full check: names, kinds, modes, sizes and hashes of every file. Says what is wrong, or None."""
    expected = {entry.path: entry for entry in manifest.files}
    try:
        for folder, folders, names in os.walk(root, onerror=_raise):
            for name in (*folders, *names):
                path = os.path.join(folder, name)
                relative = os.path.relpath(path, root)
                if os.path.islink(path):
                    return f"{relative} is a symbolic link"
                if name in names and relative not in expected:
                    return f"{relative} does not belong to it"
        for relative, entry in expected.items():
            problem = _file_damage(root / relative, entry)
            if problem is not None:
                return f"{relative} {problem}"
    except OSError as error:
        return f"{error.filename or root} cannot be read: {error.strerror}"
    return None


def _raise(error: OSError) -> None:
    raise error


def _file_damage(path: Path, entry: FileEntry) -> str | None:
    hasher = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if status.st_size != entry.size:
            return f"has {status.st_size} bytes, not {entry.size}"
        if stat.S_IMODE(status.st_mode) != (0o555 if entry.executable else 0o444):
            return f"has mode {stat.S_IMODE(status.st_mode):o}"
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    if hasher.hexdigest() != entry.sha256:
        return f"has sha256 {hasher.hexdigest()}, not {entry.sha256}"
    return None


def recheck(layout: Layout, sha256: str, boot: str, used: float) -> tuple[TreeRow, Manifest] | None:
    """Verify a suspect completely; a fresh row and manifest when it is whole, None when it is not.

    Files that are right but have another inode or time (a copied cache) get a renewed manifest.
    """
    root = layout.tree_root(sha256)
    try:
        manifest = read_manifest(layout, sha256)
    except PkgcError:
        return None
    if find_damage(root, manifest) is not None:
        return None
    try:
        renewed = tuple(
            entry._replace(mtime_ns=status.st_mtime_ns, inode=status.st_ino)
            for entry in manifest.files
            for status in (os.stat(root / entry.path),)
        )
        if renewed != manifest.files:
            manifest = dataclasses.replace(manifest, files=renewed)
            write_atomically(layout.manifest(sha256), manifest_to_bytes(manifest), layout.temporary)
        return _row(layout, manifest, boot, used), manifest
    except OSError:
        return None


def adopt(layout: Layout, catalog: Catalog, warn: Callable[[str], None]) -> int:
    """Give rows to trees that have none, as suspects; returns how many.

    What has no readable manifest is removed, and so is what nobody knows the origin of: an environment could
    not record where such files came from. Call it after `artifacts.adopt`.
    """
    from pkgc_daemon.store import artifacts  # not in the children that build trees

    count = 0
    for folder in os.scandir(layout.trees):
        for entry in os.scandir(folder.path):
            known = artifacts.knows_origin(catalog, entry.name)
            if not is_sha256(entry.name) or (entry.name in catalog.trees and known):
                continue
            note = None if known else artifacts.read_sidecar(layout, entry.name)
            if note is not None:
                artifacts.restore(catalog, entry.name, note)
            if not artifacts.knows_origin(catalog, entry.name):
                warn(f"the tree {entry.name} is removed: nothing says where it came from")
                catalog.drop_tree(entry.name)
                os.rename(entry.path, layout.draft())
                continue
            if entry.name in catalog.trees:
                continue
            try:
                row = _row(layout, read_manifest(layout, entry.name), "", time.time())
            except (OSError, PkgcError) as error:
                warn(f"the tree {entry.name} is removed: {error}")
                os.rename(entry.path, layout.draft())
                continue
            catalog.put_tree(row)
            count += 1
    return count


def _row(layout: Layout, manifest: Manifest, boot: str, used: float) -> TreeRow:
    status = os.stat(layout.tree_root(manifest.sha256))
    return TreeRow(
        sha256=manifest.sha256,
        filename=manifest.filename,
        name=manifest.name,
        version=manifest.version,
        files=len(manifest.files),
        size=sum(entry.size for entry in manifest.files),
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        boot=boot,
        synced=False,
        added=time.time(),
        used=used,
    )
