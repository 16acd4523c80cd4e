"""Bytecode as the installer sees it: what the store has of a tree, and what of it may not be placed.

A .pyc counts by its source's time and size (PEP 552).  Those alone do not tell two trees apart that were
unpacked in one second: where a source of another tree takes a place, the bytecode beside it has to go.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pkgc_daemon.store.compiled import BytecodeError, Compiled, identity, read


def read_bytecode(item: Mapping[str, Any], manifest: bytes | None) -> Compiled | None:
    """The bytecode that an item of `apply_plan`'s ``add`` names, if any.

    Args:
        manifest: the bytes of the tree's manifest; None where they were not read.

    Raises:
        BytecodeError: it is damaged, or of another unpacking of the wheel.
    """
    folder = item.get("bytecode")
    if not folder:
        return None
    found = read(folder)
    if manifest is not None and found.tree != identity(manifest):
        raise BytecodeError("it was made of another unpacking of the wheel")
    return found


def source_of(path: str) -> str:
    """The source of a .pyc (PEP 3147): ``a/b.py`` of ``a/__pycache__/b.cpython-311.pyc``."""
    folder, _, name = path.rpartition("/")
    return f"{folder[: -len('__pycache__')]}{name.rpartition('.')[0].rpartition('.')[0]}.py"


def bytecode_of(source: str) -> list[str]:
    """The .pyc files that belong to the source at this path, which need not be there (PEP 3147, PEP 488)."""
    folder, _, name = source.rpartition("/")
    stem = f"{name[:-3]}."
    try:
        names = os.listdir(f"{folder}/__pycache__")
    except OSError:
        return []
    found = [one for one in names if one.startswith(stem) and one.endswith(".pyc")]
    # `a.b.cpython-311.pyc` belongs to a.b.py, not to a.py; optimised files have one part more.
    found = [one for one in found if "." not in one[len(stem) : -4].partition(".opt-")[0]]
    return [f"{folder}/__pycache__/{one}" for one in found]


def drop_stale(source: str) -> None:
    """Remove the bytecode beside the source at this absolute path."""
    for path in bytecode_of(source):
        os.unlink(path)
