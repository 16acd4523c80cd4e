"""What the locks of the differential tests name, served from loopback: an index of real packages, a few made
ones, archives by URL, and git repositories.

Nothing here knows a lock; those are made by `lockshapes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.gitserver import GitServers
from tests.support.interpreters import Cpython
from tests.support.peertools import Peers
from tests.support.realindex import RealIndex
from tests.support.realwheels import PROJECT, sdists_for, wheels_for
from tests.support.sdists import BACKEND, make_sdist, project_files
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

DATA = PROJECT / "tests/data"
PACKAGES = DATA / "packages.txt"
SOURCES = DATA / "sources.txt"

#: A project's own code and what it needs to be a command.
MAIN = "def main():\n    print(__name__)\n"
#: The in-tree backend. No settings are None to some tools and {} to others, and uv sorts them (PEP 517).
IN_TREE = BACKEND.replace("json.dumps(settings)", "json.dumps(settings or {}, sort_keys=True)")


def described(name: str, oldest: str) -> str:
    """A pyproject.toml of `tests/data/projects`, for interpreters from `oldest` (``3.9``) on."""
    return (DATA / "projects" / f"{name}.toml").read_text().replace("@OLDEST@", oldest)


def source_tree(name: str, version: str, files: Mapping[str, bytes | str] | None = None) -> dict[str, bytes]:
    """The files of a project with a backend of its own."""
    return project_files(
        name, version, files or {f"{name.replace('-', '_')}/__init__.py": MAIN}, backend=IN_TREE
    )


def tree(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """Write files below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@dataclass(frozen=True, slots=True)
class Direct:
    """URLs of what no index lists."""

    wheel: str
    """``spread-1.0-….whl``: scripts, data, headers and platlib."""
    archive: str
    """``master.zip`` of the project `zipped`, with its sha256 as fragment."""
    nested: str
    """A tar of the project `nested`, in a subdirectory that the fragment names."""
    tagged: str
    """``git+…@v1`` of the project `gitted`, in a subdirectory that the fragment names."""
    branch: str
    """``git+…@work`` of the project `branched`, which has a submodule."""


