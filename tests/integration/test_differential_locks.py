"""Whatever kind of lock: pkgc's environment is, file by file, the one that uv and pip make from it."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.support import instance, peertools
from tests.support.instance import Instance
from tests.support.interpreters import Cpython, find, running
from tests.support.lockshapes import SHAPES, Sync, lock_of
from tests.support.lockworld import World
from tests.support.realindex import NginxMissingError
from tests.support.trees import Installed, differences, listing, other_modes, read_installed

VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
#: Which shapes `./check` tries, with the interpreter that runs it.
SAMPLE = ("project", "sources")
WAYS = {"pkgc": False, "pkgc-hands": True}

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


class Stage:
    """A world of locks, and a pkgc of each way that stays warm from test to test."""

    def __init__(self, world: World, pkgcs: dict[str, Instance]) -> None:
        self.world = world
        self.pkgcs = pkgcs


@pytest.fixture(scope="module")
def stages() -> Iterator[Callable[[Sequence[str]], Stage]]:
    """Stages by the versions of Python that they are for, each set up once."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pkgc-locks-"))).resolve()

        @functools.cache
        def stage(versions: tuple[str, ...]) -> Stage:
            folder = base / str(len(versions))
            found = [one for one in map(find, versions) if one is not None]
            try:
                world = stack.enter_context(World(folder, found))
            except NginxMissingError as error:
                pytest.skip(str(error))
            pkgcs = {
                way: stack.enter_context(instance.running(folder / way, host_calls=host_calls))
                for way, host_calls in WAYS.items()
            }
            return Stage(world, pkgcs)

        yield lambda versions: stage(tuple(versions))


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder with a short path: long ones change the first line of scripts (E3)."""
    with tempfile.TemporaryDirectory(prefix="pkgc-diff-") as folder:
        yield Path(folder).resolve()


@pytest.mark.parametrize("shape", SAMPLE)
def test_sample(shape: str, stages: Callable[[Sequence[str]], Stage], work: Path) -> None:
    """If this fails, who moves from uv or pip to pkgc gets another environment from the same lock."""
    compare(shape, running(), stages([running().version]), work)


@pytest.mark.full
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(shape: str, version: str, stages: Callable[[Sequence[str]], Stage], work: Path) -> None:
    """If this fails, a lock that works with uv or pip gives something else with pkgc on that interpreter."""
    interpreter = find(version)
    if interpreter is None:
        pytest.skip(f"no CPython {version} on this machine")
    compare(shape, interpreter, stages(VERSIONS), work)


def compare(name: str, interpreter: Cpython, stage: Stage, work: Path) -> None:
    """Sync one lock by every tool that can, and compare what each made, after each way to ask for it."""
    shape, peers = SHAPES[name], stage.world.peers
    pip = peers.pip_version(interpreter)
    if shape.makes is not None and pip < shape.makes:
        pytest.skip(f"pip {pip} for Python {interpreter.version} makes no such lock")
    lock = lock_of(name, stage.world, interpreter)
    by_pip = shape.reads is None or pip >= shape.reads
    tools = [*stage.pkgcs, "uv", *(["pip"] if by_pip and any(one.pip for one in lock.syncs) else [])]
    venvs = {tool: work / tool for tool in tools}
    peertools.make_venvs(interpreter.path, list(venvs.values()), stage.world.folder / "uv-cache")
    before = {tool: listing(venv) for tool, venv in venvs.items()}

    def sync(wanted: Sync, tool: str) -> int | None:
        source, *options = wanted.pkgc
        there = Path(source).parent
        if tool in stage.pkgcs:
            options += ["--venv", venvs[tool], "-i", stage.world.index.url]
            try:
                answer = stage.pkgcs[tool].sync(source, *options, cwd=there, timeout=300)
            except AssertionError as error:
                log = (stage.pkgcs[tool].cache / "daemon.log").read_text().splitlines()
                error.add_note("\n".join(log[-40:]))
                raise
            return int(answer["kept"]) + len(answer["installed"])
        if tool == "uv":
            peers.uv(*wanted.uv, venv=venvs[tool], cwd=there, cache=interpreter.version)
        elif wanted.pip:
            peers.pip_install(interpreter, venvs[tool], *wanted.pip, cwd=there)
        return None

    held: set[str] = set()
    for wanted in lock.syncs:
        compared = [tool for tool in tools if tool != "pip" or wanted.pip]
        with ThreadPoolExecutor(1 if shape.in_place else len(compared)) as pool:
            counts = list(pool.map(functools.partial(sync, wanted), compared))
        trees = {tool: read_installed(venvs[tool], before[tool]) for tool in compared}
        assert counts[0] == counts[1] == len(trees["pkgc"].records)
        held.update(projects(trees["pkgc"]))
        undecided = other_modes(trees["uv"], trees["pip"]) if "pip" in trees else frozenset()
        for other in compared[1:]:
            found = differences(trees["pkgc"], trees[other], ("pkgc", other), undecided)
            assert not found, "\n".join([f"{name}, {wanted.pkgc}:", *found])
    assert held >= shape.holds


def projects(tree: Installed) -> set[str]:
    """Normalized names of what is installed."""
    return {canonicalize_name(Path(info).name.partition("-")[0]) for info in tree.records}
