"""Failures of selection: "nothing fits" becomes an error that shows all there was to choose from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packaging.version import Version

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact
from pkgc_daemon.selection.candidates import Choice, Rejected, Source
from pkgc_daemon.selection.filenames import parse_version
from pkgc_daemon.selection.ports import PageResponse
from pkgc_daemon.vocabulary import Interpreter, Wanted

#: How many versions around the wanted one a message names.
_NEAREST = 8
#: How many of the target's tags a message names.
_TAGS = 5
#: How many files a message shows.
_FILES = 20


def unknown_package(
    wanted: Wanted, asked: Sequence[Source], notes: Sequence[str], pinned: Source | None = None
) -> PkgcError:
    """No source has the project. `pinned`: the index that alone may serve it."""
    if pinned is not None:
        return PkgcError(
            "unknown-package",
            f"{_place(wanted)}{wanted.name} is pinned to the index {pinned.label}, "
            f"{'which does not have it' if asked else 'and --no-index forbids to ask it'}",
            context="\n".join([*_asked(asked), *notes]),
            hint="correct the pin: --pin-index, or packages of an [[index]] in config.toml",
        )
    return PkgcError(
        "unknown-package",
        f"{_place(wanted)}{wanted.name}: no index has a project of this name",
        context="\n".join([*_asked(asked), *notes]),
        hint="check the spelling, and that the right index is given (-i/--index-url, --extra-index-url)"
        if asked
        else "give an index (-i/--index-url) or files (-f/--find-links), or leave --no-index out",
    )


def no_matching_version(
    wanted: Wanted, asked: Sequence[Source], versions: Iterable[str], notes: Sequence[str]
) -> PkgcError:
    """The project is there, the pinned version is not. `versions`: all that are, as written."""
    texts = set(versions)
    if texts:
        near, newest = nearest(wanted.version, texts)
        found = f"available, nearest first: {', '.join(near)}"
        if len(texts) > len(near):
            found += f" (of {len(texts)}; newest: {newest})"
    else:
        found = "available: no files at all"
    return PkgcError(
        "no-matching-version",
        f"{_place(wanted)}{wanted}: no file of this version on the indexes asked",
        context="\n".join([f"wanted: {wanted.version}", found, *_asked(asked), *notes]),
        hint="the release may have been deleted, or it is on another index; else lock again",
    )


def nothing_fits(
    wanted: Wanted, interpreter: Interpreter, asked: Sequence[Source], choice: Choice, notes: Sequence[str]
) -> PkgcError:
    """The version has files, none of which may be used; `choice.rejected` says why."""
    kinds: set[str] = {one.kind for one in choice.rejected}
    if kinds == {"hash"}:
        return PkgcError(
            "no-allowed-hash",
            f"{_place(wanted)}{wanted}: none of its files has an allowed hash",
            context="\n".join(
                [
                    "allowed:",
                    *(f"  {digest}" for digest in sorted(wanted.hashes)),
                    "found:",
                    *_files(choice.rejected),
                    *_asked(asked),
                    *notes,
                ]
            ),
            hint="if you trust the files of the index, lock again; else find out who changed them",
        )
    usable = [one for one in choice.rejected if one.kind != "hash"]
    others = [one for one in choice.rejected if one.kind == "hash"]
    lines = ["found:", *_files(usable)]
    if others:
        lines += ["found, with hashes that are not allowed:", *_files(others)]
    return PkgcError(
        "no-matching-wheel",
        f"{_place(wanted)}{wanted}: no {'file' if 'no-binary' in kinds else 'wheel'} "
        f"{_unfit(kinds, interpreter)}",
        context="\n".join([*lines, *_target(kinds, interpreter), *_asked(asked), *notes]),
        hint=_hint(kinds, bool(others)),
    )


def nothing_listed(wanted: Wanted, choice: Choice, interpreter: Interpreter) -> PkgcError:
    """The lock lists files, none of which may be used; `choice` is what `listed.listed_choice` gave."""
    kinds: set[str] = {one.kind for one in choice.rejected}
    lines = ["listed:", *_files(choice.rejected)] if choice.rejected else ["listed: no files at all"]
    return PkgcError(
        "no-matching-wheel",
        f"{_place(wanted)}{wanted}: no file of the lock {_unfit(kinds, interpreter)}",
        context="\n".join([*lines, *_target(kinds, interpreter)]),
        hint=_hint(kinds, False)
        if kinds & {"sdist", "no-binary"}
        else "lock again for this platform and Python version, or use a Python that it is for (--python)",
    )


def refusal(response: PageResponse) -> PkgcError:
    """An index answered, but neither with a page nor with "no such project"."""
    where, status = redact(response.url), response.status
    if status == 401:
        return PkgcError(
            "index-unauthorized",
            f"{where} wants credentials, or does not accept the given ones (HTTP 401)",
            hint="put credentials into the index URL or into the netrc file",
        )
    if status == 403:
        return PkgcError(
            "index-forbidden",
            f"{where} refuses access (HTTP 403)",
            hint="check that the credentials for this index may read this project",
        )
    return PkgcError(
        "index-error",
        f"{where} answered with HTTP {status}",
        context=f"expected: HTTP 200, 304 or 404\nfound: HTTP {status}",
        hint="try again later, or use another index"
        if status >= 500 or status == 429
        else "check that the index URL is the root of a Simple repository API",
    )


def nearest(wanted: str, texts: Iterable[str]) -> tuple[list[str], str]:
    """The versions around `wanted` in version order, nearest first, and the newest one of all."""
    parsed: dict[Version, str] = {}
    strange = []
    for text in sorted(texts):
        version = parse_version(text)
        if version is None:
            strange.append(text)
        else:
            parsed.setdefault(version, str(version))
    ordered = sorted(parsed)
    target = parse_version(wanted)
    if target is None or not ordered:
        near = [parsed[version] for version in reversed(ordered)] + strange
        return near[:_NEAREST], near[0] if near else ""
    here = sum(version < target for version in ordered)
    below, above = ordered[:here][::-1], ordered[here:]
    near = []
    for step in range(_NEAREST):
        near += [parsed[side[step]] for side in (above, below) if step < len(side)]
    return near[:_NEAREST], parsed[ordered[-1]]


def _unfit(kinds: set[str], interpreter: Interpreter) -> str:
    target = f"fits {interpreter.implementation} {interpreter.version}"
    return f"{target}, and builds are forbidden" if "sdist" in kinds else target


def _target(kinds: set[str], interpreter: Interpreter) -> list[str]:
    lines = []
    if "tags" in kinds:
        tags = ", ".join(interpreter.tags[:_TAGS])
        more = len(interpreter.tags) - _TAGS
        lines.append(f"the target supports: {tags}" + (f" and {more} more" if more > 0 else ""))
    lines.append(f"target: {interpreter.executable} ({interpreter.implementation} {interpreter.version})")
    return lines


def _hint(kinds: set[str], others: bool) -> str:
    if "no-binary" in kinds and "sdist" in kinds:
        return "wheels and builds are both excluded: leave --no-binary, or --only-binary and --no-build, out"
    if "no-binary" in kinds:
        return "leave --no-binary out for this project: no source archive of it can be used"
    if "sdist" in kinds:
        return (
            "allow the build (leave --no-build and --only-binary out for this project), or use another Python"
        )
    if others and "tags" not in kinds and "python" not in kinds:
        return "the lock allows only files that do not fit; lock again for this platform and Python version"
    if kinds <= {"format", "hash"}:
        return "build a wheel of it elsewhere, and offer it with --find-links"
    return "use a Python that one of the wheels is for (--python), or pin a version with wheels for this one"


def _place(wanted: Wanted) -> str:
    return f"{wanted.place}: " if wanted.place.file else ""


def _files(rejected: Sequence[Rejected]) -> Iterable[str]:
    several = len({one.index for one in rejected}) > 1
    ordered = sorted(rejected, key=lambda one: (one.filename, one.index))
    for one in ordered[:_FILES]:
        where = f" on {one.index}" if several else ""
        yield f"  {one.filename}{where}: {one.reason}"
        for digest in sorted(one.hashes):
            yield f"    {digest}"
    if len(ordered) > _FILES:
        yield f"  and {len(ordered) - _FILES} more"


def _asked(asked: Sequence[Source]) -> list[str]:
    return [f"asked: {source.label}" for source in asked] or ["asked: nothing (no index, no find-links)"]
