"""Builds that tests can count, hold and look at: backends, an instance with a TMPDIR of its own, records.

    bench.offer(make_sdist("solo", "1.0", backend=COUNTING))
    bench.sync("solo==1.0")
    assert bench.builds("solo") == 1

The backends are told by variables of the client (``BUILDS_LOG``, ``BUILDS_GATE``): those reach a build.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from packaging.direct_url import DirectUrl

from tests.support.instance import Instance, Result, alive, running, wait_until
from tests.support.locks import site, told
from tests.support.sdists import BACKEND, BuiltSdist
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel

#: Notes every wheel that it makes: a line ``NAME KIND PID SESSION`` in the file that BUILDS_LOG names.
COUNTING = (
    BACKEND
    + """

_plain = {"wheel": build_wheel, "editable": build_editable}

def _note(kind):
    with open(os.environ["BUILDS_LOG"], "a") as file:
        file.write(f"{_identity()[0]} {kind} {os.getpid()} {os.getsid(0)}\\n")

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _note("wheel")
    return _plain["wheel"](wheel_directory, config_settings, metadata_directory)

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    _note("editable")
    return _plain["editable"](wheel_directory, config_settings, metadata_directory)
"""
)

#: As `COUNTING`, but it waits until the file of BUILDS_GATE is there; so does a child of its own.
HELD = (
    COUNTING
    + """

_counted = build_wheel

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import subprocess, sys, time
    print("waiting at the gate", flush=True)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(os.environ["BUILDS_LOG"], "a") as file:
        file.write(f"{_identity()[0]} child {child.pid} {os.getsid(0)}\\n")
    _counted(wheel_directory, config_settings, metadata_directory)
    while not os.path.exists(os.environ["BUILDS_GATE"]):
        time.sleep(0.02)
    child.kill()
    child.wait()
    return _plain["wheel"](wheel_directory, config_settings, metadata_directory)
