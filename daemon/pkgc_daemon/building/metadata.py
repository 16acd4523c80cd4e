"""METADATA of build requirements: what one requires, read from its file within bounds; nothing else of it."""

from __future__ import annotations

from pkgc_daemon.building.requires import Metadata
from pkgc_daemon.environments.files import open_regular
from pkgc_daemon.errors import PkgcError

#: Bytes of a METADATA file, and Requires-Dist fields in it.
_LARGEST_METADATA = 4 << 20
_MOST_REQUIRES = 5000


def read_metadata(path: str, label: str) -> Metadata:
    """Read what the METADATA of the project `label` requires.

    Of its other fields nothing is parsed: that takes quadratic time.

    Raises:
        PkgcError: ``build-requirements``: it is too large.
    """
    from packaging.metadata import parse_email  # loads email

    with open_regular(path) as file:
        data = file.read(_LARGEST_METADATA + 1)
    if len(data) > _LARGEST_METADATA:
        raise _too_large(label, f"over {_LARGEST_METADATA} bytes", f"{_LARGEST_METADATA} bytes")
    fields: list[bytes] = []
    taken = False
    for line in data.splitlines(keepends=True):
        if not line.strip():
            break
        if not line.startswith((b" ", b"\t")):
            taken = line[:14].lower() == b"requires-dist:"
        if taken:
            fields.append(line)
    raw, _unknown = parse_email(b"".join(fields))
    requires = tuple(raw.get("requires_dist") or ())
    if len(requires) > _MOST_REQUIRES:
        raise _too_large(label, f"{len(requires)} times Requires-Dist", f"{_MOST_REQUIRES} of them")
    return Metadata(requires)


def size_of(metadata: Metadata) -> int:
    """About as many bytes as it takes."""
    return sum(len(text) + 100 for text in metadata.requires)


def _too_large(label: str, found: str, expected: str) -> PkgcError:
    return PkgcError(
        "build-requirements",
        f"the METADATA of {label}, which a build requires, is too large",
        context=f"expected at most {expected}\nfound {found}",
        hint="is it the project that was meant? ask its publisher",
    )
