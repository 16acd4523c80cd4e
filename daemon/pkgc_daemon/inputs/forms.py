"""Forms of a requirement: PEP 508 text told from URLs, paths and mistakes, as pip tells them; pure.

Nothing is looked up on disk, so a bare word is a path only if it looks like one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement

_ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_VCS = re.compile(r"(git|hg|svn|bzr)(\+[a-z]+)?:|(ssh|lp):", re.IGNORECASE)
_ARCHIVE = re.compile(r"\.(whl|zip|tgz|tbz|txz|tlz|tar(\.(gz|bz2|xz|lz|lzma))?)\Z", re.IGNORECASE)
_OPERATORS = ("==", "~=", "!=", "<=", ">=")


class FormError(ValueError):
    """The text is no requirement of any form. The message may quote the text; the hint does not."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class OtherForm(NamedTuple):
    """A requirement that is not a name with versions."""

    kind: str
    """What it is, for a person."""
    marker: Marker | None
    named: bool
    """Whether the project's name can be told from the text alone."""


def classify(text: str) -> Requirement | OtherForm:
    """Tell what kind of requirement `text` is (options already cut off).

    Returns:
        A Requirement without URL, or an OtherForm.

    Raises:
        FormError: neither PEP 508 nor a URL or path, or its marker is wrong.
    """
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, RecursionError) as exc:
        return _bare(text, exc)
    if requirement.url is not None:
        kind = "a VCS requirement" if _VCS.match(requirement.url) else "a direct URL"
        return OtherForm(kind, requirement.marker, named=True)
    if not requirement.specifier and _ARCHIVE.search(requirement.name):
        # `demo.zip` is a valid project name too, but pip takes it as a path.
        return OtherForm("a local path", requirement.marker, named=requirement.name.endswith(".whl"))
    return requirement


def _bare(text: str, error: InvalidRequirement | RecursionError) -> OtherForm:
    """Tell bare URLs and paths, which pip accepts, from mistakes."""
    is_url = _ANY_SCHEME.match(text) is not None
    # A URL may hold a semicolon, so there the marker needs a space after it (as in pip).
    target, _, condition = text.partition("; " if is_url else ";")
    target = target.strip()
    if target.endswith("]") and "[" in target:
        target = target[: target.rfind("[")]
    looks_like_path = "/" in target.partition("@")[0] or target.startswith(".") or _ARCHIVE.search(target)
    if not is_url and not looks_like_path:
        if isinstance(error, RecursionError):
            raise FormError("it nests too deep") from error
        raise FormError(str(error).partition("\n")[0], _hint(text)) from error
    try:
        marker = Marker(condition.strip()) if condition.strip() else None
    except (InvalidMarker, RecursionError) as exc:
        raise FormError("its marker cannot be parsed") from exc
    kind = "a VCS requirement" if _VCS.match(target) else "a URL" if is_url else "a local path"
    return OtherForm(kind, marker, named="#egg=" in target or target.endswith(".whl"))


def _hint(text: str) -> str | None:
    if "\t-" in text:
        return "separate the requirement from its options by a space: a tab does not count"
    if "=" in text and not any(operator in text for operator in _OPERATORS):
        return "= is no operator; did you mean == ?"
    return None
