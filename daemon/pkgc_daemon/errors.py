"""Errors: one class, carrying a stable code, what a person reads, and the exit status it means.

Low-level exceptions are translated where they happen (`raise … from`), so that above the seams every
failure is a `PkgcError`.  Shape after pip's diagnostic errors: a machine id and human parts.
"""

from __future__ import annotations

import re
from typing import Any

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")


class PkgcError(Exception):
    """A failure that a user can read and a program can match.

    Args:
        code: stable kebab-case identifier, e.g. ``hash-mismatch``.
        message: one sentence; names the file and line or the URL (without credentials).
        context: the facts, one per line: expected and found values, every file tried.
        hint: what to do about it, or ``None``.
        exit_status: 1 the operation failed; 2 wrong usage, unreadable or invalid input.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        context: str | None = None,
        hint: str | None = None,
        exit_status: int = EXIT_FAILED,
    ) -> None:
        assert _CODE.match(code), code
        super().__init__(message)
        self.code = code
        self.message = message
        self.context = context
        self.hint = hint
        self.exit_status = exit_status

    def to_wire(self) -> dict[str, Any]:
        """The error as a msgpack-able map (the reverse of `from_wire`)."""
        return {
            "code": self.code,
            "message": self.message,
            "context": self.context,
            "hint": self.hint,
            "exit": self.exit_status,
        }

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> PkgcError:
        """Rebuild an error that came over the wire; a malformed code becomes ``remote-error``."""
        code = str(data.get("code", ""))
        context, hint = data.get("context"), data.get("hint")
        return cls(
            code if _CODE.match(code) else "remote-error",
            str(data.get("message", "")),
            context=None if context is None else str(context),
            hint=None if hint is None else str(hint),
            exit_status=int(data.get("exit", EXIT_FAILED)),
        )


class InputError(PkgcError):
    """Wrong usage, or an input that cannot be read or is invalid: exit status 2."""

    def __init__(
        self, code: str, message: str, *, context: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(code, message, context=context, hint=hint, exit_status=EXIT_USAGE)
