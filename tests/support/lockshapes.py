"""Locks of every shape, made by the tools that users make them with, from the packages of a `World`.

Each shape says how pkgc, uv and pip are asked for the environment that the lock describes.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.version import Version

from tests.support.interpreters import Cpython
from tests.support.lockfiles import pylock
from tests.support.lockworld import (
    IN_TREE,
    MAIN,
    PACKAGES,
    SPREAD,
    World,
    described,
    source_tree,
    tree,
)
from tests.support.realwheels import pins
from tests.support.sdists import make_sdist
from tests.support.wheels import make_wheel

#: The first pip that installs a pylock.toml, and the first that makes one.
PIP_READS_PYLOCK, PIP_WRITES_PYLOCK = Version("26.1"), Version("25.1")

#: Packages that are there to build others with.
BACKENDS = {
    "editables",
    "flit-core",
    "hatchling",
    "pathspec",
    "tomlkit",
    "trove-classifiers",
    "tzdata",
    "wheel",
}

Words = tuple[str | Path, ...]


@dataclass(frozen=True, slots=True)
class Sync:
    """One way to ask for a lock, as each tool spells it; relative paths start at the lock's folder."""

    pkgc: Words
    """After ``pkgc sync``."""
    uv: Words
    """After ``uv``."""
    pip: Words | None = None
    """After ``pip install --no-deps``; None: pip cannot install it."""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that was made, and how to ask for it: one after the other in the same environment."""

    syncs: tuple[Sync, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of lock."""

    make: Callable[[World, Cpython], Lock]
    holds: frozenset[str]
    """Some projects that it installs, so that nothing is not compared with nothing."""
    in_place: bool = False
    """It names source trees in which the backend (setuptools) writes: one tool at a time."""
    own: bool = False
    """Each interpreter has its own lock."""
    makes: Version | None = None
    """The pip that is needed to make it."""
    reads: Version | None = None
    """The pip that is needed to install it."""


def lock_of(name: str, world: World, interpreter: Cpython) -> Lock:
    """The lock of a shape for an interpreter, made when it is first asked for."""
    shape = SHAPES[name]
    key = f"{name}-{interpreter.version}" if shape.own else name
    lock: Lock = world.once(key, lambda: shape.make(world, interpreter))
    return lock


def requirements(lock: Path, *pip: str) -> Lock:
    """A lock that all three install; `pip` are options for pip only."""
    return Lock((Sync((lock,), ("pip", "sync", lock), ("-r", lock, *pip)),))


def _compile(world: World, folder: Path, names: str, *options: str) -> Path:
    (folder / "names.in").write_text(names)
    lock = folder / "requirements.txt"
    command = [
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--no-strip-extras",
        "--no-header",
        "--no-annotate",
    ]
    command += ["--no-emit-index-url", "--python-version", world.oldest.version, *options]
    world.peers.uv(*command, "--output-file", lock, folder / "names.in", cwd=folder)
    return lock


# -- requirements files ------------------------------------------------------------------------------------


def hashed(world: World, _: Cpython) -> Lock:
    """``uv pip compile --generate-hashes``: markers of versions and platforms, extras."""
    names = """\
requests[socks]
flask[async]
python-dotenv[cli]
zope.interface
markupsafe
colorama ; sys_platform == 'win32'
importlib-metadata ; python_full_version < '3.10'
forked<3 ; sys_platform == 'win32'
forked ; sys_platform != 'win32'
"""
    return requirements(
        _compile(world, world.place("hashed"), names, "--generate-hashes"), "--require-hashes"
    )


def unhashed(world: World, interpreter: Cpython) -> Lock:
    """Pins without hashes, some only in a folder of wheels, where tags and build tags decide."""
    folder = world.place(f"unhashed-{interpreter.version}")
    tag = f"cp{interpreter.version.replace('.', '')}"
    for wheel in (
        make_wheel("local-only", "1.0+house.1", {"local_only.py": "x = 1\n"}),
        make_wheel("picky", "1.0", {"picky.py": "any = True\n"}),
        make_wheel("picky", "1.0", {"picky.py": "mine = True\n"}, tag=f"{tag}-none-any"),
        make_wheel("picky", "1.0", {"picky.py": "windows = True\n"}, tag=f"{tag}-{tag}-win_amd64"),
        make_wheel("rebuilt", "2.0", {"rebuilt.py": "build = 2\n"}, build="2"),
        make_wheel("rebuilt", "2.0", {"rebuilt.py": "build = 10\n"}, build="10"),
        make_wheel("rebuilt", "2.0", {"rebuilt.py": "build = None\n"}),
    ):
        wheel.write_to(folder / "links")
    lock = _compile(world, folder, "jsonpatch\npytest\ncffi\n")
    lock.write_text(
        f"--find-links links\n{lock.read_text()}local_only == 1.0+house.1\nPicky===1.0\nrebuilt==2.0\n"
    )
    return requirements(lock)


