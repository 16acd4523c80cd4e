"""Where the parts of a wheel go inside one environment, as paths below its prefix; it touches no file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pkgc_daemon.errors import PkgcError

#: pkgc's own folder in an environment; it is there during a transaction only.
WORK = ".pkgc"
LOCK = ".lock"
#: What nothing may be put into or in place of, at the top of an environment; `.pkgc-create` is where one is
#: built (environments/create.py).
_OWN = frozenset({WORK, LOCK, ".pkgc-create", "pyvenv.cfg"})

# Interpreters and activation scripts of an environment, whatever their case (peers.md section 6).
_RESERVED = re.compile(
    r"(?:python|pypy|graalpy)w?(?:\d+(?:\.\d+)*t?)?(?:\.exe|\.py)?\Z"
    r"|(?:de)?activate(?:\.[^/]*)?\Z"
    r"|activate_this\.py\Z",
    re.IGNORECASE,
)


class Layout(NamedTuple):
    """One environment's installation scheme; every folder is relative to `prefix`, '' being itself."""

    prefix: str
    """Absolute, symlinks resolved."""
    purelib: str
    platlib: str
    scripts: str
    data: str
    headers: str
    """Parent of each project's folder of headers."""

    @property
    def sites(self) -> tuple[str, ...]:
        """The folders that hold .dist-info folders (one, where purelib and platlib are the same)."""
        return (self.purelib,) if self.purelib == self.platlib else (self.purelib, self.platlib)

    @property
    def fixed(self) -> frozenset[str]:
        """Folders that belong to the environment, not to a distribution: never removed."""
        found = {""}
        for folder in (self.purelib, self.platlib, self.scripts, self.data, self.headers.partition("/")[0]):
            while folder:
                found.add(folder)
                folder = os.path.dirname(folder)
        return frozenset(found)

    def is_reserved(self, path: str) -> bool:
        """Whether `path` is the environment's own, or below what is: its interpreter, activation,
        pyvenv.cfg, lib64.
        """
        head = path.partition("/")[0]
        if head.lower() in _OWN or path in ("lib64", "lib"):
            return True
        start = f"{self.scripts}/" if self.scripts else ""
        return path.startswith(start) and _RESERVED.match(path[len(start) :].partition("/")[0]) is not None

    def inside(self, path: str) -> str | None:
        """`path` (absolute) relative to the prefix, compared by segments; None when it is outside."""
        path = os.path.normpath(path)
        if path == self.prefix:
            return ""
        start = self.prefix.rstrip("/") + "/"
        return path[len(start) :] if path.startswith(start) else None


def layout_of(interpreter: Mapping[str, Any]) -> Layout:
    """The layout of the environment that a probe describes.

    Args:
        interpreter: the wire form of `Interpreter`.

    Raises:
        PkgcError: ``outside-environment`` when a scheme's folder is not below the prefix.
    """
    prefix = os.path.realpath(interpreter["prefix"])
    paths: Mapping[str, str] = interpreter["paths"]

    def below(folder: str) -> str:
        # lib64 -> lib is resolved here, once; nothing below follows a symlink again.
        real = os.path.realpath(folder)
        if real == prefix:
            return ""
        if not real.startswith(prefix.rstrip("/") + "/"):
            raise PkgcError(
                "outside-environment",
                f"{folder} is not inside the environment {prefix}",
                hint="pkgc installs into virtual environments only, and never outside of them",
            )
        return real[len(prefix.rstrip("/")) + 1 :]

    minor = ".".join(str(interpreter["version"]).split(".")[:2])
    return Layout(
        prefix=prefix,
        purelib=below(paths["purelib"]),
        platlib=below(paths["platlib"]),
        scripts=below(paths["scripts"]),
        data=below(paths.get("data") or interpreter["prefix"]),
        # As pip has it (locations/_sysconfig.py): the base interpreter's include folder is not ours.
        headers=below(os.path.join(prefix, "include", "site", f"python{minor}")),
    )
