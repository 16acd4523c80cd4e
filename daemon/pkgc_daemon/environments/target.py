"""Whether an interpreter's environment may be changed: refusals only, decided from what a probe told."""

from __future__ import annotations

import os

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.vocabulary import Interpreter

from .running import OLDEST, too_old

_HINT = "name a virtual environment with --venv, or let pkgc create one"


def check_target(interpreter: Interpreter, venv: str) -> None:
    """Refuse what is not a virtual environment at `venv` that pkgc can install into.

    Args:
        interpreter: what the environment's own interpreter told.
        venv: absolute path of the environment, as the person named it.

    Raises:
        PkgcError: ``python-too-old``; ``externally-managed``: the Python belongs to something else, in whose
            own words the refusal is given (PEP 668); ``not-an-environment``: its Python is not in a virtual
            environment (PEP 405); ``wrong-environment``: it is in another one; ``broken-environment``: it
            has no ``python`` (what answered is its python3); ``paths-outside``: it would install outside of
            the environment.
    """
    if _version(interpreter) < OLDEST:
        raise too_old(interpreter.executable, interpreter.version)
    if not interpreter.is_virtual:
        if interpreter.externally_managed is not None:
            raise PkgcError(
                "externally-managed",
                f"{interpreter.executable} is managed by something else and must not be changed",
                context=interpreter.externally_managed.strip() or None,
                hint=_HINT,
            )
        raise PkgcError(
            "not-an-environment",
            f"{venv} is not a virtual environment",
            context=f"{interpreter.executable} installs into {interpreter.prefix}",
            hint=_HINT,
        )
    if os.path.normpath(interpreter.prefix) != os.path.normpath(venv):
        raise PkgcError(
            "wrong-environment",
            f"the Python in {venv} belongs to another environment",
            context=f"expected sys.prefix {venv}, found {interpreter.prefix}",
            hint="environments cannot be moved or copied: remove it and let pkgc create it anew",
        )
    python = os.path.join(os.path.dirname(interpreter.executable), "python")
    if os.path.basename(interpreter.executable) == "python3" and _is_inside(interpreter.executable, venv):
        raise PkgcError(
            "broken-environment",
            f"{python} is missing, and what is installed runs it",
            context=f"found {interpreter.executable}",
            hint=f"restore it (ln -s {os.path.basename(interpreter.executable)} {python}),"
            " or remove the environment and run the command again",
        )
    outside = [
        f"{name}: {path}"
        for name, path in sorted(interpreter.paths.items())
        if not _is_inside(path, interpreter.prefix)
    ]
    if outside:
        raise PkgcError(
            "paths-outside",
            f"the Python in {venv} installs outside of the environment",
            context="\n".join(outside),
            hint="remove the environment and let pkgc create it anew",
        )


def _version(interpreter: Interpreter) -> tuple[int, ...]:
    numbers = interpreter.version.split(".")[:2]
    return tuple(int(number) if number.isdigit() else 0 for number in numbers)


def _is_inside(path: str, prefix: str) -> bool:
    """By whole components, never by characters: ``/venv-evil`` is not in ``/venv`` (CVE-2026-1703)."""
    prefix = os.path.normpath(prefix)
    path = os.path.normpath(path)
    return os.path.isabs(path) and os.path.commonpath((path, prefix)) == prefix
