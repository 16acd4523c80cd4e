"""Locking: from the sources of a call to what it wants, what that is now, and how to ask for it.

Direct references are looked at here: their names, where only the content tells them, and their states, with
which what is installed is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from packaging.utils import canonicalize_name

from pkgc_daemon.errors import InputError, PkgcError
from pkgc_daemon.inputs.given import Lock, LockChoice, RequirementsInput
from pkgc_daemon.inputs.pipconfig import PipConfiguration
from pkgc_daemon.inputs.wanted import missing_hash_error, select_wanted
from pkgc_daemon.vocabulary import STRONG_ALGORITHMS, Digest, SourceState, Wanted

from .asking import Asking, Mode, Obtained
from .calls import InputCall, SyncCall
from .context import Context
from .elsewhere import options_for
from .reading import Remembered, Sources
from .targets import Target
from .working import together


@dataclass(slots=True)
class Asked:
    """What one call wants, with names and states."""

    lock: Lock
    wanted: tuple[Wanted, ...]
    """As in the lock, but every one has its name."""
    asking: Asking
    states: dict[str, SourceState] = field(default_factory=dict)
    """Of the direct references, by name."""
    obtained: dict[str, Obtained] = field(default_factory=dict)
    """What had to be obtained already, because only its content tells its name."""


async def read_lock(context: Context, call: InputCall, target: Target) -> tuple[Lock, Asking]:
    """The lock of a call for its target, and how to ask for what it names."""
    reader = context.services.reader
    sources = call.sources or await reader.default_sources(context.world, call.cwd)
    asked = Sources(tuple(sources), call.constraints, call.cwd, call.no_binary, call.only_binary)
    early = options_for(context.world, context.index_options(call, RequirementsInput(), None), context.env)
    remembered = await reader.read(context.world, asked, context.text_fetcher(call, early))
    pip = await context.pip_configuration(call, remembered.given, target)
    lock = await _lock(context, call, remembered, target, pip)
    for warning in dict.fromkeys((*remembered.given.warnings, *lock.warnings)):
        context.output.warning(warning)
    if remembered.lock_file is None and not remembered.given.lines and not lock.wanted:
        _mind_emptiness(context, sources)
    if pip is not None and pip.ignored:
        context.output.warning(
            f"pkgc takes the index from pip's configuration, but does not read {', '.join(pip.ignored)}",
            "pip-setting-ignored",
        )
    options = options_for(context.world, context.index_options(call, remembered.given, pip), context.env)
    mode: Mode = "offline" if call.offline else "refresh" if call.refresh else "normal"
    asking = Asking(
        target.interpreter,
        options,
        remembered.given,
        mode,
        call.refresh_packages,
        context.services.now(),
        context,
        call.no_build,
        not call.no_build_isolation,
        call.config_settings,
        _reinstall(call),
        target,
    )
    return lock, asking


def _reinstall(call: InputCall) -> bool | frozenset[str]:
    if not isinstance(call, SyncCall):
        return False
    return True if call.reinstall else call.reinstall_packages


def choice_of(call: InputCall, remembered: Remembered) -> LockChoice:
    """What the call chooses of a lock; requirements files have nothing to choose but hash mode.

    Raises:
        InputError: ``conflicting-options``: the command line chooses where there is no choice.
    """
    if remembered.lock_file is not None:
        return LockChoice(
            call.extras,
            call.groups,
            call.all_extras,
            not call.no_default_groups,
            call.require_hashes,
            remembered.given.no_binary,
            remembered.given.only_binary,
            call.no_build,
        )
    for key in ("extra", "group", "all-extras", "no-default-groups"):
        source = call.origins.get(key)
        if source is not None and source.kind == "argv":
            raise InputError(
                "conflicting-options",
                f"--{key} chooses among the extras and groups of a lock, and a requirements file has none",
                hint="name a pylock.toml or uv.lock, or leave the option out",
            )
    return LockChoice(require_hashes=call.require_hashes)


async def _lock(
    context: Context, call: InputCall, remembered: Remembered, target: Target, pip: PipConfiguration | None
) -> Lock:
    """The lock; pip's require-hashes counts where pip's configuration does, unless pkgc is told otherwise."""
    reader, interpreter = context.services.reader, target.interpreter
    given, choice = remembered.given, choice_of(call, remembered)
    asked = call.require_hashes is not None or given.require_hashes or given.no_require_hashes
    if asked or pip is None or pip.require_hashes is None:
        return await reader.lock(remembered, interpreter, choice)
    try:
        lock = await reader.lock(remembered, interpreter, replace(choice, require_hashes=True))
        return replace(lock, hash_cause=f"require-hashes of {pip.require_hashes}, which pkgc obeys,")
    except InputError as error:
        said = f"require-hashes is set by {pip.require_hashes}, which pkgc obeys"
        raise InputError(
            error.code,
            error.message,
            context=f"{error.context}\n{said}" if error.context else said,
            hint=error.hint,
        ) from error


def _mind_emptiness(context: Context, sources: Sequence[str]) -> None:
    """A lock without a requirement empties an environment: from a pipe that is a broken export."""
    if "-" in sources:
        raise InputError(
            "empty-lock",
            "standard input has no requirement",
            hint="the command before the pipe may have failed; to empty an environment, name an empty file",
        )
    context.output.warning(f"{', '.join(sources)}: no requirement; nothing is wanted", "empty-lock")


async def look_at(context: Context, lock: Lock, asking: Asking) -> Asked:
    """Ask every direct reference for its state and its name.

    Raises:
        InputError: ``missing-hash``, with the hashes that the lines should have;
            ``conflicting-requirements``: two lines turn out to be one project.
        PkgcError: a reference cannot be asked, or is no project.
    """
    asked = Asked(lock, lock.wanted, asking)
    if lock.missing:
        raise await _missing_hashes(context, lock, asking)
    direct = [one for one in lock.wanted if one.direct is not None]
    if not direct:
        return asked
    await context.services.prepare(asking.options)

    async def one(wanted: Wanted) -> tuple[Wanted, SourceState, Obtained | None]:
        state, name = await context.services.direct.state(wanted, asking, context.output)
        if wanted.name:
            return wanted, state, None
        if name:
            return replace(wanted, name=canonicalize_name(name)), state, None
        obtained = await context.services.direct.obtain(wanted, state, asking, context.output)
        named = replace(wanted, name=canonicalize_name(obtained.tree.manifest.name))
        return named, state, replace(obtained, wanted=named)

    found = await together(one(wanted) for wanted in direct)
    named = {id(old): new for old, (new, _, _) in zip(direct, found, strict=True)}
    names = {
        new.direct: new.name
        for old, (new, _, _) in zip(direct, found, strict=True)
        if not old.name and new.direct is not None
    }
    if names and asking.given.lines:
        # Now that every line has a name, constraints and further lines of the same project find it.
        asked.wanted = select_wanted(
            asking.given, asking.interpreter.markers, require_hashes=lock.hash_mode, names=names
        ).wanted
    else:
        asked.wanted = tuple(named.get(id(wanted), wanted) for wanted in lock.wanted)
    _check_names(asked.wanted)
    asked.states = {wanted.name: state for wanted, state, _ in found}
    asked.obtained = {wanted.name: obtained for wanted, _, obtained in found if obtained is not None}
    return asked


def _check_names(wanted: Sequence[Wanted]) -> None:
    first: dict[str, Wanted] = {}
    for one in wanted:
        other = first.setdefault(one.name, one)
        if other is not one:
            raise InputError(
                "conflicting-requirements",
                f"{one.place}: {one.text!r} is {one.name} too, which {other.text!r} ({other.place}) names",
                hint="take one of the two lines out",
            )


async def _missing_hashes(context: Context, lock: Lock, asking: Asking) -> PkgcError:
    """The error that says which hashes are missing, and what they would be (H9)."""
    await context.services.prepare(asking.options)

    async def one(wanted: Wanted) -> tuple[Wanted, tuple[Digest, ...]]:
        services = context.services
        try:
            if wanted.direct is not None:
                digests = (await services.direct.state(wanted, asking, context.output))[0].digests
            else:
                digests = await services.obtainer.digests_now(wanted, asking, context.output)
        except PkgcError as error:
            context.output.detail(f"{wanted}: its hash cannot be computed: {error.message}")
            return wanted, ()
        return wanted, tuple(sorted(one for one in digests if one.algorithm in STRONG_ALGORITHMS))

    return missing_hash_error(await together(one(wanted) for wanted in lock.missing), lock.hash_cause)