"""
)


class Bench:
    """One instance, one index, and what a test asks again and again.

    Args:
        pkgc: the instance; its builds get a TMPDIR and a log of their own.
        index: where `offer` puts files.
        folder: of the test; locks and environments are made there.
    """

    def __init__(self, pkgc: Instance, index: IndexServer, folder: Path) -> None:
        self.pkgc = pkgc
        self.index = index
        self.folder = folder
        self.temporary = folder / "tmp"
        self.log = folder / "builds.log"
        self.gate = folder / "gate"
        folder.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir()
        self.log.touch()
        pkgc.env |= {
            "TMPDIR": str(self.temporary),
            "BUILDS_LOG": str(self.log),
            "BUILDS_GATE": str(self.gate),
        }

    def offer(self, *files: BuiltSdist | BuiltWheel, **page: Any) -> None:
        """Put files on the index."""
        for file in files:
            name = file.filename.rpartition("-")[0] if isinstance(file, BuiltSdist) else None
            self.index.add(file.data, file.filename, project=name and name.replace("_", "-"), **page)

    def lock(self, *lines: str, name: str = "requirements.txt") -> Path:
        """A requirements file in the test's folder."""
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n")
        return path

    def argv(self, lock: tuple[str, ...], venv: str, options: tuple[str | Path, ...]) -> list[str | Path]:
        """The arguments of a sync of these lines into the environment called `venv`."""
        return ["sync", self.lock(*lock), "--venv", self.venv(venv), "-i", self.index.url, *options]

    def sync(self, *lock: str, venv: str = "venv", options: tuple[str | Path, ...] = ()) -> dict[str, Any]:
        """Sync these lines; the answer."""
        argv = self.argv(lock, venv, options)
        return self.pkgc.ok(*argv, "--output-format", "json", cwd=self.folder).json

    def run(self, *lock: str, venv: str = "venv", options: tuple[str | Path, ...] = ()) -> Result:
        """Sync these lines as a person sees it."""
        return self.pkgc.run(*self.argv(lock, venv, options), cwd=self.folder)

    def fails(self, *lock: str, venv: str = "venv", options: tuple[str | Path, ...] = ()) -> dict[str, Any]:
        """Sync these lines, which must fail; the error, as `locks.failure` has it."""
        argv = self.argv(lock, venv, options)
        result = self.pkgc.run(*argv, "--output-format", "json", cwd=self.folder)
        assert result.status in (1, 2), str(result)
        (error,) = result.json["errors"]
        assert error["code"] != "internal-error", str(result)
        assert result.json["ok"] is False, str(result)
        return {**error, "exit": result.status, "everything": told(error)}

    def venv(self, name: str = "venv") -> Path:
        """Where the environment of that name is, or will be."""
        return self.folder / name

    def info(self, name: str, venv: str = "venv") -> Path:
        """The .dist-info folder of a project."""
        return next(site(self.venv(venv)).glob(f"{name.replace('-', '_')}-*.dist-info"))

    def record(self, name: str, venv: str = "venv") -> dict[str, Any]:
        """direct_url.json of a project, which the specification's own reader takes (PEP 610)."""
        info = self.info(name, venv)
        assert not (info / "provenance_url.json").exists(), "a direct reference has no provenance_url.json"
        record: dict[str, Any] = json.loads((info / "direct_url.json").read_text())
        read = DirectUrl.from_dict(record)
        assert read.to_dict() == {key: value for key, value in record.items() if key != "pkgc"}
        return record

    def provenance(self, name: str, venv: str = "venv") -> dict[str, Any]:
        """provenance_url.json of a project (PEP 710)."""
        info = self.info(name, venv)
        assert not (info / "direct_url.json").exists(), "what an index serves has no direct_url.json"
        record: dict[str, Any] = json.loads((info / "provenance_url.json").read_text())
        return record

    def settings(self, name: str, venv: str = "venv") -> Any:
        """The config_settings that the backend of a project got."""
        return json.loads((self.info(name, venv) / "settings.json").read_text())

    def builds(self, name: str, kind: str = "wheel") -> int:
        """How often the backend of a project made a wheel (or ``editable``)."""
        wanted = [name.replace("-", "_"), kind]
        return sum(line.split()[:2] == wanted for line in self.log.read_text().splitlines())

    def noted(self, name: str, kind: str = "wheel") -> tuple[int, int]:
        """Process and session of the last note of a backend."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return next((int(line[2]), int(line[3])) for line in reversed(lines) if line[:2] == [name, kind])

    def wait_for(self, name: str, kind: str = "wheel") -> None:
        """Wait until the backend of a project is at work."""
        wait_until(lambda: self.builds(name, kind) > 0, f"the {kind} of {name} is being built", 60)

    def leftovers(self) -> list[str]:
        """Files and folders in the TMPDIR of the builds, without the logs of failed ones."""
        found = [path.relative_to(self.temporary) for path in self.temporary.rglob("*")]
        kept = {"build.log", ".pkgc-build"}
        return sorted(
            str(path)
            for path in found
            if not (path.name in kept or list((self.temporary / path).glob("build.log")))
        )


def origins(answer: Mapping[str, Any]) -> dict[str, str]:
    """Project -> where it was taken from, of a JSON answer of sync."""
    return {one["name"]: one["from"] for one in answer["installed"]}


def session_members(session: int) -> list[int]:
    """The processes of a session that run (zombies do not)."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and alive(int(entry)):
            found.append(int(entry))
    return found


@contextmanager
def shared_instance(root: Path, way: str, config: str = "") -> Iterator[Instance]:
    """An instance for a whole module, in one of the two ways (see conftest's `pkgc`)."""
    root.mkdir(parents=True)
    (root / "config.toml").write_text(config)
    with running(root, host_calls=way == "client-acts") as instance:
        yield instance


def changed(path: Path, edit: Callable[[str], str]) -> None:
    """Rewrite a text file; its content must change."""
    before = path.read_text()
    after = edit(before)
    assert after != before, path
    path.write_text(after)
