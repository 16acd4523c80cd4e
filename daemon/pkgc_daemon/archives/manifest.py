"""The Manifest of a Tree as bytes and back; the noun itself is in `vocabulary`."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from typing import Any

import msgpack

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.vocabulary import FileEntry, Manifest

#: Raised when the meaning of the bytes changes; an unknown one makes the tree be unpacked again.
FORMAT = 3
#: Behind the map: a CRC of it. One flipped bit could else change a path or an entry point unnoticed.
_CHECK = struct.Struct("<I")


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """`manifest` as a msgpack map and its CRC; equal manifests give equal bytes."""
    data = msgpack.packb(
        {
            "format": FORMAT,
            "sha256": manifest.sha256,
            "filename": manifest.filename,
            "name": manifest.name,
            "version": manifest.version,
            "dist_info": manifest.dist_info,
            "data_dir": manifest.data_dir,
            "root_is_purelib": manifest.root_is_purelib,
            "files": manifest.files,
            "console_scripts": manifest.console_scripts,
            "gui_scripts": manifest.gui_scripts,
            "requires_python": manifest.requires_python,
            **({"newer": manifest.newer} if manifest.newer else {}),
        }
    )
    assert isinstance(data, bytes)
    return data + _CHECK.pack(zlib.crc32(data))


def head_of(manifest: Manifest) -> Manifest:
    """A manifest without its files: what the daemon keeps of each tree."""
    return dataclasses.replace(manifest, files=())


def head_from_bytes(data: bytes) -> Manifest:
    """`head_of` the manifest that these bytes are; see `manifest_from_bytes`."""
    return manifest_from_bytes(data, head=True)


def manifest_from_bytes(data: bytes, *, head: bool = False) -> Manifest:
    """The reverse of `manifest_to_bytes`.

    Args:
        head: leave out the files.

    Raises:
        PkgcError: ``bad-manifest`` when the bytes are damaged or of another format.
    """
    try:
        body, (check,) = data[: -_CHECK.size], _CHECK.unpack(data[-_CHECK.size :])
        if zlib.crc32(body) != check:
            raise ValueError("another checksum")
        given: Any = msgpack.unpackb(body, use_list=False, max_array_len=1 << 20)
        if given["format"] != FORMAT:
            raise ValueError(f"format {given['format']!r}, not {FORMAT}")
        return Manifest(
            sha256=given["sha256"],
            filename=given["filename"],
            name=given["name"],
            version=given["version"],
            dist_info=given["dist_info"],
            data_dir=given["data_dir"],
            root_is_purelib=given["root_is_purelib"],
            files=() if head else tuple(FileEntry(*entry) for entry in given["files"]),
            console_scripts=tuple(given["console_scripts"]),
            gui_scripts=tuple(given["gui_scripts"]),
            requires_python=given["requires_python"],
            newer=tuple(given.get("newer", ())),
        )
    except (ValueError, KeyError, TypeError, struct.error, msgpack.UnpackException) as error:
        raise PkgcError(
            "bad-manifest",
            "A manifest in the store is damaged",
            context=f"expected format {FORMAT}\nfound {error}",
            hint="`pkgc cache verify` rebuilds it.",
        ) from error
