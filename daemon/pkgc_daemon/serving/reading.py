"""Reading: the sources of a call become a Lock; what was parsed once is remembered by its contents.

A file that has not changed is read (its bytes are the evidence) but not parsed again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pkgc_daemon.errors import InputError
from pkgc_daemon.inputs.given import Lock, RequirementsInput
from pkgc_daemon.inputs.locations import joined
from pkgc_daemon.inputs.requirements import read_requirements
from pkgc_daemon.inputs.sources import default_source
from pkgc_daemon.inputs.wanted import select_wanted

from .hostcalls import World

#: Parsed inputs that are remembered.
MAX_REMEMBERED = 64

DEFAULT_SOURCES = ("pylock.toml", "uv.lock", "requirements.txt")


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


@dataclass(slots=True)
class Remembered:
    """A parsed input, and the evidence for it: files, variables and paths as they were."""

    reads: tuple[tuple[str, bytes], ...]
    variables: tuple[tuple[str, str | None], ...]
    existence: tuple[tuple[str, bool], ...]
    given: RequirementsInput
    locks: dict[tuple[bytes, bool | None], Lock] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sources:
    """What a call asks to be read."""

    sources: tuple[str, ...]
    constraints: tuple[str, ...]
    cwd: str
    no_binary: tuple[str, ...] = ()
    only_binary: tuple[str, ...] = ()


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
        chosen = default_source(present)
        if chosen is None:
            raise InputError(
                "no-source",
                f"no lock in {cwd}: none of {', '.join(DEFAULT_SOURCES)} is there",
                hint="name a requirements file, e.g. `pkgc sync requirements.txt`",
            )
        return (chosen,)

    async def read(self, world: World, asked: Sources) -> Remembered:
        """Parse the sources, or find them parsed already.

        Raises:
            InputError: a source cannot be read, is of a kind that is not supported, or is invalid.
        """
        remembered = self._memory.get(asked)
        # What is read to see whether it is the same may not be there a second time (a pipe).
        read_already: dict[str, bytes] = {}
        if remembered is not None and await self._still_true(world, remembered, read_already):
            self._memory.move_to_end(asked)
            return remembered
        reads: dict[str, bytes] = {}
        variables: dict[str, str | None] = {}
        existence: dict[str, bool] = {}

        async def read_file(path: str) -> bytes:
            data = read_already.pop(path, None)
            if data is None:
                data = (await world.read_files([path]))[0]
            assert data is not None
            reads[path] = _digest(data)
            return data

        async def look_up(names: frozenset[str]) -> Mapping[str, str]:
            values = await world.variables(names)
            variables.update({name: values.get(name) for name in names})
            return values

        async def exists(path: str) -> bool:
            existence[path] = (await world.exist([path]))[0]
            return existence[path]

        given = await read_requirements(
            asked.sources,
            constraints=asked.constraints,
            cwd=asked.cwd,
            read_file=read_file,
            variables=look_up,
            exists=exists,
            no_binary=asked.no_binary,
            only_binary=asked.only_binary,
        )
        fresh = Remembered(tuple(reads.items()), tuple(variables.items()), tuple(existence.items()), given)
        if "-" not in reads:  # standard input cannot be read again to see whether it is the same
            self._memory[asked] = fresh
            self._memory.move_to_end(asked)
            while len(self._memory) > MAX_REMEMBERED:
                self._memory.popitem(last=False)
        return fresh

    async def _still_true(self, world: World, remembered: Remembered, read_already: dict[str, bytes]) -> bool:
        paths = [path for path, _ in remembered.reads]
        contents = await world.read_files(paths, optional=True)
        read_already.update(
            (path, data) for path, data in zip(paths, contents, strict=True) if data is not None
        )
        for (_, digest), data in zip(remembered.reads, contents, strict=True):
            if data is None or _digest(data) != digest:
                return False
        if remembered.variables:
            values = await world.variables(frozenset(name for name, _ in remembered.variables))
            if any(values.get(name) != value for name, value in remembered.variables):
                return False
        found = await world.exist([path for path, _ in remembered.existence])
        return found == [present for _, present in remembered.existence]

    def lock(self, remembered: Remembered, markers: Mapping[str, str], require_hashes: bool | None) -> Lock:
        """The Lock of a parsed input for an interpreter with these markers (memory as above).

        Raises:
            InputError: unpinned lines, missing hashes, contradictions.
        """
        key = (_digest(repr(sorted(markers.items())).encode()), require_hashes)
        lock = remembered.locks.get(key)
        if lock is None:
            lock = select_wanted(remembered.given, markers, require_hashes=require_hashes)
            if len(remembered.locks) >= 8:
                remembered.locks.clear()
            remembered.locks[key] = lock
        return lock


def describe(sources: Sequence[str]) -> str:
    """The sources as a message names them."""
    return ", ".join("standard input" if source == "-" else source for source in sources)
