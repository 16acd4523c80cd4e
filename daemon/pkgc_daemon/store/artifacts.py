"""Artifacts on disk: publishing, cheap checks, full checks; files named by sha256 and nothing else.

Every function is synchronous and blocks (except `is_intact`, one stat); `store` runs them off the loop.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pkgc_daemon.archives.wheel import translate_os_error
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.store.catalog import Catalog, is_bare
from pkgc_daemon.store.facts import ORIGIN_KINDS
from pkgc_daemon.store.filesystem import write_atomically
from pkgc_daemon.store.layout import Layout, is_sha256
from pkgc_daemon.store.rows import ArtifactRow
from pkgc_daemon.vocabulary import Artifact, Digest, Origin

_CHUNK = 1 << 20
#: Origins that a sidecar keeps of one digest.
_ORIGINS = 20
_AMENDING = threading.Lock()


def publish(
    layout: Layout,
    path: Path,
    sha256: str,
    size: int,
    digests: Iterable[Digest],
    filename: str,
    url: str,
    boot: str,
    source: Origin | None = None,
    offers: Iterable[tuple[Origin, str]] = (),
) -> ArtifactRow:
    """Move the complete, verified file at `path` into the store; see the table in `store`.

    Args:
        source: what the file was built of here; then `url` is not where anybody offers it.
        offers: where it came from, and under which file name, as those say who wanted it.

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
        earlier = read_sidecar(layout, sha256)  # of a tree that is still there
        built = ((source, filename),) if source is not None else ()
        origins, sources = (earlier.origins, earlier.sources) if earlier is not None else ((), ())
        origins = (*dict.fromkeys((*origins, *offers)),)[-_ORIGINS:]
        note = {
            "filename": filename,
            "url": "" if source is not None else url,
            "size": size,
            "digests": sorted(str(digest) for digest in digests),
            "origins": [_line(*one) for one in origins if source is not None or not is_bare(one[0])],
            "sources": [_line(*one) for one in dict.fromkeys((*sources, *built))],
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


class Sidecar(NamedTuple):
    """What lies beside an artifact, for a catalog that is rebuilt; it outlives the file, for its tree."""

    filename: str
    digests: frozenset[Digest]
    """As told: nobody has compared them with the bytes."""
    origins: tuple[tuple[Origin, str], ...]
    """(where the bytes came from, file name there); at least one, unless they were only ever built here."""
    sources: tuple[tuple[Origin, str], ...] = ()
    """What they were built of here."""


def _line(origin: Origin, filename: str) -> list[str | None]:
    """One origin as a sidecar holds it."""
    return [origin.kind, origin.url, origin.index, filename]


def _origins(lines: Any) -> tuple[tuple[Origin, str], ...]:
    return tuple(
        (Origin(kind, str(where), index and str(index)), str(name))
        for kind, where, index, name in lines
        if kind in ORIGIN_KINDS
    )


def read_sidecar(layout: Layout, sha256: str) -> Sidecar | None:
    """The sidecar of an artifact, or None when it is missing or cannot be read."""
    try:
        note = json.loads(layout.sidecar(sha256).read_bytes())
        filename, url = str(note["filename"]), str(note["url"])
        origins, sources = _origins(note.get("origins", ())), _origins(note.get("sources", ()))
        digests = frozenset(Digest.parse(str(text)) for text in note["digests"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not origins and (url or not sources):
        # Between publishing and the record of its origin a daemon may be killed; the URL is known even then.
        origins = ((Origin("index", url), filename),)
    return Sidecar(filename, digests, origins, sources)


def read_size(layout: Layout, sha256: str) -> int:
    """The bytes that an artifact has, or had before it was evicted, as its sidecar tells; 0: it does not."""
    try:
        size = json.loads(layout.sidecar(sha256).read_bytes())["size"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return size if type(size) is int else 0


def amend_sidecar(
    layout: Layout,
    sha256: str,
    *,
    digests: Iterable[Digest] = (),
    origin: tuple[Origin, str] | None = None,
    source: tuple[Origin, str] | None = None,
) -> None:
    """Add what became known later to a sidecar; without a sidecar, or on a full disk, nothing happens.

    Args:
        layout: the store's folders.
        sha256: the artifact, or the tree that is left of it.
        digests: further digests that were computed over the same bytes.
        origin: where the same bytes were offered, and under which file name.
        source: what the same bytes were built of here, and under which file name.
    """
    path = layout.sidecar(sha256)
    with _AMENDING:
        try:
            note = json.loads(path.read_bytes())
            told = {*note["digests"], *map(str, digests)}
            changed = note | {"digests": sorted(told)}
            for key, more in (("origins", origin), ("sources", source)):
                lines = list(note.get(key, ()))
                if more is not None and _line(*more) not in lines:
                    changed[key] = [*lines, _line(*more)][-_ORIGINS:]
            if changed != note:
                write_atomically(path, json.dumps(changed).encode(), layout.temporary)
        except (OSError, ValueError, KeyError, TypeError):
            # It only serves a catalog that is lost; the catalog has the same.
            return


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


def recheck(layout: Layout, row: ArtifactRow, boot: str) -> tuple[ArtifactRow, frozenset[Digest]] | None:
    """The full check: re-hash, in every algorithm that the sidecar names.

    Returns:
        A fresh row and the digests that were computed, or None when the bytes are wrong or gone.
    """
    path = layout.artifact(row.sha256)
    note = read_sidecar(layout, row.sha256)
    named = {digest.algorithm for digest in note.digests} if note is not None else set()
    try:
        if path.is_symlink():
            return None
        found = hash_file(path, {"sha256", *named})
        if found["sha256"] != row.sha256:
            return None
        status = path.stat()
    except OSError:
        return None
    fresh = ArtifactRow(
        row.sha256, status.st_size, status.st_mtime_ns, status.st_ino, row.filename, boot, synced=False,
        added=row.added, used=row.used,
    )  # fmt: skip
    return fresh, frozenset(Digest(name, value) for name, value in found.items())


def as_artifact(layout: Layout, row: ArtifactRow, digests: Iterable[Digest]) -> Artifact:
    """The noun for a row."""
    everything = frozenset({Digest("sha256", row.sha256), *digests})
    return Artifact(row.sha256, row.size, layout.artifact(row.sha256), everything)


def adopt(layout: Layout, catalog: Catalog, warn: Callable[[str], None]) -> int:
    """Give rows to artifacts that have none (a commit that was lost, a catalog that was rebuilt).

    They become suspects: `boot` is empty, so that they are re-hashed before they are served; aliases are
    recomputed then, never believed: what the sidecars claim only says what to verify. Sidecars without
    file and tree are swept. Returns how many were adopted.
    """
    count = 0
    for folder in os.scandir(layout.artifacts):
        names = {entry.name for entry in os.scandir(folder.path)}
        for name in names:
            if name.endswith(".json"):
                bare = name.removesuffix(".json")
                if bare not in names and not (is_sha256(bare) and layout.tree(bare).is_dir()):
                    Path(folder.path, name).unlink(missing_ok=True)
                continue
            known = catalog.artifacts.get(name)
            # A row without a boot was adopted by an earlier daemon, and nobody has wanted it since.
            if not is_sha256(name) or (known is not None and known.boot and knows_origin(catalog, name)):
                continue
            note = read_sidecar(layout, name)
            if note is None:
                if known is None:
                    warn(f"the artifact {name} has no readable sidecar and is removed")
                    layout.artifact(name).unlink(missing_ok=True)
                    layout.sidecar(name).unlink(missing_ok=True)
                continue
            restore(catalog, name, note)
            if known is None:
                status = layout.artifact(name).lstat()
                row = ArtifactRow(
                    name, status.st_size, 0, 0, note.filename, "", synced=False,
                    added=status.st_mtime, used=time.time(),
                )  # fmt: skip
                catalog.put_artifact(row, ())
                count += 1
    return count


def knows_origin(catalog: Catalog, sha256: str) -> bool:
    """Whether the catalog says where bytes came from, or what they were built of."""
    return sha256 in catalog.origins or sha256 in catalog.sources


def restore(catalog: Catalog, sha256: str, note: Sidecar) -> None:
    """Bring what a sidecar tells back into the catalog."""
    if not knows_origin(catalog, sha256):
        for origin, filename in note.origins:
            catalog.put_origin(sha256, origin, filename)
        for source, filename in note.sources:
            catalog.put_source(sha256, source, filename)
    for digest in note.digests:
        catalog.claimed[digest] = sha256
