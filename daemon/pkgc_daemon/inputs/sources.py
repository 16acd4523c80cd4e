"""Sources: which kind of file a command names, told from its name alone; not what is in it."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Literal

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.problems import shown

SourceKind = Literal[
    "requirements", "pylock", "uv.lock", "poetry.lock", "pdm.lock", "pipfile.lock", "pyproject"
]

_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml\Z")
_KINDS: dict[str, SourceKind] = {
    "uv.lock": "uv.lock",
    "poetry.lock": "poetry.lock",
    "pdm.lock": "pdm.lock",
    "pipfile.lock": "pipfile.lock",
    "pyproject.toml": "pyproject",
}
#: How to make a requirements file with hashes of each kind that this version does not read.
_EXPORTS: dict[SourceKind, str] = {
    "pylock": "uv export --frozen --no-emit-project -o requirements.txt",
    "uv.lock": "uv export --frozen --no-emit-project -o requirements.txt",
    "poetry.lock": "poetry export -o requirements.txt",
    "pdm.lock": "pdm export -o requirements.txt",
    "pipfile.lock": "pipenv requirements --hash > requirements.txt",
    "pyproject": "uv pip compile {name} --generate-hashes -o requirements.txt",
}
#: What `default_source` looks for, in this order.
DEFAULT_SOURCES = ("pylock.toml", "uv.lock", "requirements.txt")


def kind_of(source: str) -> SourceKind:
    """The kind of a source; anything without a known name is a requirements file."""
    name = source.rstrip("/").rpartition("/")[2]
    if _PYLOCK.match(name):
        return "pylock"
    return _KINDS.get(name.lower(), "requirements")


def check_supported(source: str) -> None:
    """Refuse a source that this version cannot read.

    Raises:
        InputError: ``unsupported-source``; the hint is the command that makes a requirements file of it.
    """
    kind = kind_of(source)
    if kind == "requirements":
        return
    name = shown(source)
    command = _EXPORTS[kind].format(name=name)
    raise InputError(
        "unsupported-source",
        f"{name}: this version of pkgc reads requirements files only, not {kind} files",
        hint=f"make one with hashes: `{command}`, then `pkgc sync requirements.txt`",
    )


def default_source(existing: Container[str]) -> str:
    """What to read when the command names nothing.

    Args:
        existing: the names of the files in the working directory.

    Raises:
        InputError: ``no-source``: there is none of `DEFAULT_SOURCES`.
    """
    for name in DEFAULT_SOURCES:
        if name in existing:
            return name
    raise InputError(
        "no-source",
        f"there is nothing to read here: no {', no '.join(DEFAULT_SOURCES)}",
        hint="name a requirements file: pkgc sync FILE",
    )
