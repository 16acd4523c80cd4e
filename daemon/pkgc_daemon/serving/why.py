"""`pkgc why`: where installed packages came from, which line of which lock asked for them, and whether their
files are still what was installed. It changes nothing and asks no index.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from pkgc_daemon.environments.scan import installed_from_wire
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import redact, redact_text
from pkgc_daemon.store.facts import BuildRow, Request
from pkgc_daemon.vocabulary import Installed

from .calls import WhyCall
from .context import Context
from .targets import Target
from .text import Style, columns, harmless, plural

_VERIFY = "verify files"
#: Kinds of origin that are built, whatever their URL looks like.
_BUILT = frozenset({"directory", "vcs"})


async def why(context: Context, call: WhyCall) -> int:
    """Carry out ``pkgc why NAME…``; its exit status, which does not depend on what the files are now.

    Raises:
        PkgcError: ``no-environment``; ``not-installed``: of at least one name (the others are shown first).
    """
    target = await context.services.targets.target(context.world, call.venv, None, context.env, call.cwd)
    if not target.exists:
        raise PkgcError(
            "no-environment",
            f"there is no environment at {call.venv}",
            hint="name one with --venv, or make one with `pkgc sync`",
        )
    paths = target.interpreter.paths
    place = {
        "prefix": target.interpreter.prefix,
        "purelib": paths["purelib"],
        "platlib": paths["platlib"],
    }
    scan = await context.world.do("scan_environment", place)
    if scan.get("interrupted"):
        context.output.warning(
            "a change of this environment was interrupted; the next sync finishes or undoes it",
            "interrupted-change",
        )
    installed = installed_from_wire(scan)
    asked = [one for name in call.names for one in installed if one.name == name]
    if asked:
        compared = await _compare(context, place, asked)
        requests = await context.services.store.requests(target.real)
        packages = [
            await _package(context, one, requests.get(one.name), files)
            for one, files in zip(asked, compared, strict=True)
        ]
        context.output.show({"venv": call.venv, "packages": packages}, render_why)
    missing = [name for name in call.names if all(one.name != name for one in asked)]
    if missing:
        raise _not_installed(missing, call.venv, target, [one.name for one in installed])
    return 0


def _not_installed(missing: Sequence[str], venv: str, target: Target, names: Sequence[str]) -> PkgcError:
    near = {name: get_close_matches(name, sorted(set(names)), n=3) for name in missing}
    guesses = [f"{name}: did you mean {' or '.join(found)}?" for name, found in near.items() if found]
    verb = "is" if len(missing) == 1 else "are"
    return PkgcError(
        "not-installed",
        f"{', '.join(missing)} {verb} not installed in {venv}",
        context="\n".join(guesses) or f"Python {target.interpreter.version}, {plural(len(names), 'package')}",
        hint="`pkgc list` shows what is installed",
    )


async def _compare(
    context: Context, place: Mapping[str, str], asked: Sequence[Installed]
) -> list[dict[str, Any]]:
    """What became of the files of each, as `environments.verify` tells it."""
    output = context.output
    done_before = 0

    def report(done: int, total: int) -> None:
        nonlocal done_before
        output.started(_VERIFY, "installed files", total, verb="Comparing", past="Compared", unit="file")
        output.advanced(_VERIFY, done - done_before)
        done_before = done

    args = {**place, "dist_infos": [one.dist_info for one in asked]}
    try:
        answer = await context.world.do("verify_distributions", args, report)
    finally:
        output.finished(_VERIFY)
    try:
        found = [_files(each) for each in answer["distributions"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _incomplete() from error
    if len(found) != len(asked):
        raise _incomplete()
    return found


def _files(told: Mapping[str, Any]) -> dict[str, Any]:
    """What became of the files of one distribution; the answer may come from another user."""
    problem = told["problem"]
    return {
        "checked": int(told["checked"]),
        "bad": int(told["bad"]),
        "missing": [str(path) for path in told["missing"]],
        "changed": [str(path) for path in told["changed"]],
        "unreadable": [str(path) for path in told["unreadable"]],
        "problem": None if problem is None else str(problem),
    }


def _incomplete() -> PkgcError:
    return PkgcError(
        "verify-failed",
        "the comparison of installed files with their records is not complete",
        hint="client and daemon may be of different versions: `pkgc daemon restart`",
    )


async def _package(
    context: Context, one: Installed, request: Request | None, files: dict[str, Any]
) -> dict[str, Any]:
    """Everything that is known of one distribution: the object of the JSON output."""
    store = context.services.store
    if request is not None and request.version != one.version:
        request = None  # another program put something else there since
    recorded = next((digest.hex for digest in one.hashes if digest.algorithm == "sha256"), None)
    wheel = request.sha256 if request is not None and request.sha256 and one.installer == "pkgc" else None
    built: dict[str, Any] | None = None
    if _is_built(one):
        note = await store.build_of(wheel) if wheel is not None else None
        built = {
            "sha256": wheel,
            "at": store.when_fetched(wheel) if wheel is not None else None,
            "filename": note.filename if note is not None else None,
            "requires": _requires(note),
        }
    fetched = store.when_fetched(recorded) if recorded is not None else None
    if fetched is None and built is None and wheel is not None:
        fetched = store.when_fetched(wheel)
    return {
        "name": one.name,
        "version": one.version,
        "installer": one.installer,
        "origin": _origin(context, one),
        "hashes": {digest.algorithm: digest.hex for digest in sorted(one.hashes)},
        "commit": one.commit,
        "requested": one.requested,
        "subdirectory": one.subdirectory,
        "editable": one.editable,
        "fetched_at": fetched,
        "built": built,
        "asked_by": _asked(request),
        "damaged": one.damaged,
        "files": files,
    }


def _is_built(one: Installed) -> bool:
    """Whether what was installed is no file that anybody published, but was made from one."""
    if one.origin is None:
        return False
    return one.origin.kind in _BUILT or not urlsplit(one.origin.url).path.endswith(".whl")


def _requires(note: BuildRow | None) -> list[dict[str, str]]:
    """The build requirements as the builder noted them."""
    told = note.note.get("requires") if note is not None else None
    return [
        {"name": str(each[0]), "version": str(each[1]), "sha256": str(each[2])}
        for each in (told if isinstance(told, list) else ())
        if isinstance(each, list | tuple) and len(each) == 3
    ]


def _origin(context: Context, one: Installed) -> dict[str, Any] | None:
    if one.origin is None:
        return None
    index = one.origin.index
    told: dict[str, Any] = {"kind": one.origin.kind, "url": redact(one.origin.url), "index": None}
    if index is not None:
        told["index"] = redact(index)
        names = {redact(each.url).rstrip("/"): each.name for each in context.config.indexes if each.name}
        told["index_name"] = names.get(redact(index).rstrip("/"))
    return told


def _asked(request: Request | None) -> dict[str, Any] | None:
    if request is None:
        return None
    return {"place": redact_text(request.place), "text": redact_text(request.text), "at": request.at}


# Text


def render_why(data: Mapping[str, Any], style: Style) -> str:
    """``pkgc why``: a paragraph per package, of aligned keys and values. Nothing is wrapped or shortened.

    `data`: the JSON object of the command: ``{"venv", "packages": [what `_package` makes]}``.
    """
    blocks = []
    for package in data["packages"]:
        head = f"{style('bold', harmless(package['name']))} {harmless(package['version'])}"
        rows = [(style("dim", key), harmless(value)) for key, value in _facts(package)]
        rows.append((style("dim", "files"), _verdict(package["files"], style)))
        lines = [head, *columns(rows, indent="  "), *_differing(package["files"], style)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _facts(package: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "installed by", package["installer"] or "unknown"
    origin = package["origin"]
    if origin is None:
        yield "from", "unknown: its installer recorded nothing"
    else:
        how = ", editable" if package["editable"] else ""
        yield "from", f"{origin['url']} ({_KIND_WORDS.get(origin['kind'], origin['kind'])}{how})"
        if origin["index"] is not None:
            name = origin.get("index_name")
            yield "index", f"{name} ({origin['index']})" if name else origin["index"]
    if package["subdirectory"]:
        yield "subdirectory", package["subdirectory"]
    if package["commit"]:
        wanted = f" (of {package['requested']})" if package["requested"] else ""
        yield "commit", f"{package['commit']}{wanted}"
    yield from package["hashes"].items()
    if package["fetched_at"] is not None:
        yield "fetched", _moment(package["fetched_at"])
    built = package["built"]
    if built is not None:
        when = f" {_moment(built['at'])}" if built["at"] is not None else ""
        yield "built", f"here{when}" if package["installer"] == "pkgc" else "from source"
        if built["sha256"]:
            yield "wheel", f"{built['filename'] or ''} sha256:{built['sha256']}".strip()
        for each in built["requires"]:
            yield "built with", f"{each['name']} {each['version']} sha256:{each['sha256']}"
    asked = package["asked_by"]
    if asked is None:
        yield "asked for by", "no lock that pkgc knows of"
    else:
        yield "asked for by", ": ".join(filter(None, (asked["place"], asked["text"]))) or "a lock"
    if package["damaged"]:
        yield "damaged", package["damaged"]


_KIND_WORDS = {
    "index": "from an index",
    "find-links": "from find-links",
    "url": "a direct URL",
    "path": "a local file",
    "directory": "a directory",
    "vcs": "a repository",
}


def _verdict(files: Mapping[str, Any], style: Style) -> str:
    if files["problem"]:
        return style("yellow", f"cannot be compared: {harmless(files['problem'])}")
    if not files["bad"]:
        return f"all {plural(files['checked'], 'file')} match"
    verb = "is" if files["bad"] == 1 else "are"
    return style("red", f"{files['bad']} of {plural(files['checked'], 'file')} {verb} not what was installed")


def _differing(files: Mapping[str, Any], style: Style) -> list[str]:
    told = [
        f"    {style('red', kind)} {harmless(posixpath.normpath(path))}"
        for kind in ("missing", "changed", "unreadable")
        for path in files[kind]
    ]
    more = files["bad"] - len(told)
    return [*told, f"    and {more} more"] if more > 0 else told


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
