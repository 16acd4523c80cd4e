"""Builds: from a source (archive, directory, commit) to a wheel in the store, in the client's world.

The order of things: what was built before; the work folder; the source; what the backend requires; its hooks;
the wheel, compared with what was asked for and published.  Built wheels are kept apart by user, source,
interpreter and settings; the same build is done once, however many want it.  The code of a project runs in
the client only (design.md 3); choosing what is built is not this module's business.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pkgc_daemon.building.shared import Shared
from pkgc_daemon.errors import PkgcError
from pkgc_daemon.fetching.flights import Fetcher
from pkgc_daemon.redaction import redact
from pkgc_daemon.reporting import Silent
from pkgc_daemon.selection.findlinks import file_url
from pkgc_daemon.selection.versions import VersionLists
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import Artifact, Digest, VcsSource, Wanted

from .asking import Asking, Obtained, Settings
from .buildable import (
    REQUIREMENTS,
    Buildable,
    Built,
    are_requirements,
    cache_key,
    check_identity,
    origin_of,
    title_of,
)
from .buildenv import BuildEnvironment, BuildEnvironments, Obtain, needed
from .text import format_duration

if TYPE_CHECKING:
    from packaging.version import Version

    from .context import Context

__all__ = ["Buildable", "Builder", "Built"]

#: Errors that another attempt would end with as well: whoever waits for the same build gets them too.
_LASTING = frozenset({"build-failed", "build-timeout", "editable-unsupported"})
#: Errors after which the output of the build is worth reading.
_LOGGED = frozenset({"build-failed", "build-timeout"})


class Builder:
    """Builds wheels; shared by all calls.

    It needs what in turn needs it: build requirements may have to be built themselves. So `obtain` is set
    after the constructor, by `connect`, before the first build.

    Args:
        store: keeps the wheels, and what is known of them.
        fetcher: takes them into the store.
        versions: what the sources offer of build requirements: ``VersionLists(index_client)``.
        concurrent: hooks that run at once; None: one for each processor.
        timeout: seconds for one hook; None: `building.hooks.TIMEOUT`.
    """

    def __init__(
        self,
        store: Store,
        fetcher: Fetcher,
        versions: VersionLists,
        *,
        concurrent: int | None = None,
        timeout: float | None = None,
    ) -> None:
        self.store = store
        self.fetcher = fetcher
        self._versions = versions
        self.timeout = timeout
        self._shared = Shared(_LASTING)
        # Held while a hook runs, and never while one build waits for another one.
        self.slots = asyncio.Semaphore(concurrent or os.cpu_count() or 1)
        self._environments: BuildEnvironments | None = None

    def connect(self, obtain: Obtain) -> None:
        """Give it the way to the trees of build requirements.

        Args:
            obtain: (wanted, asking) -> Obtained. Its Wanted is a pin, or (`Wanted.source`) an archive at a
                URL; it may come back to this builder.
        """
        self._environments = BuildEnvironments(self.store, self._versions, self._shared, obtain)

    async def wheel(self, source: Buildable, asking: Asking, settings: Settings, wanted: Wanted) -> Built:
        """The wheel of `source` for the target of `asking`.

        Args:
            source: what is built.
            asking: whose world builds (`Asking.context`), for which interpreter, by which rules.
            settings: for the backend, in their order.
            wanted: what the wheel must be; '' for name or version: whatever it is.

        Raises:
            PkgcError: ``build-not-allowed``, ``build-failed``, ``build-timeout``, ``editable-unsupported``,
                ``build-requirements``, ``build-cycle``, ``metadata-mismatch``, ``no-matching-wheel``,
                ``no-build-environment``, and what getting source and requirements raises.
        """
        title = title_of(source, wanted)
        key = cache_key(source, asking, settings)
        known = await self._known(key, source, wanted, asking)
        if known is not None:
            return known
        if asking.no_build or asking.context is None:
            raise PkgcError(
                "build-not-allowed",
                f"{title} would have to be built, which --no-build forbids",
                context=f"source: {source.label}\nbuilding runs code of the project",
                hint="leave --no-build out, or use a wheel",
            )
        context = asking.context

        async def work() -> Built:
            # Somebody else may have built it while this call waited for its turn.
            again = await self._known(key, source, wanted, asking)
            return again or await _Build(self, source, asking, context, settings, wanted, title).run(key)

        built = await self._shared.run(("build", key), title, work)
        check_identity(built.filename, source, wanted, asking.interpreter)
        return built

    async def known(
        self, source: Buildable, asking: Asking, settings: Settings, wanted: Wanted
    ) -> Built | None:
        """What `wheel` would give without building anything.

        Raises:
            PkgcError: ``metadata-mismatch``, ``no-matching-wheel``.
        """
        return await self._known(cache_key(source, asking, settings), source, wanted, asking)

    async def resolve_commit(self, source: VcsSource, asking: Asking) -> str:
        """The whole commit that a revision means which only the repository itself can tell (a short commit).

        Raises:
            PkgcError: it cannot be had, or is not there.
        """
        assert asking.context is not None
        world = asking.context.world
        work = await _begin(asking.context)
        try:
            found = await world.do("checkout_git", self.git_args(source, None, work, asking))
        finally:
            await _end(asking.context, work, keep_log=False)
        return str(found["commit"])

    def git_args(
        self, source: Buildable | VcsSource, commit: str | None, work: str, asking: Asking
    ) -> dict[str, Any]:
        """The arguments of `checkout_git`."""
        assert source.url is not None
        return {
            "url": source.url,
            "commit": commit,
            "requested": source.requested,
            "repository": str(self.store.layout.repository(source.url)),
            "work": work,
            "offline": asking.mode == "offline",
            "subdirectory": source.subdirectory,
        }

    async def _known(self, key: str, source: Buildable, wanted: Wanted, asking: Asking) -> Built | None:
        """What was built under `key` before, if the store still has it and it is good enough for this call.

        What was built without isolation is not: it depends on what the environment held then.
        """
        if asking.rebuilds(wanted.name) or not asking.isolated:
            return None
        row = await self.store.built(key)
        if row is None or not self._may_require(row.note.get("requires", ()), asking):
            return None
        sha256 = row.sha256
        await self.store.settle([Digest("sha256", sha256)])
        artifact = self.store.artifact(sha256)
        if artifact is None:
            if await self.store.load_tree(sha256) is None:
                return None
            # The file was evicted before its tree: whoever wants the tree finds it by its digest.
            path = self.store.layout.artifact(sha256)
            artifact = Artifact(sha256, int(row.note.get("size", 0)), path, self.store.digests(sha256))
        else:
            try:
                await self.store.ensure_tree(artifact, row.filename)
            except PkgcError as error:
                if error.code != "artifact-damaged":
                    raise
                return None
        check_identity(row.filename, source, wanted, asking.interpreter)
        requires = tuple((str(one[0]), str(one[1]), str(one[2])) for one in row.note.get("requires", ()))
        return Built(artifact, row.filename, True, requires)

    def _may_require(self, requires: Sequence[Sequence[str]], asking: Asking) -> bool:
        """Whether build requirements of projects that are pinned to an index came from that one."""
        for name, _version, sha256 in requires:
            if (index := asking.options.pins.get(name)) is None:
                continue
            wanted = redact(index).rstrip("/")
            known = (*(origin for origin, _ in self.store.origins(sha256)), *self.store.sources(sha256))
            if not any((origin.index or "").rstrip("/") == wanted for origin in known):
                return False
        return True

    @property
    def environments(self) -> BuildEnvironments:
        """What makes build environments."""
        assert self._environments is not None, "connect() comes first"
        return self._environments


class _Build:
    """One build: the steps, and what they have in common."""

    def __init__(
        self,
        builder: Builder,
        source: Buildable,
        asking: Asking,
        context: Context,
        settings: Settings,
        wanted: Wanted,
        title: str,
    ) -> None:
        self.builder = builder
        self.source = source
        self.asking = asking
        self.context = context
        self.settings = settings
        self.wanted = wanted
        self.title = title
        self.work = ""
        self.folder = ""
        """Where the project is."""
        self.project: Mapping[str, Any] = {}
        self._line = 0

    async def run(self, key: str) -> Built:
        """Build, publish, remember; the work folder is gone afterwards (but for the log of a failure)."""
        output, began = self.context.output, time.monotonic()
        shown = f"build {self.source.identity}"
        self._check_environment()
        self.work = await _begin(self.context)
        keep_log = False
        output.started(shown, self.title, None, verb="Building", past="Built", unit="line")
        try:
            with ExitStack() as leases:
                await self._prepare()
                environment = await self._environment(leases)
                wheel = await self._hook(self._hook_name("build"), environment, shown)
                built = await self._publish(wheel["wheel"], environment)
        except PkgcError as error:
            keep_log = error.code in _LOGGED
            raise
        finally:
            output.finished(shown)
            await _end(self.context, self.work, keep_log=keep_log)
        seconds = time.monotonic() - began
        note = {
            "source": self.source.label,
            "identity": self.source.identity,
            "requires": [list(one) for one in built.requires],
            "python": self.asking.interpreter.version,
            "backend": self.project["backend"],
            "seconds": round(seconds, 3),
            "size": built.artifact.size,
        }
        await self.builder.store.remember_build(key, built.artifact.sha256, built.filename, note)
        output.detail(f"Built {self.title} in {format_duration(seconds)}")
        return built

    def _check_environment(self) -> None:
        """Without isolation the hooks run in the target, which must be there.

        Raises:
            PkgcError: ``no-build-environment``.
        """
        target = self.asking.target
        if not self.asking.isolated and (target is None or not target.exists):
            raise PkgcError(
                "no-build-environment",
                f"{self.title}: --no-build-isolation builds in the environment, which does not exist yet",
                hint="make it first, with what the build requires, or leave --no-build-isolation out",
            )

    async def _prepare(self) -> None:
        source, world = self.source, self.context.world
        kind, path = source.kind, source.path
        if source.kind == "git":
            args = self.builder.git_args(source, source.commit, self.work, self.asking)
            kind_, path = "git-checkout", (await world.do("checkout_git", args))["path"]
        else:
            kind_ = kind
        prepared = await world.do(
            "prepare_source",
            {
                "kind": kind_,
                "path": path,
                "filename": source.filename,
                "subdirectory": source.subdirectory,
                "work": self.work,
                "name": self.wanted.name or None,
                "version": None if self.wanted.arbitrary else self.wanted.version or None,
                "label": source.label,
            },
        )
        project = prepared.get("project")
        if (
            not isinstance(prepared.get("source"), str)
            or not isinstance(project, dict)
            or not isinstance(project.get("backend"), str)
            or not are_requirements(project.get("requires"))
        ):
            raise PkgcError(
                "build-failed",
                f"{self.title}: its project cannot be built",
                context=f"expected: a backend and {REQUIREMENTS}\nfound: {repr(project)[:200]}",
            )
        self.folder, self.project = prepared["source"], project

    async def _environment(self, leases: ExitStack) -> BuildEnvironment:
        """The environment of the hooks, with everything that they require."""
        interpreter = self.asking.interpreter
        if not self.asking.isolated:
            return BuildEnvironment(interpreter.executable, interpreter.paths["scripts"])
        environments, own = self.builder.environments, self.project["requires"]
        required = await self._required(own, {}, leases)
        environment = await environments.make(self.work, required, self.asking)
        more = (await self._hook(self._hook_name("get_requires_for_build"), environment, ""))["requires"]
        if more:
            # Together with the others, whose versions they may not contradict.
            required = await self._required([*own, *more], environment.versions, leases)
            environment = await environments.change(environment, self.work, required, self.asking)
        return environment

    async def _required(
        self, requirements: Sequence[str], preferred: Mapping[str, Version], leases: ExitStack
    ) -> tuple[Obtained, ...]:
        try:
            found = await self.builder.environments.required(requirements, self.asking, self.title, preferred)
        except PkgcError as error:
            raise needed(error, self.title) from error
        leases.enter_context(self.builder.store.lease([one.tree.sha256 for one in found]))
        return found

    def _hook_name(self, what: str) -> str:
        return f"{what}_{'editable' if self.source.editable else 'wheel'}"

    async def _hook(self, hook: str, environment: BuildEnvironment, shown: str) -> dict[str, Any]:
        def report(lines: int, _total: int) -> None:
            self.context.output.advanced(shown, lines - self._line)
            self._line = lines

        args = {
            "work": self.work,
            "source": self.folder,
            "python": environment.python,
            "path": environment.scripts,
            "project": dict(self.project),
            "hook": hook,
            "settings": [list(pair) for pair in self.settings],
            "timeout": self.builder.timeout,
            "label": self.title,
        }
        async with self.builder.slots:
            answer = await self.context.world.do("run_build", args, report if shown else None)
        return self._checked(answer, "wheel" if hook.startswith("build") else "requires")

    def _checked(self, answer: dict[str, Any], key: str) -> dict[str, Any]:
        """What a hook gave back, which code of others made: of the right kind, and of a sane size.

        Raises:
            PkgcError: ``build-failed``.
        """
        value = answer.get(key)
        if key == "wheel" and isinstance(value, str):
            return answer
        if key == "requires" and are_requirements(value):
            return answer
        raise PkgcError(
            "build-failed",
            f"{self.title}: its build backend gave back something else than it should",
            context=f"expected: {'the path of a wheel' if key == 'wheel' else REQUIREMENTS}\n"
            f"found: {type(value).__name__} {repr(value)[:200]}",
        )

    async def _publish(self, wheel: str, environment: BuildEnvironment) -> Built:
        """Take the wheel into the store, if it is what was asked for."""
        store, source = self.builder.store, self.source
        filename = os.path.basename(wheel)
        if wheel != f"{self.work}/dist/{filename}":
            raise PkgcError(
                "build-failed", f"{self.title}: the wheel is not where it was to be built: {wheel}"
            )
        check_identity(filename, source, self.wanted, self.asking.interpreter)
        artifact = await self._fetch(wheel, filename)
        await store.ensure_tree(artifact, filename)
        requires = tuple(
            (one.tree.manifest.name, one.version, one.tree.sha256) for one in environment.installed
        )
        return Built(artifact, filename, False, requires)

    async def _fetch(self, wheel: str, filename: str) -> Artifact:
        world, path = self.context.world, wheel
        draft = None
        if not world.is_own:
            # That path means nothing here, and what it may mean the daemon must not open (design.md 3).
            data = (await world.read_files([wheel]))[0]
            assert data is not None
            draft = self.builder.store.layout.draft()
            await asyncio.to_thread(draft.write_bytes, data)
            path = str(draft)
        url, source = file_url(path), self.source.origin or origin_of(self.source)
        try:
            with self.builder.store.built_of(url, source):
                return await self.builder.fetcher.fetch(
                    url,
                    allowed=frozenset(),
                    advertised=frozenset(),
                    size=None,
                    exact_size=False,
                    filename=filename,
                    options=self.asking.options,
                    reporter=Silent(),
                )
        finally:
            if draft is not None:
                await asyncio.to_thread(draft.unlink, True)


async def _begin(context: Context) -> str:
    work = (await context.world.do("begin_build", {})).get("work")
    if not isinstance(work, str) or not work.startswith("/"):
        raise PkgcError("no-work-folder", f"the client named no folder to build in: {repr(work)[:100]}")
    return work


async def _end(context: Context, work: str, *, keep_log: bool) -> None:
    try:
        await context.world.do("end_build", {"work": work, "keep_log": keep_log})
    except PkgcError as error:  # the next build on that machine sweeps it
        context.output.detail(f"{work} could not be removed: {error.message}")
