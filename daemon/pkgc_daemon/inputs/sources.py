"""Sources: which kind of file a command names, told from its name alone; not what is in it."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Literal
from urllib.parse import unquote

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.locations import is_url
from pkgc_daemon.inputs.problems import shown

SourceKind = Literal[
    "requirements", "pylock", "uv.lock", "poetry.lock", "pdm.lock", "pipfile.lock", "pyproject", "setup"
]

_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml\Z")
_KINDS: dict[str, SourceKind] = {
    "uv.lock": "uv.lock",
    "poetry.lock": "poetry.lock",
    "pdm.lock": "pdm.lock",
    "pipfile.lock": "pipfile.lock",
    "pyproject.toml": "pyproject",
    "setup.py": "setup",
    "setup.cfg": "setup",
}
#: Kinds that stand alone: each names a whole environment.
_LOCKS: frozenset[SourceKind] = frozenset({"pylock", "uv.lock"})
#: What each kind is that pkgc does not read, and how to make of it what pkgc reads.
_EXPORTS: dict[SourceKind, tuple[str, str]] = {
    "poetry.lock": (
        "Poetry's lock",
        (
            "`poetry export -f requirements.txt -o requirements.txt` (of poetry-plugin-export), then "
            "`pkgc sync requirements.txt`"
        ),
    ),
    "pdm.lock": ("PDM's lock", "`pdm export -o requirements.txt`, then `pkgc sync requirements.txt`"),
    "pipfile.lock": (
        "Pipenv's lock",
        "`pipenv requirements --hash > requirements.txt`, then `pkgc sync requirements.txt`",
    ),
    "pyproject": (
        "no lock: it says what a project needs, not which versions",
        "lock it first: `uv lock`, then `pkgc sync uv.lock` (or `uv export` for a requirements.txt)",
    ),
    "setup": (
        "no lock: it says what a project needs, not which versions",
        "lock it first: `uv pip compile {name} --generate-hashes -o requirements.txt`",
    ),
}
#: What `default_source` looks for, in this order.
DEFAULT_SOURCES = ("pylock.toml", "uv.lock", "requirements.txt")


def kind_of(source: str) -> SourceKind:
    """The kind of a source; anything without a known name is a requirements file.

    Of a URL the last component of its path counts, decoded once.
    """
    if is_url(source):
        source = unquote(source.partition("#")[0].partition("?")[0].rstrip("/").rpartition("/")[2])
    name = source.rstrip("/").rpartition("/")[2]
    if _PYLOCK.match(name):
        return "pylock"
    return _KINDS.get(name.lower(), "requirements")


def check_supported(source: str) -> None:
    """Refuse a source that pkgc cannot read.

    Raises:
        InputError: ``unsupported-source``; the hint is the command that makes something readable of it.
    """
    kind = kind_of(source)
    if kind not in _EXPORTS:
        return
    what, command = _EXPORTS[kind]
    name = shown(source)
    raise InputError("unsupported-source", f"{name} is {what}", hint=command.format(name=name))


def check_together(sources: Sequence[str]) -> None:
    """Refuse sources that cannot be read, and a lock beside other sources.

    Raises:
        InputError: ``unsupported-source``; ``mixed-sources``: pylock.toml or uv.lock is one of several.
    """
    for source in sources:
        check_supported(source)
    locks = [source for source in sources if kind_of(source) in _LOCKS]
    if locks and len(sources) > 1:
        raise InputError(
            "mixed-sources",
            f"{shown(locks[0])} names a whole environment, so it cannot be combined with other sources",
            context="sources: " + ", ".join(shown(source) for source in sources),
            hint=f"sync one of them: pkgc sync {shown(locks[0])}",
        )


def check_requirements_file(source: str) -> None:
    """Refuse what is no requirements file where only that can be read: ``-r``, ``-c`` and their kin.

    Raises:
        InputError: ``unsupported-source``; ``mixed-sources`` for pylock.toml and uv.lock.
    """
    check_supported(source)
    if kind_of(source) in _LOCKS:
        raise InputError(
            "mixed-sources",
            f"{shown(source)} is a lock, not a requirements file, and cannot be a part of one",
            hint=f"sync it by itself: pkgc sync {shown(source)}",
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
        hint="name a lock: pkgc sync FILE",
    )
