"""Forms of a requirement: PEP 508 text, a bare URL or path, an editable, told apart as pip tells them; pure.

Nothing is looked up on disk, so a bare word is a path only if it looks like one. What a URL or path means is
in references.py.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pkgc_daemon.inputs.references import (
    FormError,
    Reference,
    has_scheme,
    is_archive_name,
    looks_like_path,
    parse_reference,
    without_extras,
)

__all__ = ["Form", "FormError", "classify", "classify_editable"]

#: Lines by which locks of other names, and those on standard input, are known.
_LOCK = re.compile(r"(lock-version|version|created-by) = [\"\d]|\[\[(packages?|distribution)\]\]")
#: Characters of a requirement (its marker takes longest), and commas between its extras and specifiers.
_LONGEST = 32 * 1024
_MOST_COMMAS = 1000
_OPERATORS = ("==", "~=", "!=", "<=", ">=")


class Form(NamedTuple):
    """A requirement, taken apart."""

    name: str
    """Normalized; '' when only the content of a direct reference tells it."""
    specifier: SpecifierSet
    extras: frozenset[str]
    """Normalized."""
    marker: Marker | None
    reference: Reference | None = None
    """Set for a direct reference."""


def classify(text: str, cwd: str, *, remote: bool = False) -> Form:
    """Tell what kind of requirement `text` is (options already cut off).

    Args:
        text: one requirement, variables put in.
        cwd: the client's working directory, where relative paths start.
        remote: it stands in a requirements file from the network.

    Raises:
        FormError: neither PEP 508 nor a URL or path, or its marker is wrong; ``conflicting-requirements``:
            the name before the ``@`` is not that of the wheel; ``remote-names-local``.
        InputError: ``no-working-directory``.
    """
    _check_size(text)
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, RecursionError) as exc:
        named = _with_close_marker(text)
        if named is None:
            return _bare(text, exc, cwd, remote)
        requirement = named
    if requirement.url is not None:
        return _direct(requirement, cwd, editable=False, remote=remote)
    if not requirement.specifier and is_archive_name(requirement.name):
        # `demo.zip` is a valid project name too, but pip takes it as a path.
        reference = parse_reference(requirement.name, cwd, remote=remote)
        return Form(reference.name, SpecifierSet(), _extras(requirement), requirement.marker, reference)
    return Form(
        canonicalize_name(requirement.name), requirement.specifier, _extras(requirement), requirement.marker
    )


def classify_editable(text: str, cwd: str, *, remote: bool = False) -> Form:
    """Read what follows ``-e``: a directory, the URL of a repository, or ``name @`` one of them.

    A marker may follow (``./path ; marker``), as in uv; pip drops it without a word.

    Raises:
        FormError: neither of these; its marker is wrong; ``remote-names-local``.
        InputError: ``no-working-directory``.
    """
    _check_size(text)
    requirement: Requirement | None
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, RecursionError):
        requirement = _with_close_marker(text)
    if requirement is not None and requirement.url is not None:
        return _direct(requirement, cwd, editable=True, remote=remote)
    target, marker = _split_marker(text)
    target, extras = without_extras(target)
    reference = parse_reference(target, cwd, editable=True, remote=remote)
    return Form(reference.name, SpecifierSet(), extras, marker, reference)


def _check_size(text: str) -> None:
    """Refuse what would be parsed for seconds."""
    if len(text) > _LONGEST:
        raise FormError(f"it has {len(text)} characters, at most {_LONGEST} are read")
    if (commas := text.partition(";")[0].count(",")) >= _MOST_COMMAS:
        raise FormError(f"it has {commas + 1} extras and version specifiers, at most {_MOST_COMMAS} are read")


def _direct(requirement: Requirement, cwd: str, *, editable: bool, remote: bool) -> Form:
    """``name[extras] @ url ; marker``."""
    url, marker = requirement.url or "", requirement.marker
    if ";" in url and marker is None:
        # PEP 508 wants a blank before the semicolon, pip does not: `name @ url;os_name=='nt'`.
        target, _, condition = url.partition(";")
        try:
            url, marker = target, Marker(condition)
        except (InvalidMarker, RecursionError):
            url = requirement.url or ""
    if not has_scheme(url) and not looks_like_path(url):
        raise FormError("what follows the @ is neither a URL nor a path")
    reference = parse_reference(url, cwd, editable=editable, remote=remote)
    name = canonicalize_name(requirement.name)
    if reference.told_by == "wheel" and reference.name != name:
        raise FormError(
            f"the name before the @ is {name}, but the wheel's file name says {reference.name}",
            code="conflicting-requirements",
        )
    return Form(name, SpecifierSet(), _extras(requirement), marker, reference)


def _with_close_marker(text: str) -> Requirement | None:
    """``name @ url; marker``: pip takes the semicolon for the end of the URL, PEP 508 for a part of it."""
    head, semicolon, condition = text.partition(";")
    if not semicolon or "@" not in head:
        return None
    try:
        requirement = Requirement(head.strip())
        if requirement.url is None:
            return None
        requirement.marker = Marker(condition.strip())
    except (InvalidRequirement, InvalidMarker, RecursionError):
        return None
    return requirement


def _bare(text: str, error: InvalidRequirement | RecursionError, cwd: str, remote: bool) -> Form:
    """Tell bare URLs and paths, which pip accepts, from mistakes."""
    target = without_extras(text.partition(";")[0].strip())[0]
    is_path = looks_like_path(target.partition("@")[0]) or is_archive_name(target)
    if not has_scheme(text) and not is_path:
        if target.startswith("git+"):
            parse_reference(target, cwd)  # raises with a better message
        if isinstance(error, RecursionError):
            raise FormError("it nests too deep") from error
        raise FormError(str(error).partition("\n")[0], _hint(text)) from error
    target, marker = _split_marker(text)
    target, extras = without_extras(target)
    reference = parse_reference(target, cwd, remote=remote)
    return Form(reference.name, SpecifierSet(), extras, marker, reference)


def _split_marker(text: str) -> tuple[str, Marker | None]:
    # A URL may hold a semicolon, so there the marker needs a blank after it (as in pip).
    target, _, condition = text.partition("; " if has_scheme(text) else ";")
    try:
        return target.strip(), Marker(condition.strip()) if condition.strip() else None
    except (InvalidMarker, RecursionError) as exc:
        raise FormError("its marker cannot be parsed") from exc


def _extras(requirement: Requirement) -> frozenset[str]:
    return frozenset(canonicalize_name(extra) for extra in requirement.extras)


def _hint(text: str) -> str | None:
    if _LOCK.match(text) is not None:
        return "this is a lock, not a requirements file: call it pylock.toml, pylock.NAME.toml or uv.lock"
    if "\t-" in text:
        return "separate the requirement from its options by a space: a tab does not count"
    if "=" in text and not any(operator in text for operator in _OPERATORS):
        return "= is no operator; did you mean == ?"
    return None
