"""Buildable: what is to become a wheel, what came out, and the rules for both; no I/O.

`cache_key` says when a wheel that was built before is the one wanted now; `check_identity` says whether a
wheel is what was asked for.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Literal

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.selection.filenames import Pin, cut_filename, parse_wheel, ranking
from pkgc_daemon.selection.findlinks import file_url
from pkgc_daemon.vocabulary import Artifact, Interpreter, Origin, Wanted, settings_key

from .asking import Asking, Settings

#: Changes when the same source would be built in another way.
_GENERATION = 1


#: Build requirements of one project, and characters of one: far above what is real.
MAX_REQUIREMENTS, MAX_REQUIREMENT = 1_000, 4_096
REQUIREMENTS = f"at most {MAX_REQUIREMENTS} requirements of at most {MAX_REQUIREMENT} characters"


def are_requirements(value: object) -> bool:
    """Whether what a project or a backend calls its build requirements can be looked at without harm."""
    return (
        isinstance(value, list | tuple)
        and len(value) <= MAX_REQUIREMENTS
        and all(isinstance(one, str) and len(one) <= MAX_REQUIREMENT for one in value)
    )


@dataclass(frozen=True, slots=True)
class Buildable:
    """A source that is to become a wheel."""

    kind: Literal["archive", "directory", "git"]
    identity: str
    """What its content is: equal identities, equal content. A directory's holds its fingerprint."""
    label: str
    """How messages call it; without credentials."""
    path: str = ""
    """Of the archive or the directory, in the client's world."""
    filename: str = ""
    """Of an archive."""
    subdirectory: str | None = None
    editable: bool = False
    url: str | None = None
    """Of a repository; may hold credentials."""
    commit: str | None = None
    """Of a repository, whole."""
    requested: str | None = None
    """The branch or tag that led to the commit, if one did: where it is fetched from."""
    origin: Origin | None = None
    """What the store writes down about the wheel."""


@dataclass(frozen=True, slots=True)
class Built:
    """A wheel that was built, now or before; the store has it, unpacked."""

    artifact: Artifact
    filename: str
    from_cache: bool
    requires: tuple[tuple[str, str, str], ...] = ()
    """(name, version, sha256) of what it was built with."""


def interpreter_facts(interpreter: Interpreter) -> tuple[str, ...]:
    """What a built wheel depends on of an interpreter."""
    return (
        interpreter.implementation,
        interpreter.version,
        interpreter.cache_tag,
        interpreter.tags[0] if interpreter.tags else "",
        interpreter.base_prefix,
    )


def cache_key(source: Buildable, asking: Asking, settings: Settings) -> str:
    """What a built wheel is kept under: everything that it depends on, as far as that can be known.

    The user is part of it: nobody gets a wheel that code of another user made. (Calls of other users are not
    admitted by `session`, so this process's uid is theirs.)
    """
    facts = (
        _GENERATION,
        os.getuid(),
        source.kind,
        source.identity,
        source.path if source.kind == "directory" else "",
        source.subdirectory or "",
        source.editable,
        interpreter_facts(asking.interpreter),
        settings_key(settings),
        "" if asking.isolated else asking.interpreter.prefix,
        asking.world_identity,
    )
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()


def title_of(source: Buildable, wanted: Wanted) -> str:
    if wanted.name and wanted.version:
        return f"{wanted.name} {wanted.version}"
    return f"{wanted.name} ({source.label})" if wanted.name else source.label


def origin_of(source: Buildable) -> Origin:
    if source.kind == "git":
        return Origin("vcs", f"git+{redact(source.url or '')}@{source.commit or ''}")
    if source.url is not None:
        return Origin("url", redact(source.url))
    return Origin("directory" if source.kind == "directory" else "path", file_url(source.path))


def check_identity(filename: str, source: Buildable, wanted: Wanted, interpreter: Interpreter) -> None:
    """Hold a built wheel against what was asked for; the store holds its name against its METADATA (W7).

    Raises:
        PkgcError: ``metadata-mismatch``, ``build-failed``, ``no-matching-wheel``.
    """
    title = title_of(source, wanted)
    name = parse_wheel(filename)
    if name is None:
        raise PkgcError("build-failed", f"{title}: {filename} is no valid file name of a wheel")
    version = wanted.version
    if not version and wanted.direct is None and (pieces := cut_filename(source.filename)) is not None:
        version = pieces.version  # a lock that names the source archive of a version, and nothing else
    if wanted.name and name.name != wanted.name:
        raise _mismatch(title, "project", wanted.name, name.name)
    if version and not Pin(Wanted(name.name, version, arbitrary=wanted.arbitrary)).matches(str(name.version)):
        raise _mismatch(title, "version", version, str(name.version))
    if ranking(interpreter).rank(name.tags) is None:
        raise PkgcError(
            "no-matching-wheel",
            f"{title}: the wheel that was built, {filename}, is not for {interpreter.executable}",
            context=f"expected: a tag such as {interpreter.tags[0]}\nfound: {name.tags}",
            hint="the project's build settings may name another platform",
        )


def _mismatch(title: str, what: str, expected: str, found: str) -> PkgcError:
    return PkgcError(
        "metadata-mismatch",
        f"{title}: building it gave another {what}",
        context=f"expected: {expected}\nfound: {found}",
        hint="the source is not what its name or the lock says; ask its publisher, or lock again",
    )
