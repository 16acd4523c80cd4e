"""Reading: the sources of a call become a Lock; what was parsed once is remembered by its contents.

A file that has not changed is read (its bytes are the evidence) but not parsed again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os.path
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pkgc_daemon.errors import InputError, PkgcError
from pkgc_daemon.inputs.given import Lock, LockChoice, RequirementsInput
from pkgc_daemon.inputs.locations import is_url, joined
from pkgc_daemon.inputs.options import apply_format
from pkgc_daemon.inputs.pylock import PylockInput, parse_pylock, select_pylock
from pkgc_daemon.inputs.requirements import read_requirements
from pkgc_daemon.inputs.sources import DEFAULT_SOURCES, check_together, default_source, kind_of
from pkgc_daemon.inputs.uvlock import UvLockInput, parse_uvlock, select_uvlock
from pkgc_daemon.inputs.wanted import select_wanted
from pkgc_daemon.vocabulary import Interpreter

from .hostcalls import World

#: Parsed inputs that are remembered.
MAX_REMEMBERED = 64

#: An http(s) URL to its text (bounded); raises PkgcError.
FetchText = Callable[[str], Awaitable[bytes]]


def _digest(data: bytes | None) -> bytes:
    return b"" if data is None else hashlib.blake2b(data, digest_size=16).digest()


@dataclass(slots=True)
class Remembered:
    """A parsed input, and the evidence for it: files, variables and paths as they were."""

    reads: tuple[tuple[str, bytes], ...]
    """Path or URL, and the digest of what was there; b'' for a file that was not."""
    variables: tuple[tuple[str, str | None], ...]
    existence: tuple[tuple[str, bool], ...]
    given: RequirementsInput
    """Of requirements files; for a lock file only what the command line says."""
    lock_file: PylockInput | UvLockInput | None = None
    locks: dict[tuple[object, ...], Lock] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sources:
    """What a call asks to be read."""

    sources: tuple[str, ...]
    constraints: tuple[str, ...]
    cwd: str
    no_binary: tuple[str, ...] = ()
    only_binary: tuple[str, ...] = ()


class _Readings:
    """The reads of one parse, which are the evidence for its outcome."""

    def __init__(self, world: World, fetch_text: FetchText, already: dict[str, bytes | PkgcError]) -> None:
        self.reads: dict[str, bytes] = {}
        self.variables: dict[str, str | None] = {}
        self.existence: dict[str, bool] = {}
        self._world = world
        self._fetch_text = fetch_text
        self._already = already

    async def file(self, path: str) -> bytes:
        """The content of a file, of standard input (``-``) or of an http(s) URL."""
        data = self._already.pop(path, None)
        if isinstance(data, PkgcError):
            raise data
        if data is None and is_url(path) and not path.lower().startswith("file:"):
            data = await self._fetch_text(path)
        elif data is None:
            data = (await self._world.read_files([path]))[0]
        assert data is not None
        self.reads[path] = _digest(data)
        return data

    async def file_if_any(self, path: str) -> bytes | None:
        """The content of a local file, or None when there is none."""
        data = self._already.pop(path, None)
        if not isinstance(data, bytes):
            data = (await self._world.read_files([path], optional=True))[0]
        self.reads[path] = _digest(data)
        return data

    async def look_up(self, names: frozenset[str]) -> Mapping[str, str]:
        """Variables of the client."""
        values = await self._world.variables(names)
        self.variables.update({name: values.get(name) for name in names})
        return values

    async def exists(self, path: str) -> bool:
        """Whether a path exists for the client."""
        self.existence[path] = (await self._world.exist([path]))[0]
        return self.existence[path]

    def remembered(
        self, given: RequirementsInput, lock_file: PylockInput | UvLockInput | None = None
    ) -> Remembered:
        """The outcome with its evidence."""
        return Remembered(
            tuple(self.reads.items()),
            tuple(self.variables.items()),
            tuple(self.existence.items()),
            given,
            lock_file,
        )


class LockReader:
    """Reads sources through a World, with a memory shared by all calls."""

    def __init__(self) -> None:
        self._memory: OrderedDict[Sources, Remembered] = OrderedDict()

    async def default_sources(self, world: World, cwd: str) -> tuple[str, ...]:
        """The first of the lock files that stands in `cwd`.

        Raises:
            InputError: `no-source`: none does; `no-working-directory`: `cwd` is empty.
        """
        paths = [joined(cwd, name) for name in DEFAULT_SOURCES]
        found = await world.read_files(paths, optional=True)
        present = {name for name, data in zip(DEFAULT_SOURCES, found, strict=True) if data is not None}
        return (default_source(present),)

    async def read(self, world: World, asked: Sources, fetch_text: FetchText) -> Remembered:
        """Parse the sources, or find them parsed already.

        Args:
            world: whose files they are.
            asked: which.
            fetch_text: gets those that are URLs.

        Raises:
            InputError: a source cannot be read, is of a kind that is not supported, or is invalid.
            PkgcError: a URL cannot be fetched.
        """
        remembered = self._memory.get(asked)
        # What is read to see whether it is the same may not be there a second time (a pipe).
        already: dict[str, bytes | PkgcError] = {}
        if remembered is not None and await self._still_true(world, remembered, already, fetch_text):
            self._memory.move_to_end(asked)
            return remembered
        readings = _Readings(world, fetch_text, already)
        check_together(asked.sources)
        if len(asked.sources) == 1 and kind_of(asked.sources[0]) in ("pylock", "uv.lock"):
            fresh = await self._read_lock_file(asked, readings)
        else:
            given = await read_requirements(
                asked.sources,
                constraints=asked.constraints,
                cwd=asked.cwd,
                read_file=readings.file,
                variables=readings.look_up,
                exists=readings.exists,
                no_binary=asked.no_binary,
                only_binary=asked.only_binary,
            )
            fresh = readings.remembered(given)
        if "-" not in readings.reads:  # standard input cannot be read again to see whether it is the same
            self._memory[asked] = fresh
            self._memory.move_to_end(asked)
            while len(self._memory) > MAX_REMEMBERED:
                self._memory.popitem(last=False)
        return fresh

    async def _read_lock_file(self, asked: Sources, readings: _Readings) -> Remembered:
        source = asked.sources[0]
        if asked.constraints:
            raise InputError(
                "conflicting-options",
                f"--constraint does not go with {source}: a lock names every version already",
                hint="leave --constraint out",
            )
        location = source if is_url(source) else joined(asked.cwd, source)
        data = await readings.file(location)
        lock_file: PylockInput | UvLockInput
        if kind_of(source) == "pylock":
            lock_file = await asyncio.to_thread(parse_pylock, data, location, source)
        else:
            pyproject = None
            if not is_url(location):
                pyproject = await readings.file_if_any(
                    os.path.join(os.path.dirname(location), "pyproject.toml")
                )
            lock_file = await asyncio.to_thread(parse_uvlock, data, location, source, pyproject)
        no_binary: set[str] = set()
        only_binary: set[str] = set()
        for value in asked.no_binary:
            apply_format(value, no_binary, only_binary)
        for value in asked.only_binary:
            apply_format(value, only_binary, no_binary)
        given = RequirementsInput(
            no_binary=frozenset(no_binary), only_binary=frozenset(only_binary), sources=asked.sources
        )
        return readings.remembered(given, lock_file)

    async def _still_true(
        self,
        world: World,
        remembered: Remembered,
        already: dict[str, bytes | PkgcError],
        fetch_text: FetchText,
    ) -> bool:
        paths = [path for path, _ in remembered.reads if not is_url(path)]
        found = dict(zip(paths, await world.read_files(paths, optional=True), strict=True))
        for path, _ in remembered.reads:
            if path in found:
                continue
            try:
                found[path] = await fetch_text(path)
            except PkgcError as error:  # said when the file is read, with the line that includes it
                already[path] = error
                return False
        already.update((path, data) for path, data in found.items() if data is not None)
        if any(_digest(found[path]) != digest for path, digest in remembered.reads):
            return False
        if remembered.variables:
            values = await world.variables(frozenset(name for name, _ in remembered.variables))
            if any(values.get(name) != value for name, value in remembered.variables):
                return False
        exist = await world.exist([path for path, _ in remembered.existence])
        return exist == [present for _, present in remembered.existence]

    async def lock(self, remembered: Remembered, interpreter: Interpreter, choice: LockChoice) -> Lock:
        """The Lock of a parsed input for an interpreter (memory as above).

        Args:
            choice: extras, groups and hash mode; requirements files have only the last of these.

        Raises:
            InputError: unpinned lines, missing hashes, contradictions; extras or groups that are not there.
        """
        key = (_digest(repr(sorted(interpreter.markers.items())).encode()), hash(interpreter.tags), choice)
        lock = remembered.locks.get(key)
        if lock is not None:
            return lock
        lock_file = remembered.lock_file
        if isinstance(lock_file, PylockInput):
            lock = await asyncio.to_thread(select_pylock, lock_file, interpreter, choice)
        elif lock_file is not None:
            lock = await asyncio.to_thread(select_uvlock, lock_file, interpreter, choice)
        else:
            lock = await asyncio.to_thread(
                select_wanted, remembered.given, interpreter.markers, require_hashes=choice.require_hashes
            )
        if len(remembered.locks) >= 8:
            remembered.locks.clear()
        remembered.locks[key] = lock
        return lock


def describe(sources: Sequence[str]) -> str:
    """The sources as a message names them."""
    return ", ".join("standard input" if source == "-" else source for source in sources)
