"""Artifacts on disk: publishing, cheap checks, full checks; files named by sha256 and nothing else.

Every function is synchronous and blocks (except `is_intact`, one stat); `store` runs them off the loop.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pkgc_daemon.archives.wheel import translate_os_error
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store.catalog import ArtifactRow, Catalog
from pkgc_daemon.store.filesystem import write_atomically
from pkgc_daemon.store.layout import Layout, is_sha256
from pkgc_daemon.vocabulary import Artifact, Digest

_CHUNK = 1 << 20


def publish(
    layout: Layout,
    path: Path,
    sha256: str,
    size: int,
    digests: Iterable[Digest],
    filename: str,
    url: str,
    boot: str,
) -> ArtifactRow:
    """Move the complete, verified file at `path` into the store; see the table in `store`.

    Raises:
        PkgcError: ``store-io`` or ``disk-full``; ``size-mismatch`` when the file is not `size` bytes long.
    """
    try:
        found = path.stat().st_size
        if found != size:
            raise PkgcError(
                "size-mismatch",
                f"{filename} changed before it reached the store",
                context=f"expected {size} bytes\nfound {found} bytes",
                hint="Try again.",
            )
        note = {
            "filename": filename,
            "url": url,
            "size": size,
            "digests": sorted(str(digest) for digest in digests),
        }
        os.chmod(path, 0o444)
        write_atomically(layout.sidecar(sha256), json.dumps(note).encode(), layout.temporary)
        target = layout.artifact(sha256)
        os.rename(path, target)
        status = target.stat()
    except OSError as error:
        raise translate_os_error(error, f"storing {filename}") from error
    now = time.time()
    return ArtifactRow(
        sha256, size, status.st_mtime_ns, status.st_ino, filename, boot, synced=False, added=now, used=now
    )


def is_intact(path: Path, row: ArtifactRow) -> bool:
    """The cheap check (invariant 6): size, modification time and inode are those that were recorded."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns, status.st_ino) == (row.size, row.mtime_ns, row.inode)


def hash_file(path: Path, algorithms: Iterable[str] = ("sha256",)) -> dict[str, str]:
    """Hex digests of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    hashers = {name: hashlib.new(name) for name in algorithms}
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            for hasher in hashers.values():
                hasher.update(chunk)
    return {name: hasher.hexdigest() for name, hasher in hashers.items()}


def recheck(layout: Layout, row: ArtifactRow, boot: str) -> ArtifactRow | None:
    """The full check: re-hash. A fresh row when the bytes are right, None when they are not or are gone."""
    path = layout.artifact(row.sha256)
    try:
        if path.is_symlink() or hash_file(path)["sha256"] != row.sha256:
            return None
        status = path.stat()
    except OSError:
        return None
    return ArtifactRow(
        row.sha256, status.st_size, status.st_mtime_ns, status.st_ino, row.filename, boot, synced=False,
        added=row.added, used=row.used,
    )  # fmt: skip


def as_artifact(layout: Layout, row: ArtifactRow, digests: Iterable[Digest]) -> Artifact:
    """The noun for a row."""
    everything = frozenset({Digest("sha256", row.sha256), *digests})
    return Artifact(row.sha256, row.size, layout.artifact(row.sha256), everything)


def adopt(layout: Layout, catalog: Catalog, warn: Callable[[str], None]) -> int:
    """Give rows to artifacts that have none (a commit that was lost, a catalog that was rebuilt).

    They become suspects: `boot` is empty, so that they are re-hashed before they are served; aliases are
    recomputed then, never believed. Sidecars without a file are swept. Returns how many were adopted.
    """
    count = 0
    for folder in os.scandir(layout.artifacts):
        names = {entry.name for entry in os.scandir(folder.path)}
        for name in names:
            if name.endswith(".json"):
                if name.removesuffix(".json") not in names:
                    Path(folder.path, name).unlink(missing_ok=True)
                continue
            if name in catalog.artifacts or not is_sha256(name):
                continue
            try:
                note = json.loads(layout.sidecar(name).read_bytes())
                filename = str(note["filename"])
                size = layout.artifact(name).stat().st_size
            except (OSError, ValueError, KeyError, TypeError) as error:
                warn(f"the artifact {name} has no readable sidecar and is removed: {error}")
                layout.artifact(name).unlink(missing_ok=True)
                layout.sidecar(name).unlink(missing_ok=True)
                continue
            now = time.time()
            row = ArtifactRow(name, size, 0, 0, filename, "", synced=False, added=now, used=now)
            catalog.put_artifact(row, ())
            count += 1
    return count