def mixed(world: World, _: Cpython) -> Lock:
    """Real packages: extensions, scripts, data files, headers, namespaces, pip and setuptools."""
    lock = world.place("mixed") / "requirements.txt"
    lines = [
        " ".join((str(pin.requirement), *(f"--hash={digest}" for digest in pin.hashes)))
        for pin in pins(PACKAGES)
        if pin.requirement.name not in BACKENDS
    ]
    lock.write_text("\n".join(lines) + "\n")
    return requirements(lock, "--require-hashes")


def sdists(world: World, _: Cpython) -> Lock:
    """Hashes of source archives only: a legacy setup.py, hatchling, a backend of its own."""
    lock = world.place("sdists") / "requirements.txt"
    lines = []
    for path in world.sdists:
        pin = path.name.removesuffix(".tar.gz").replace("-", "==")
        lines.append(f"{pin} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    lock.write_text("".join(lines))
    return requirements(lock, "--require-hashes")


def sources(world: World, _: Cpython) -> Lock:
    """Direct references: git by tag and branch, subdirectory and submodule; a wheel and archives by URL."""
    direct = world.direct
    lock = world.place("sources") / "requirements.txt"
    lock.write_text(
        f"gitted @ {direct.tagged}\nbranched @ {direct.branch}\n{direct.wheel}\nzipped @ {direct.archive}\n"
        f"nested @ {direct.nested}\nitsdangerous==2.2.0\n"
    )
    settings = ("-C", "level=3", "-C", "flag=a", "-C", "flag=b")
    # pip takes the settings of a file's requirements from the file only.
    each = lock.with_name("settings.txt")
    words = " ".join(f"--config-settings={value}" for value in settings[1::2])
    lines = lock.read_text().splitlines()
    each.write_text("".join(f"{line} {words}\n" if "==" not in line else f"{line}\n" for line in lines))
    by_uv = ("pip", "sync", lock, *settings)
    return Lock((Sync((lock, *settings), by_uv, ("-r", each)), Sync((each,), by_uv)))


def directories(world: World, _: Cpython) -> Lock:
    """Editables, source trees and archives by path."""
    folder = world.place("directories")
    tree(folder / "core", {"pyproject.toml": described("member-core", "3.8"), "src/core/__init__.py": MAIN})
    tooled = {"tooled/__init__.py": MAIN, "tooled/inner/__init__.py": "", "tooled/words.txt": "words\n"}
    tree(folder / "tooled", {**tooled, "pyproject.toml": described("tooled", "3.8")})
    tree(folder / "sub dir/plain", source_tree("plain", "1.0"))
    tree(folder / "linked", source_tree("linked", "1.0"))
    SPREAD.write_to(folder / "files")
    make_sdist("packed", "0.1", backend=IN_TREE).write_to(folder / "files")
    lock = folder / "requirements.txt"
    plain, packed = (folder / "sub dir/plain").as_uri(), (folder / "files/packed-0.1.tar.gz").as_uri()
    lock.write_text(
        "-e ./core\n-e ./tooled\n-e ./linked\n"
        f"plain @ {plain}\nfiles/{SPREAD.filename}\npacked @ {packed}\nitsdangerous==2.2.0\n"
    )
    return requirements(lock)


# -- pylock.toml --------------------------------------------------------------------------------------------


def _app(world: World, folder: Path) -> Path:
    project = tree(folder, {"pyproject.toml": described("app", world.oldest.version)})
    tree(folder, {"src/app/__init__.py": MAIN, "src/app/plugins/one.py": "", "README.md": "# app\n"})
    world.peers.uv("lock", "--quiet", "--project", project, "--python", world.oldest.path)
    return project


def exported(world: World, _: Cpython) -> Lock:
    """``uv export --format pylock.toml``: for every platform and interpreter, with extras and groups."""
    project = _app(world, world.place("exported") / "project")
    lock = project.parent / "pylock.toml"
    command: Words = (
        "export",
        "--quiet",
        "--frozen",
        "--project",
        project,
        "--format",
        "pylock.toml",
        "-o",
        lock,
    )
    selected = (
        "--extra",
        "async",
        "--extra",
        "new",
        "--extra",
        "dot",
        "--group",
        "docs",
        "--no-emit-project",
    )
    world.peers.uv(*command, *selected)
    return requirements(lock)


def selectable(world: World, interpreter: Cpython) -> Lock:
    """A pylock.toml with extras and groups of its own, from which each sync selects others."""
    template = Path(lock_of("exported", world, interpreter).syncs[0].pkgc[0])
    found = tomllib.loads(template.read_text())
    markers = {
        "zope-interface": "'dev' in dependency_groups",
        "jmespath": "'docs' in dependency_groups",
        "pytest": "'dev' in dependency_groups or 'docs' in dependency_groups",
        "pyyaml": "'yaml' in extras",
        "python-dotenv": "'dot' in extras and 'docs' not in dependency_groups",
    }
    packages = [_marked(package, markers.get(package["name"])) for package in found["packages"]]
    text = pylock(
        *packages,
        requires_python=found["requires-python"],
        extras=["yaml", "dot"],
        dependency_groups=["dev", "docs"],
        default_groups=["dev"],
    )
    lock = world.place("selectable") / "pylock.selectable.toml"
    lock.write_text(text)
    two = ("--extra", "yaml", "--extra", "dot")
    by_uv = ("pip", "sync", lock)
    # uv's --group takes the place of the default groups, pkgc's is one more, as in `uv sync`.
    return Lock(
        (
            Sync((lock,), by_uv),
            Sync((lock, *two), (*by_uv, *two), ("-r", f"{lock}[yaml,dot]")),
            Sync((lock, "--no-default-groups", "--group", "docs", *two), (*by_uv, "--group", "docs", *two)),
            Sync((lock, "--group", "docs"), (*by_uv, "--group", "docs", "--group", "dev")),
        )
    )


def _marked(package: dict[str, Any], marker: str | None) -> dict[str, Any]:
    if marker is None:
        return package
    old = package.get("marker")
    return {**package, "marker": f"({old}) and ({marker})" if old else marker}


def piplock(world: World, interpreter: Cpython) -> Lock:
    """``pip lock``: wheels and an sdist of the index, git, an archive by URL, a source tree."""
    folder = world.place(f"piplock-{interpreter.version}")
    tree(folder / "plain", source_tree("plain", "1.0"))

    def locked(name: str, names: str) -> Path:
        (folder / "names.in").write_text(names)
        command = ("--python", interpreter.path, "lock", "--quiet", "-r", "names.in", "-o", name)
        world.peers.pip(interpreter, *command, cwd=folder)
        return folder / name

    direct = world.direct
    files = locked("pylock.toml", f"zope.interface\nalone\n{direct.wheel}\nzipped @ {direct.archive}\n")
    # pip makes such a lock, but cannot install it when other packages in it have hashes.
    trees = locked("pylock.trees.toml", f"itsdangerous\n./plain\ngitted @ {direct.tagged}\n")
    return Lock((requirements(files).syncs[0], replace(requirements(trees).syncs[0], pip=None)))


# -- uv.lock ------------------------------------------------------------------------------------------------


def project(world: World, _: Cpython) -> Lock:
    """A project of uv's: extras, extras that exclude each other, default groups, forks, an editable root."""
    place = _app(world, world.place("project"))
    return _uv(
        place,
        (),
        ("--extra", "old", "--extra", "dot", "--group", "docs"),
        ("--extra", "new", "--extra", "async", "--no-default-groups"),
    )


def workspace(world: World, _: Cpython) -> Lock:
    """A workspace whose root is no project: its members and a source tree beside it."""
    place = _members(world, world.place("workspace") / "root", "workspace", "core", "service", "scripts")
    return _uv(place, ("--no-default-groups",), ())


def rootless(world: World, _: Cpython) -> Lock:
    """A project that is not installed itself (``package = false``), with a member that is."""
    return _uv(_members(world, world.place("rootless") / "root", "rootless", "core"), ())


def _members(world: World, root: Path, kind: str, *names: str) -> Path:
    oldest = world.oldest.version
    tree(root, {"pyproject.toml": described(kind, oldest)})
    members: Mapping[str, dict[str, bytes | str]] = {
        "core": {"src/core/__init__.py": MAIN},
        "service": {"service/__init__.py": MAIN},
        "scripts": {"scripts.py": MAIN},
    }
    for name in names:
        about = {"pyproject.toml": described(f"member-{name}", oldest)}
        tree(root / "members" / name, {**members[name], **about})
    tree(root / "elsewhere", source_tree("shared-tool", "5.0"))
    world.peers.uv("lock", "--quiet", "--project", root, "--python", world.oldest.path)
    return root


def _uv(place: Path, *asked: Words) -> Lock:
    lock = place / "uv.lock"
    return Lock(
        tuple(Sync((lock, *words), ("sync", "--frozen", "--project", place, *words)) for words in asked)
    )


def _these(names: str) -> frozenset[str]:
    return frozenset(names.split())


SHAPES: Mapping[str, Shape] = {
    "hashed": Shape(hashed, _these("requests pysocks flask zope-interface forked")),
    "unhashed": Shape(unhashed, _these("local-only picky rebuilt pytest cffi"), own=True),
    "mixed": Shape(mixed, _these("pip greenlet zope-interface ninja jupyterlab-widgets")),
    "sdists": Shape(sdists, _these("jmespath hatched alone")),
    "sources": Shape(sources, _these("gitted branched spread zipped nested")),
    "directories": Shape(directories, _these("core tooled linked plain spread packed"), in_place=True),
    "exported": Shape(exported, _these("flask chosen python-dotenv jmespath"), reads=PIP_READS_PYLOCK),
    "selectable": Shape(
        selectable, _these("pyyaml python-dotenv jmespath zope-interface"), reads=PIP_READS_PYLOCK
    ),
    "piplock": Shape(
        piplock,
        _these("spread zipped alone gitted plain"),
        own=True,
        makes=PIP_WRITES_PYLOCK,
        reads=PIP_READS_PYLOCK,
    ),
    "project": Shape(project, _these("app forked chosen flask pytest")),
    "workspace": Shape(workspace, _these("core service shared-tool werkzeug jmespath"), in_place=True),
    "rootless": Shape(rootless, _these("core markupsafe")),
}