class World:
    """Servers for the locks of a test module; a context manager that stops them.

    Args:
        folder: with a short path: long ones change the first line of scripts (E3).
        interpreters: the index has what each of them can install.
    """

    def __init__(self, folder: Path, interpreters: Sequence[Cpython]) -> None:
        self.folder = folder
        self.interpreters = sorted(interpreters, key=lambda one: int(one.version.split(".")[1]))
        self._open = ExitStack()
        self._once: dict[str, Any] = {}
        try:
            wheels = wheels_for(PACKAGES, self.interpreters)
            self.sdists = [*sdists_for(SOURCES), *_made_sdists(folder / "made")]
            self.index = self._open.enter_context(
                RealIndex([*wheels, *self.sdists, *_made_wheels(folder / "made")])
            )
            self.files = self._open.enter_context(IndexServer())
            self.git = self._open.enter_context(GitServers(folder / "git"))
            self.peers = Peers(folder / "peers", self.index.url)
            self.direct = self._serve()
        except BaseException:
            self._open.close()
            raise

    @property
    def oldest(self) -> Cpython:
        """The interpreter from which on its locks hold."""
        return self.interpreters[0]

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gave when it was first asked for `name`."""
        if name not in self._once:
            self._once[name] = make()
        return self._once[name]

    def place(self, name: str) -> Path:
        """A new folder for a lock."""
        path = self.folder / "locks" / name
        path.mkdir(parents=True)
        return path

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _serve(self) -> Direct:
        wheel = SPREAD
        zipped = make_sdist(
            "zipped", "1.2", backend=IN_TREE, ending=".zip", top="zipped-master", filename="master.zip"
        )
        inside = source_tree("nested", "0.3", {"nested/__init__.py": MAIN, "nested/data.txt": "n\n"})
        nested = make_sdist(
            "nested",
            "0.3",
            {f"python/{path}": data for path, data in inside.items()},
            pyproject="",
            backend=None,
            metadata_version=None,
        )
        self.files.add(wheel.data, wheel.filename)
        self.files.add(zipped.data, zipped.filename, project="zipped")
        self.files.add(nested.data, nested.filename)
        for repository in (tools := self.git.repository("tools"), work := self.git.repository("work")):
            repository.git("config", "uploadpack.allowAnySHA1InWant", "true")
        vendored = self.git.repository("vendored")
        commit = vendored.commit({"__init__.py": "vendored = True\n", "deep/__init__.py": ""})
        tools.commit(_below("packages/gitted", "gitted", "1.0"))
        tools.tag("v1", annotated=True)
        tools.commit(_below("packages/gitted", "gitted", "2.0"))
        work.commit({"README.md": "the project is on another branch\n"})
        work.commit(
            {path: data.decode() for path, data in source_tree("branched", "4.0").items()},
            "work",
            submodules={"branched/vendored": (self.git.http("vendored"), commit)},
        )
        return Direct(
            wheel=self.files.file_url(wheel.filename),
            archive=f"{self.files.file_url(zipped.filename)}#sha256={zipped.sha256}",
            nested=f"{self.files.file_url(nested.filename)}#subdirectory=python",
            tagged=f"git+{self.git.http('tools')}@v1#subdirectory=packages/gitted",
            branch=f"git+{self.git.http('work')}@work",
        )


def _below(folder: str, name: str, version: str) -> dict[str, str]:
    return {f"{folder}/{path}": data.decode() for path, data in source_tree(name, version).items()}


def _made_wheels(folder: Path) -> list[Path]:
    """Versions to fork by: `forked` by platform and Python, `chosen` by extras that exclude each other."""
    wheels = [make_wheel("forked", version) for version in ("1.0", "2.0", "3.0")]
    wheels += [make_wheel("chosen", version, requires_dist=["forked"]) for version in ("1.0", "2.0")]
    return [wheel.write_to(folder) for wheel in wheels]


def _made_sdists(folder: Path) -> list[Path]:
    """Source archives that have no wheels: one whose backend comes from the index, one with its own."""
    hatched: Mapping[str, bytes | str] = {
        "hatched/__init__.py": MAIN,
        "hatched/data.json": "{}\n",
        "data/hatched.1": ".TH hatched\n",
        "data/hatched-script": "#!python\nprint('hatched')\n",
    }
    made = [
        make_sdist("alone", "1.0", backend=IN_TREE),
        make_sdist(
            "hatched",
            "1.0",
            hatched,
            pyproject=described("hatched", "3.8"),
            executable=["data/hatched-script"],
            backend=None,
        ),
    ]
    return [sdist.write_to(folder) for sdist in made]


def _spread() -> BuiltWheel:
    return make_wheel(
        "spread",
        "1.0",
        {"spread/__init__.py": MAIN, "spread/run.sh": "#!/bin/sh\n"},
        data={
            "scripts/spread-script": "#!python -E\nprint('spread')\n",
            "scripts/spread-shell": "#!/bin/sh\necho spread\n",
            "data/share/spread/notes.txt": "notes\n",
            "data/etc/spread.conf": "[spread]\n",
            "headers/spread.h": "#define SPREAD 1\n",
            "platlib/spread_plat.py": "plat = True\n",
            "purelib/spread_pure.py": "pure = True\n",
        },
        entry_points={
            "console_scripts": {"spread": "spread:main"},
            "gui_scripts": {"spread-gui": "spread:main [gui]"},
        },
        # pip takes the mode of scripts from the wheel; builders always set it.
        executable=["spread/run.sh", "scripts/spread-shell", "scripts/spread-script"],
    )


#: A wheel with something for every place that an environment has.
SPREAD = _spread()
