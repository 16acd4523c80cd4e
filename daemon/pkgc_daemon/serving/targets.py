"""Targets: which environment a call means, and which interpreter it has or shall have; asked once."""

from __future__ import annotations

import json
import os.path
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pkgc_daemon.environments.interpreter import interpreter_from_wire
from pkgc_daemon.environments.shapes import moved
from pkgc_daemon.environments.target import check_target
from pkgc_daemon.errors import InputError, PkgcError
from pkgc_daemon.store.store import Store
from pkgc_daemon.vocabulary import Interpreter

from .hostcalls import World

#: Interpreters that are kept in memory; the catalog keeps them all.
MAX_REMEMBERED = 256

_VERSION = re.compile(r"\d+(\.\d+){0,2}\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """An environment to work on, or to make."""

    venv: str
    """Its absolute path, on the way to which there is no symbolic link and no ``..``."""
    exists: bool
    interpreter: Interpreter
    """Of the environment, or the one that it will be made with."""
    wire: Mapping[str, Any]
    """The same as the probe told it."""
    base: str | None = None
    """The interpreter to make it with, when it does not exist."""
    obstacle: PkgcError | None = None
    """Why it cannot be changed or made, when that shows without trying."""
    real: str = ""
    """`venv`, or what it leads to if it is a symbolic link: one environment, remembered under one path."""

    def check_writable(self) -> None:
        """Refuse before anything is downloaded.

        Raises:
            PkgcError: ``no-permission``, ``read-only``.
        """
        if self.obstacle is not None:
            raise self.obstacle


class Targets:
    """Finds and remembers interpreters.

    Args:
        store: keeps what probes told over restarts.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._memory: OrderedDict[str, tuple[Mapping[str, Any], Interpreter]] = OrderedDict()
        self._shapes: OrderedDict[str | None, Mapping[str, Any]] = OrderedDict()
        """Shape and interpreter -> what an environment of that kind told of itself."""

    async def target(
        self, world: World, venv: str, request: str | None, env: Mapping[str, str], cwd: str
    ) -> Target:
        """The environment at `venv`.

        Args:
            world: where it is.
            venv: absolute path, as messages name it.
            request: what `--python` says.
            env: the client's environment (PATH).
            cwd: the client's working directory.

        Raises:
            PkgcError: it is no virtual environment, its interpreter does not work or is not the one asked
                for, or no interpreter is found to make it with.
        """
        place = await world.do("locate_target", {"venv": venv})
        obstacle = place.get("obstacle")
        refused = None if obstacle is None else PkgcError.from_wire(obstacle)
        path: str = place.get("venv") or venv
        real: str = place.get("real") or path
        if place["kind"] == "missing":
            python, wire, interpreter = await self.interpreter(world, request, env, cwd)
            base = str(wire.get("base_executable") or python)
            return Target(path, False, interpreter, wire, base, refused, real)
        if place["python"] is None:
            raise InputError(
                "not-an-environment",
                f"{venv} is not a virtual environment: it has no bin/python",
                hint="remove it, or name another directory with --venv",
            )
        wire, interpreter = await self._of_environment(world, path, place)
        if place["kind"] == "other" and interpreter.is_virtual:
            raise InputError(
                "not-an-environment",
                f"{venv} is not a virtual environment: it has no pyvenv.cfg",
                hint="remove it, or name another directory with --venv",
            )
        check_target(interpreter, path)
        if request is not None:
            await self._agree(world, interpreter, venv, request, env, cwd)
        return Target(path, True, interpreter, wire, None, refused, real)

    async def _of_environment(
        self, world: World, venv: str, place: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Interpreter]:
        """The interpreter of an environment: remembered, told by another one of the same shape, or asked."""
        key, shape = place["key"], place.get("shape")
        name = json.dumps(key)
        like = json.dumps([shape, os.path.basename(place["python"]), *key[2:10]]) if shape else None
        if name not in self._memory and like in self._shapes:
            told = moved(self._shapes[like], venv)
            if told is not None:
                known = ({**told, "key": key}, interpreter_from_wire(told))
                self._keep(name, known)
                return known
        wire, interpreter = await self._probe(world, place["python"], key)
        if like is not None and interpreter.prefix == venv:
            self._shapes[like] = wire
            self._shapes.move_to_end(like)
            while len(self._shapes) > MAX_REMEMBERED:
                self._shapes.popitem(last=False)
        return wire, interpreter

    async def interpreter(
        self, world: World, request: str | None, env: Mapping[str, str], cwd: str
    ) -> tuple[str, Mapping[str, Any], Interpreter]:
        """The interpreter that `request` means (None: python3 on PATH): its path, facts and model.

        Raises:
            PkgcError: there is none, or it is too old.
        """
        folders = env.get("PATH", "").split(":")
        if not cwd:  # it does not exist any more, and so do relative folders
            folders = [folder for folder in folders if folder.startswith("/")]
        args = {"request": request, "path": ":".join(folders), "cwd": cwd or "/"}
        found = await world.do("find_python", args)
        wire, interpreter = await self._probe(world, found["python"], found["key"])
        return found["python"], wire, interpreter

    async def _agree(
        self,
        world: World,
        interpreter: Interpreter,
        venv: str,
        request: str,
        env: Mapping[str, str],
        cwd: str,
    ) -> None:
        """An existing environment keeps its interpreter: refuse a request for another one."""
        if _VERSION.match(request):
            agrees = f"{interpreter.version}.".startswith(f"{request}.")
        else:
            _path, _wire, asked = await self.interpreter(world, request, env, cwd)
            agrees = asked.version == interpreter.version and asked.base_prefix == interpreter.base_prefix
        if not agrees:
            raise PkgcError(
                "python-mismatch",
                f"{venv} has Python {interpreter.version}, --python asks for {request}",
                hint="remove the environment so that it is made anew, or leave --python out",
            )

    async def _probe(
        self, world: World, python: str, key: list[Any] | None
    ) -> tuple[Mapping[str, Any], Interpreter]:
        name = json.dumps(key)
        known = self._memory.get(name)
        if known is None:
            data = await self._store.recall_interpreter(name)
            if data is None:
                data = await world.do("probe_interpreter", {"python": python})
                await self._store.remember_interpreter(json.dumps(data.get("key")), data)
            known = (data, interpreter_from_wire(data))
            self._keep(name, known)
        else:
            self._memory.move_to_end(name)
        return known

    def _keep(self, name: str, known: tuple[Mapping[str, Any], Interpreter]) -> None:
        self._memory[name] = known
        while len(self._memory) > MAX_REMEMBERED:
            self._memory.popitem(last=False)
