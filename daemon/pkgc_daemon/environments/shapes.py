"""Shapes: whether two environments differ in nothing but where they are, so that the interpreter of one need
not be asked what that of the other has said.  Reads pyvenv.cfg; runs nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from .files import read_regular

#: Bytes that a pyvenv.cfg may have.
_MAX_CONFIG = 65536
#: Keys of pyvenv.cfg that say nothing of the interpreter: names for people, and the path of the environment.
_NAMES = frozenset({b"prompt", b"command"})


def shape_of(venv: str) -> str | None:
    """What an answer of this environment's interpreter depends on, besides its path and the interpreter.

    None where an answer cannot be carried over: pyvenv.cfg cannot be read, or a module of the environment has
    a word in which wheels it takes (PEP 600, `_manylinux`).
    """
    try:
        text = read_regular(f"{venv}/pyvenv.cfg", _MAX_CONFIG)
        if os.path.lexists(f"{venv}/bin/pyvenv.cfg"):
            return None  # the interpreter obeys that one
        lines = [line for line in text.splitlines() if line.partition(b"=")[0].strip().lower() not in _NAMES]
        sites = []
        for library in ("lib", "lib64"):
            for entry in sorted(os.listdir(f"{venv}/{library}")):
                folder = f"{venv}/{library}/{entry}/site-packages"
                if any(os.path.lexists(f"{folder}/_manylinux{end}") for end in ("", ".py", ".pyc", ".so")):
                    return None
                sites.append(f"{library}/{entry}")
            if os.path.islink(f"{venv}/lib64") or not os.path.isdir(f"{venv}/lib64"):
                break
    except (OSError, ValueError):
        return None
    facts = (
        lines,
        sites,
        os.path.islink(f"{venv}/lib64"),
        os.readlink(f"{venv}/bin/python") if os.path.islink(f"{venv}/bin/python") else "",
    )
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()


def moved(wire: Mapping[str, Any], prefix: str) -> dict[str, Any] | None:
    """The answer of an environment's interpreter as one of the same shape at `prefix` would give it.

    None when that cannot be told: the environment is not where its interpreter says, or holds its own base.
    """
    old = wire.get("prefix")
    if not isinstance(old, str) or len(old) < 2 or str(wire.get("base_prefix", old)).startswith(old):
        return None

    def carried(value: Any) -> Any:
        if isinstance(value, str):
            if value == old or value.startswith(f"{old}/"):
                return prefix + value[len(old) :]
            return value
        if isinstance(value, Mapping):
            return {key: carried(one) for key, one in value.items()}
        return value

    return {key: value if key == "key" else carried(value) for key, value in wire.items()}
