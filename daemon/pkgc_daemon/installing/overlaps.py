"""Paths that two distributions own: told from manifests and RECORDs alone; it changes nothing."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pkgc_daemon.installing.layout import Layout
from pkgc_daemon.installing.staging import Addition, Staging
from pkgc_daemon.installing.uninstall import Leaving, Owner, each_kept, owned_files


def overlaps_of(
    layout: Layout, staging: Staging, leaving: Sequence[Leaving], additions: Sequence[Addition]
) -> list[str]:
    """What `--strict` refuses: paths that will have two owners with different contents, one text each.

    Distributions that stay count too, also among themselves.

    Raises:
        TreeDamagedError, PkgcError: as `Staging.add`.
    """
    claimed: dict[str, tuple[str, str]] = {}
    found: list[str] = []
    for name, claims in (*_kept(layout, leaving), *((item.name, staging.claims(item)) for item in additions)):
        for path, digest in claims:
            if not digest or path.endswith(".pyc"):
                continue
            other, expected = claimed.setdefault(path, (name, digest))
            if expected != digest and other != name:
                one, two = sorted((other, name))
                found.append(f"{one} and {two} both have {path}, with different contents")
    return found


def _kept(layout: Layout, leaving: Sequence[Leaving]) -> Iterator[tuple[str, Iterable[tuple[str, str]]]]:
    for name, files in each_kept(layout, leaving):
        yield name, ((path, _hex(digest)) for path, digest in files.items())


def robbed(
    layout: Layout,
    staging: Staging,
    leaving: Sequence[Leaving],
    additions: Sequence[Addition],
    kept: Mapping[str, Owner],
) -> dict[str, str]:
    """Distributions that stay without their own bytes: who leaves had won an overlap with them.

    Args:
        kept: path -> owner, of those that stay.

    Returns:
        Project -> one path of it that will hold what the other one installed.
    """
    added = {item.name for item in additions}
    suspects: dict[str, str] = {}
    for item in leaving:
        for path, digest in (owned_files(layout, item.dist_info) or {}).items():
            owner = kept.get(path)
            if owner is None or not owner.hash or not digest or path.endswith(".pyc"):
                continue
            if owner.hash != digest and owner.name not in added:
                suspects[path] = owner.name
    if not suspects:
        return {}
    for addition in additions:
        for path, _ in staging.claims(addition):
            if suspects.get(path, "~") < addition.name:
                del suspects[path]
    return {name: path for path, name in suspects.items() if not _holds(layout, path, kept[path].hash)}


def _holds(layout: Layout, path: str, recorded: str) -> bool:
    try:
        with open(f"{layout.prefix}/{path}", "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == _hex(recorded)
    except OSError:
        return False


def _hex(recorded: str) -> str:
    """RECORD's form of a sha256 as a manifest has it; '' for another algorithm, or none."""
    algorithm, _, value = recorded.partition("=")
    if algorithm != "sha256":
        return ""
    try:
        return urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except (Base64Error, ValueError):
        return ""
