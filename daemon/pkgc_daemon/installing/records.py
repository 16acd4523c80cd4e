"""What .dist-info records: RECORD, read, rendered and compared with the disk (PEP 376, PEP 627); and the map
of direct_url.json (PEP 610). It writes no file.
"""

from __future__ import annotations

import csv
import hashlib
import os
import posixpath
import re
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator, Sequence
from typing import Any

from pkgc_daemon.archives.recordlines import WRITTEN, quoted, record_hash, render_entries, render_line
from pkgc_daemon.environments.files import NotRegularError, open_regular, read_regular
from pkgc_daemon.environments.recordfile import RecordLine, parse_record
from pkgc_daemon.environments.records import MAX_RECORD
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.vocabulary import (
    ArchiveSource,
    DirectorySource,
    DirectSource,
    SourceState,
    settings_key,
)

#: Userinfo that is no secret (PEP 610): names of variables, and the user that ssh servers of git have.
_NO_SECRET = re.compile(
    r"([a-z][a-z0-9+.-]*://)((?:\$\{[A-Za-z0-9_-]+\}(?::\$\{[A-Za-z0-9_-]+\})?|git)@)(?=[^@]*\Z)",
    re.IGNORECASE,
)


__all__ = [
    "WRITTEN",
    "direct_url",
    "file_url",
    "mismatches",
    "quoted",
    "read_record",
    "record_hash",
    "recorded_url",
    "render_entries",
    "render_line",
]


def read_record(dist_info: str) -> list[RecordLine] | None:
    """The RECORD of an installed distribution, or the installed-files.txt of a legacy one; None without.

    Args:
        dist_info: path of its .dist-info or .egg-info folder.

    Returns:
        Lines with paths relative to the folder that holds `dist_info`.

    Raises:
        PkgcError: ``bad-record`` when it is not csv.
    """
    try:
        data = read_regular(os.path.join(dist_info, "RECORD"), MAX_RECORD)
        return list(parse_record(data.decode("utf-8", "surrogateescape")))
    except (csv.Error, NotRegularError) as error:
        raise PkgcError(
            "bad-record",
            f"{dist_info}/RECORD cannot be read: {error}",
            hint="without it nothing says which files belong to the package; make a new environment",
        ) from error
    except (FileNotFoundError, NotADirectoryError):
        pass
    try:
        data = read_regular(os.path.join(dist_info, "installed-files.txt"), MAX_RECORD)
        names = data.decode("utf-8", "surrogateescape").splitlines()
    except (FileNotFoundError, NotADirectoryError, NotRegularError):
        return None
    own = os.path.basename(dist_info)
    return [RecordLine(posixpath.normpath(posixpath.join(own, name)), "", "") for name in names if name]


def mismatches(prefix: str, site: str, lines: Sequence[RecordLine]) -> Iterator[str]:
    """Paths of `lines` whose files are gone or differ from their recorded sha256 or size.

    Args:
        prefix: files outside of it are not looked at.
        site: folder to which the lines' paths are relative.
    """
    start = prefix.rstrip("/") + "/"
    for line in lines:
        path = os.path.normpath(os.path.join(site, line.path))
        if not path.startswith(start):
            continue
        algorithm, _, value = line.hash.partition("=")
        try:
            with open_regular(path) as file:
                if algorithm != "sha256":
                    continue
                found = hashlib.file_digest(file, "sha256").digest()
            if urlsafe_b64decode(value + "=" * (-len(value) % 4)) != found:
                yield line.path
        except (OSError, Base64Error):
            if not line.path.endswith(".pyc"):
                yield line.path


def direct_url(
    source: DirectSource, state: SourceState, settings: tuple[tuple[str, str], ...] = ()
) -> dict[str, Any]:
    """The map of direct_url.json (PEP 610; standards.md D5) for what was installed from `source`.

    Args:
        state: what was installed: every known digest of the archive's bytes (of the source archive, when the
            wheel was built from one: H10), the commit, or the directory's fingerprint.
        settings: of the build.

    Returns:
        The specification's fields, without credentials, and where there is something to say an object
        ``pkgc``: ``source``, the directory's fingerprint, and ``settings``, the key of the build settings.
    """
    record: dict[str, Any]
    own = {"settings": settings_key(settings)}
    if isinstance(source, DirectorySource):
        record = {"url": file_url(source.path), "dir_info": {"editable": True} if source.editable else {}}
        own["source"] = state.fingerprint
    elif isinstance(source, ArchiveSource):
        digests = sorted(source.integrity | state.digests)
        record = {
            "url": recorded_url(source.url) if source.path is None else file_url(source.path),
            "archive_info": {"hashes": {digest.algorithm: digest.hex for digest in digests}},
        }
    else:
        commit = state.commit or source.commit
        if commit is None:
            raise ValueError(f"{redact(source.url)}: installed from no commit")
        record = {
            "url": recorded_url(source.url),
            "vcs_info": {"vcs": source.vcs, "commit_id": commit.lower()},
        }
        if source.requested is not None:
            record["vcs_info"]["requested_revision"] = source.requested
    if source.subdirectory:
        record["subdirectory"] = source.subdirectory
    told = {key: value for key, value in own.items() if value is not None}
    return {**record, "pkgc": told} if told else record


def file_url(path: str) -> str:
    """The ``file:`` URL of an absolute path."""
    from urllib.parse import quote  # not on the way of the client that installs

    return "file://" + quote(os.fsencode(path))


def recorded_url(url: str) -> str:
    """A URL as records may hold it: without fragment and credentials (PEP 610), signatures masked.

    ``${NAME}`` in place of a user or password stays, and so does ``git@``.
    """
    kept = _NO_SECRET.match(url)
    shown = redact(url)
    if kept is not None:
        shown = kept[1] + kept[2] + redact(kept[1] + url[kept.end() :])[len(kept[1]) :]
    return shown.partition("#")[0]
