"""An isolated pkgc: its own socket, cache and configuration; the real client against the real daemon."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PKGC = Path(sys.executable).with_name("pkgc")

#: Nothing of the machine's own configuration may reach a test.
_DROPPED = ("PIP_", "UV_", "PKGC_", "XDG_")


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's environment without what would configure pip, uv or pkgc, plus `extra`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)}
    for name in ("VIRTUAL_ENV", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "CI"):
        env.pop(name, None)
    env["PIP_CONFIG_FILE"] = os.devnull
    env |= extra
    return env


@dataclass
class Result:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on stdout; the test fails when it is not exactly one."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    @property
    def error_code(self) -> str:
        """The code of the one error of a JSON answer."""
        errors = self.json["errors"]
        assert errors, self.out
        return str(errors[0]["code"])

    def __str__(self) -> str:
        return f"exit {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Instance:
    """One pkgc, as one user on one host sees it.

    Args:
        root: an empty directory; everything lives below it.
        host_calls: have the client do every change, read and probe (the second way).
        command: the `pkgc` to run.
    """

    def __init__(self, root: Path, *, host_calls: bool = False, command: Path = PKGC) -> None:
        self.root = root
        self.command = command
        self.cache = root / "cache"
        self.home = root / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        # sockets have short paths: tmp_path may be long
        self.run_dir = Path(tempfile.mkdtemp(prefix="pkgc-t-"))
        self.socket = self.run_dir / "s"
        self.env = clean_environment(
            PKGC_SOCKET=str(self.socket),
            PKGC_CACHE_DIR=str(self.cache),
            PKGC_CONFIG=str(root / "config.toml"),
            PKGC_IDLE_EXIT="300",
            HOME=str(self.home),
        )
        if host_calls:
            self.env["PKGC_FORCE_HOST_CALLS"] = "1"

    def argv(self, *args: str | Path) -> list[str]:
        """The command line of a call."""
        return [str(self.command), *map(str, args)]

    def start(
        self, *args: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, **popen: Any
    ) -> subprocess.Popen[str]:
        """Start a call without waiting for it."""
        return subprocess.Popen(
            self.argv(*args),
            cwd=cwd or self.root,
            env=self.env | dict(env or {}),
            stdin=popen.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )

    def run(
        self,
        *args: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 120,
    ) -> Result:
        """Run a call to its end."""
        done = subprocess.run(
            self.argv(*args),
            cwd=cwd or self.root,
            env=self.env | dict(env or {}),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def ok(self, *args: str | Path, **options: Any) -> Result:
        """Run a call that must succeed."""
        result = self.run(*args, **options)
        assert result.status == 0, str(result)
        return result

    def sync(self, *args: str | Path, **options: Any) -> dict[str, Any]:
        """`pkgc sync … --output-format json` that must succeed; its answer."""
        return self.ok("sync", *args, "--output-format", "json", **options).json

    def status(self) -> dict[str, Any] | None:
        """`daemon status` as data, or None when no daemon runs."""
        result = self.run("daemon", "status", "--output-format", "json")
        return result.json if result.status == 0 else None

    def pid(self) -> int:
        """The daemon's pid; the test fails when none runs."""
        status = self.status()
        assert status is not None, "no daemon runs"
        return int(status["pid"])

    def kill(self) -> None:
        """kill -9 the daemon and wait until it is gone."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), "the daemon is gone")

    def stop(self) -> None:
        """Stop the daemon, if one runs, and remove the socket's folder."""
        self.run("daemon", "stop", timeout=90)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def requirements(self, *lines: str, name: str = "requirements.txt") -> Path:
        """Write a requirements file."""
        path = self.root / name
        path.write_text("\n".join(lines) + "\n")
        return path

    def leftovers(self) -> list[str]:
        """Temporary and partial files in the cache."""
        found = []
        for folder in ("incoming", "tmp", "quarantine"):
            base = self.cache / folder
            # Not rglob: what the daemon removes meanwhile is not left over.
            for place, _, names in os.walk(base):
                found += [str((Path(place) / name).relative_to(self.cache)) for name in names]
        return sorted(name for name in found if (self.cache / name).is_file())


@contextmanager
def running(root: Path, **options: Any) -> Iterator[Instance]:
    """An instance that is stopped at the end."""
    instance = Instance(root, **options)
    try:
        yield instance
    finally:
        instance.stop()


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition: Any, what: str, timeout: float = 20.0) -> None:
    """Poll until `condition()` holds.

    Raises:
        AssertionError: it did not within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.01)


def snapshot(folder: Path, ignore: Sequence[str] = ()) -> dict[str, tuple[str, bytes | str]]:
    """Every path below `folder` with its kind and content, to compare two states of an environment."""
    state: dict[str, tuple[str, bytes | str]] = {}
    for base, dirs, files in os.walk(folder):
        for name in [*dirs, *files]:
            path = Path(base, name)
            relative = str(path.relative_to(folder))
            if any(relative == skip or relative.startswith(skip + "/") for skip in ignore):
                continue
            if path.is_symlink():
                state[relative] = ("link", os.readlink(path))
            elif path.is_dir():
                state[relative] = ("dir", "")
            else:
                state[relative] = ("x" if os.access(path, os.X_OK) else "file", path.read_bytes())
    return state
