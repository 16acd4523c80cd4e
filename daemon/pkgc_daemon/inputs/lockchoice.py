"""What a command chooses of a lock, checked against what the lock has; and whether an interpreter fits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from pkgc_daemon.errors import InputError
from pkgc_daemon.vocabulary import Interpreter


def chosen_names(
    file: str,
    kind: Literal["extra", "group"],
    asked: frozenset[str],
    known: Iterable[str],
    *,
    take_all: bool = False,
) -> frozenset[str]:
    """The extras or dependency groups to install, normalized.

    Args:
        file: the lock, as messages name it.
        kind: what they are.
        asked: normalized names that the command asks for.
        known: what the lock has, as written.
        take_all: whether the command asks for all of them.

    Raises:
        InputError: ``unknown-extra``, ``unknown-group``: one is asked for that the lock does not have.
    """
    there = frozenset(canonicalize_name(name) for name in known)
    missing = sorted(asked - there)
    if missing:
        what = "extra" if kind == "extra" else "dependency group"
        raise InputError(
            f"unknown-{kind}",
            f"{file}: there is no {what} {', '.join(map(repr, missing))}",
            context=f"{what}s there are: {', '.join(sorted(there)) or 'none'}",
            hint=f"leave --{kind} out or correct the name; a new {what} takes a new lock",
        )
    return there if take_all else asked


PYTHON_HINT = "use a Python that it is for (--python), or have the lock made again for this one"


def python_fits(requires: SpecifierSet, interpreter: Interpreter, *, release_only: bool = False) -> bool:
    """Whether an interpreter meets a Requires-Python.

    Args:
        requires: the versions that are allowed.
        interpreter: the target; a development build (``3.15.0+``) counts as after its version.
        release_only: 3.15.0rc1 counts as 3.15.0 (as uv sees it).
    """
    written = interpreter.markers["python_full_version"]
    version = Version(f"{written}local" if written.endswith("+") else written)
    return requires.contains(version.base_version if release_only else version, prereleases=True)
