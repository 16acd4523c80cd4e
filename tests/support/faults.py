"""For fault tests: processes with armed faults, what an environment must hold, what a sound cache is."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pkgc_daemon.installing.compiled import source_of
from tests.support.instance import Instance, alive, snapshot, wait_until
from tests.support.locks import pin, site
from tests.support.server import IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

ARMED = Path(__file__).with_name("armed.py")
#: What differs between two states of an environment without being a difference.
IGNORED = (".lock",)


def noise(seed: str, size: int) -> bytes:
    """Incompressible bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def package(name: str, version: str, *, modules: int = 6, big: int = 0) -> BuiltWheel:
    """A wheel with a package, a file in a namespace shared with others, a script, and perhaps a big file."""
    files: dict[str, bytes | str] = {
        f"{name}/m{number}.py": f"# {name} {version}\nX = {number}\n" * 20 for number in range(modules)
    }
    files[f"{name}/__init__.py"] = (
        f"__version__ = {version!r}\ndef main():\n    print({name!r}, {version!r})\n"
    )
    files[f"shared_ns/{name}.py"] = f"version = {version!r}\n"
    if version.startswith("1"):
        files[f"{name}/only_in_1.txt"] = "gone in 2\n"
    if big:
        files[f"{name}/big.bin"] = noise(f"{name} {version}", big)
    entry_points = {"console_scripts": {name: f"{name}:main"}}
    return make_wheel(name, version, files, entry_points=entry_points)


def offer(index: IndexServer, *wheels: BuiltWheel) -> None:
    """Put wheels on the index."""
    for wheel in wheels:
        index.add(wheel.data, wheel.filename)


def lock(pkgc: Instance, name: str, wheels: Iterable[BuiltWheel], *, hashed: bool = True) -> Path:
    """A requirements file that pins `wheels`."""
    return pkgc.requirements(*(pin(wheel, hashed=hashed) for wheel in wheels), name=name)


def state(venv: Path) -> dict[str, tuple[str, bytes | str]]:
    """The environment as two states are compared: without bytecode, which is there once the store has it.

    Bytecode without its source would be a difference, though.
    """
    found = snapshot(venv, ignore=IGNORED)
    compiled = {path for path in found if "__pycache__" in path.split("/")}
    for path in compiled:
        if path.endswith(".pyc"):
            assert source_of(path) in found, path
    return {path: fact for path, fact in found.items() if path not in compiled}


def environment_faults(venv: Path, wheels: Iterable[BuiltWheel]) -> list[str]:
    """Everything in which an environment differs from exactly these wheels; empty when it is right."""
    if (venv / ".pkgc").exists():
        return [".pkgc is there"]
    base = site(venv)
    faults: list[str] = []
    expected: set[str] = set()
    for wheel in wheels:
        info = ""
        with zipfile.ZipFile(io.BytesIO(wheel.data)) as archive:
            for name in archive.namelist():
                path = base / name
                expected.add(name)
                if name.endswith("/RECORD"):
                    info = name.rpartition("/")[0]
                    if not path.is_file():
                        faults.append(f"{name} is missing")
                elif not path.is_file():
                    faults.append(f"{name} is missing")
                elif path.read_bytes() != archive.read(name):
                    faults.append(f"{name} has other bytes")
        expected |= {f"{info}/{name}" for name in ("INSTALLER", "REQUESTED", "provenance_url.json")}
    for folder, folders, files in os.walk(base):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in files:
            relative = str(Path(folder, name).relative_to(base))
            if relative not in expected:
                faults.append(f"{relative} belongs to nothing that was locked")
        if not folders and not files and Path(folder) != base and not folder.endswith("__pycache__"):
            faults.append(f"{Path(folder).relative_to(base)} is an empty folder")
    return faults


def assert_holds(venv: Path, *wheels: BuiltWheel) -> None:
    """The environment is exactly what a lock of `wheels` says."""
    assert environment_faults(venv, wheels) == []


