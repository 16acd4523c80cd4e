"""RECORD of a wheel: a list of paths with their hashes, parsed and bounded; not the one of an environment.

Rules: binary-distribution-format "Signed wheel files", recording-installed-packages; standards.md W6.
"""

from __future__ import annotations

import base64
import binascii
import csv
from typing import NamedTuple

#: "sha256 or better": what RECORD may use.
ALGORITHMS = frozenset(
    {"sha256", "sha384", "sha512", "blake2b", "blake2s", "sha3_256", "sha3_384", "sha3_512"}
)

#: Characters of ``sha256=`` and 32 bytes in base64 without padding.
_COMMON = 50


class RecordLine(NamedTuple):
    """The claim of one line: an algorithm of hashlib, the raw digest, and the size if one is given."""

    algorithm: str
    digest: bytes
    size: int | None


def parse_record(text: str, unhashed: frozenset[str]) -> dict[str, RecordLine | None]:
    """Read RECORD.

    Args:
        text: the file's content (CSV: path, ``alg=urlsafe-base64``, size).
        unhashed: paths that may stand without a hash (RECORD itself and its signatures).

    Returns:
        path -> claim, None for `unhashed` ones. Lines that name folders are left out.

    Raises:
        ValueError: says the line number and what is wrong with it.
    """
    claims: dict[str, RecordLine | None] = {}
    try:
        for number, row in enumerate(csv.reader(text.splitlines()), 1):
            if not row:
                continue
            if len(row) != 3:
                raise ValueError(f"line {number} has {len(row)} fields, not 3")
            path, field, size = row
            if path.endswith("/"):
                continue
            claim = None if path in unhashed else _claim(number, path, field, size)
            if path in claims and claims[path] != claim:
                raise ValueError(f"line {number}: {path} is there twice with two hashes")
            claims[path] = claim
    except csv.Error as error:
        raise ValueError(f"it is not CSV: {error}") from error
    return claims


def _claim(number: int, path: str, field: str, size: str) -> RecordLine:
    if field.startswith("sha256=") and len(field) == _COMMON and size.isdecimal() and size.isascii():
        # What nearly every line is, in a third of the time; what is wrong is said below.
        try:
            text = field[7:].replace("-", "+").replace("_", "/")
            digest = binascii.a2b_base64(text + "=", strict_mode=True)
        except ValueError:
            pass
        else:
            if len(size) < 20:
                return RecordLine("sha256", digest, int(size))
    algorithm, separator, encoded = field.partition("=")
    if not separator:
        raise ValueError(f"line {number}: {path} has no hash")
    algorithm = algorithm.lower()
    if algorithm not in ALGORITHMS:
        raise ValueError(f"line {number}: {path}: {algorithm!r} is not sha256 or better")
    try:
        digest = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"line {number}: {path}: {encoded!r} is not a base64 digest") from error
    if size and not (size.isascii() and size.isdigit() and len(size) < 20):
        raise ValueError(f"line {number}: {path}: the size {size!r} is not a number")
    return RecordLine(algorithm, digest, int(size) if size else None)
