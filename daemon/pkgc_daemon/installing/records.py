"""What .dist-info records: RECORD, read, rendered and compared with the disk (PEP 376, PEP 627)."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import posixpath
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from binascii import unhexlify
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pkgc_daemon.environments.files import NotRegularError, open_regular, read_regular
from pkgc_daemon.environments.records import MAX_RECORD
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.vocabulary import FileEntry

#: Files of .dist-info that an installer writes itself, whatever the wheel holds.
WRITTEN = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "provenance_url.json")

_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class RecordLine(NamedTuple):
    """One line of RECORD; `hash` and `size` are as written and may be empty."""

    path: str
    hash: str
    size: str


def record_hash(data: bytes) -> str:
    """RECORD's form of the sha256 of `data`."""
    return "sha256=" + urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def quoted(path: str) -> str:
    """A path as a csv field."""
    if "," in path or '"' in path or "\n" in path or "\r" in path:
        return '"' + path.replace('"', '""') + '"'
    return path


def render_entries(entries: Sequence[FileEntry], prefix: str = "") -> list[str]:
    """RECORD's lines of files that were placed unchanged: the manifest knows their hashes.

    All digests go through one base64 call: with one zero byte after each digest, every digest becomes 44
    characters, of which the first 43 are its unpadded form.
    """
    digests = b64encode(unhexlify("".join([f"{entry[3]}00" for entry in entries])))
    text = digests.translate(_URL_SAFE).decode()
    return [
        f"{quoted(prefix + entry[0])},sha256={text[start : start + 43]},{entry[1]}\n"
        for entry, start in zip(entries, range(0, len(text), 44), strict=True)
    ]


def render_line(path: str, data: bytes) -> str:
    """RECORD's line of a file that the installer wrote."""
    return f"{quoted(path)},{record_hash(data)},{len(data)}\n"


def parse_record(text: str) -> Iterator[RecordLine]:
    """The lines of a RECORD; lines without a path are passed over."""
    if '"' not in text:
        # As csv would, several times faster.
        for line in text.splitlines():
            parts = line.split(",")
            if parts[0]:
                yield RecordLine(
                    parts[0], parts[1] if len(parts) > 1 else "", parts[2] if len(parts) > 2 else ""
                )
        return
    for row in csv.reader(io.StringIO(text, newline="")):
        if row and row[0]:
            yield RecordLine(row[0], row[1] if len(row) > 1 else "", row[2] if len(row) > 2 else "")


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