def store_faults(cache: Path) -> list[str]:
    """What is wrong in the store's files by their names alone, without asking the daemon."""
    faults = []
    for path in (cache / "artifacts").glob("??/*"):
        if path.suffix == ".json":
            # the sidecar of an artifact that was put away stays with its tree
            tree = cache / "trees" / path.parent.name / path.stem
            if not path.with_suffix("").exists() and not tree.exists():
                faults.append(f"{path.name} describes nothing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            faults.append(f"the artifact {path.name} has other bytes")
    return faults


def assert_sound(pkgc: Instance, *, partial: bool = False) -> None:
    """The cache has no leftovers, its bytes are right, and the catalog names exactly what is on the disk.

    Args:
        partial: a partial download may lie there (with its sidecar).
    """
    left = [name for name in pkgc.leftovers() if not (partial and name.startswith("incoming/"))]
    assert not left, f"left in the cache: {left}"
    faults = store_faults(pkgc.cache)
    assert not faults, faults
    verified = pkgc.ok("cache", "verify", "--output-format", "json").json
    assert verified["damaged"] == [], verified["damaged"]
    listed = pkgc.ok("cache", "list", "--output-format", "json").json["artifacts"]
    on_disk = {p.name for p in (pkgc.cache / "artifacts").glob("??/*") if p.suffix != ".json"}
    assert {one["sha256"] for one in listed if one["artifact_bytes"]} == on_disk
    trees = {path.name for path in (pkgc.cache / "trees").glob("??/*")}
    assert {one["sha256"] for one in listed if one["tree_files"]} == trees


class ArmedDaemon:
    """A daemon of `pkgc` in the foreground with faults armed; killed at the end if it still runs."""

    def __init__(self, pkgc: Instance, *points: str) -> None:
        self._pkgc = pkgc
        pkgc.cache.mkdir(parents=True, exist_ok=True)
        command: list[str | Path] = [sys.executable, ARMED, "daemon", *points, "--"]
        command += ["--socket", pkgc.socket, "--cache-dir", pkgc.cache]
        self._log = (pkgc.root / "armed.log").open("ab")
        self.process = subprocess.Popen(
            command,
            # faults are armed in this one process: it must do all by itself
            env=pkgc.env | {"PKGC_UNPACK_PROCESSES": "0"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        wait_until(self._answers, "the armed daemon answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self._pkgc.root / "armed.log").read_text()
        return self._pkgc.socket.exists() and self._pkgc.status() is not None

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(20)
        self._log.close()

    def wait_dead(self) -> None:
        """Wait until it has killed itself."""
        assert self.process.wait(30) == -signal.SIGKILL
        self._log.close()


@contextmanager
def armed_daemon(pkgc: Instance, *points: str) -> Iterator[ArmedDaemon]:
    """The daemon of `pkgc` with faults armed; the one that runs is stopped first."""
    pkgc.ok("daemon", "stop")
    daemon = ArmedDaemon(pkgc, *points)
    try:
        yield daemon
    finally:
        daemon.kill()


def start_armed_client(pkgc: Instance, points: Iterable[str], *args: str | Path) -> subprocess.Popen[str]:
    """A client with faults armed."""
    return subprocess.Popen(
        [sys.executable, ARMED, "client", *points, "--", *map(str, args)],
        cwd=pkgc.root,
        env=pkgc.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def client_acts(pkgc: Instance) -> bool:
    """Whether the client is the hands of this instance."""
    return "PKGC_FORCE_HOST_CALLS" in pkgc.env


def stop_there(pkgc: Instance, point: str, *args: str | Path) -> None:
    """Run a call until whoever acts reaches `point`, and kill -9 that one there.

    The daemon acts: daemon and client are killed, so that nobody tries again. The client acts: only the
    client is killed, and the daemon has to live on.
    """
    gate = pkgc.root / f"gate-{random.randrange(1 << 60)}"
    reached = Path(f"{gate}.reached")
    if client_acts(pkgc):
        pid = pkgc.pid()
        client = start_armed_client(pkgc, [f"{point}=pause:{gate}"], *args)
        wait_for(reached, client)
        kill_client(client)
        assert alive(pid), "the daemon died with its client"
        return
    with armed_daemon(pkgc, f"{point}=pause:{gate}") as daemon:
        client = pkgc.start(*args)
        wait_for(reached, client)
        kill_client(client)
        daemon.kill()


def wait_for(reached: Path, client: subprocess.Popen[str]) -> None:
    """Wait for a paused process; a client that ends before is an error."""
    wait_until(lambda: reached.exists() or client.poll() is not None, f"{reached} is there", 30)
    if not reached.exists():
        out, err = client.communicate()
        raise AssertionError(f"the call ended before the point: {client.returncode}\n{out}\n{err}")


def kill_client(client: subprocess.Popen[str]) -> None:
    """kill -9 a client and forget what it said."""
    client.kill()
    client.communicate()


def finish(client: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str, str]:
    """(status, stdout, stderr) of a call that was started."""
    out, err = client.communicate(timeout=timeout)
    return client.returncode, out, err


def descriptors(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def pss(pid: int) -> int:
    """Proportional set size of a process in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def error_of(answer: dict[str, Any]) -> str:
    """Code of the only error of a JSON answer."""
    assert len(answer["errors"]) == 1, answer
    return str(answer["errors"][0]["code"])
