"""Commands of a distribution: wrappers for entry points and `#!python` rewriting; it writes no file."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

# The kernel reads 127 bytes of a `#!` line safely (256 since Linux 5.1), macOS 512.
_MAX_SHEBANG = 512 if sys.platform == "darwin" else 127
_PIP_COMMAND = re.compile(r"pip(?:\d+(?:\.\d+)?)?\Z")
_EASY_INSTALL = re.compile(r"easy_install(?:-\d+\.\d+)?\Z")
_WRAPPER_SUFFIXES = (".exe", "-script.py", ".pya")


def shebang(executable: str) -> bytes:
    """The first lines of a Python script that `executable` is to run, newline included (E3).

    A path with spaces, or too long for the kernel, goes through /bin/sh: the shell sees ``exec``, Python
    sees a string. So does one that reads like a declaration of the source's encoding (PEP 263).
    """
    path = executable.encode("utf-8", "surrogateescape")
    if len(path) + 3 <= _MAX_SHEBANG and not re.search(rb"\s|coding[:=]", path):
        return b"#!" + path + b"\n"
    # In single quotes the shell takes everything literally, and Python nothing as an escape. A quote becomes
    # '\'' and a backslash '"\\"': both see valid escapes there, and Python never three quotes in a row.
    quoted = path.replace(b"\\", b"\0").replace(b"'", rb"'\''").replace(b"\0", b"'\"\\\\\"'")
    return b"#!/bin/sh\n'''exec' '" + quoted + b"' \"$0\" \"$@\"\n' '''\n"


def wrapper(first_lines: bytes, value: str) -> bytes:
    """The script of an entry point (E2).

    Args:
        first_lines: from `shebang`.
        value: ``module:attribute.attribute``, already validated; extras in brackets are ignored (E1).
    """
    module, _, attribute = value.partition("[")[0].partition(":")
    module, attribute = module.strip(), attribute.strip()
    first = attribute.partition(".")[0]
    body = (
        f'import sys\nfrom {module} import {first}\nif __name__ == "__main__":\n    sys.exit({attribute}())\n'
    )
    return first_lines + body.encode()


def rewritten(data: bytes, first_lines: bytes) -> bytes | None:
    """A ``#!python`` script for this environment, or None when it is not one (W4).

    Whatever followed on the first line, arguments included, is dropped, as pip and uv do.
    """
    if not data.startswith(b"#!python"):
        return None
    end = data.find(b"\n")
    return first_lines + (data[end + 1 :] if end >= 0 else b"")


def commands_of(
    name: str, console: Iterable[tuple[str, str]], gui: Iterable[tuple[str, str]], version: str
) -> dict[str, str]:
    """Script name -> entry point value, with pip's versioned names made those of the target (E5).

    Args:
        name: the project, normalized.
        version: the target interpreter's, X.Y.Z.
    """
    found = dict(console)
    major, minor = version.split(".")[:2]
    if name == "pip" and "pip" in found:
        value = found["pip"]
        found = {key: other for key, other in found.items() if not _PIP_COMMAND.match(key)}
        found |= {"pip": value, f"pip{major}": value, f"pip{major}.{minor}": value}
    elif name == "setuptools" and "easy_install" in found:
        value = found["easy_install"]
        found = {key: other for key, other in found.items() if not _EASY_INSTALL.match(key)}
        found |= {"easy_install": value, f"easy_install-{major}.{minor}": value}
    return found | dict(gui)


def is_stale_wrapper(filename: str, commands: Iterable[str]) -> bool:
    """Whether a file of ``.data/scripts`` is a wrapper that setuptools made of an entry point (W5)."""
    lowered = filename.lower()
    for suffix in _WRAPPER_SUFFIXES:
        if lowered.endswith(suffix):
            filename = filename[: -len(suffix)]
            break
    return filename in commands
