"""The client alone: what it loads, how it behaves in pipes and on terminals."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.instance import Instance, wait_until
from tests.support.server import Behaviour, IndexServer
from tests.support.wheels import BuiltWheel, make_wheel

#: What costs more than a no-op sync may.
HEAVY = {
    "typer", "click", "asyncio", "rich", "socket", "json", "typing", "enum", "dataclasses", "subprocess",
    "pathlib", "re", "select", "selectors", "threading", "logging", "inspect", "tempfile", "shutil",
    "importlib.metadata", "contextlib", "functools", "pkgc_daemon", "msgpack", "datetime", "collections",
}  # fmt: skip
#: All that the client loads beyond a bare interpreter before its request is sent.
BEFORE = {
    "_socket", "pkgc_client", "pkgc_client.hot", "pkgc_protocol", "pkgc_protocol.brief",
    "pkgc_protocol.places", "pkgc_protocol.version",
}  # fmt: skip
#: And what it loads while the daemon works.
AFTER = {
    "__future__", "pkgc_client.talk", "pkgc_protocol.frames", "pkgc_protocol.messages",
    "pkgc_protocol.states",
}  # fmt: skip

SPY = """
import sys
import errno, os  # part of the interpreter
before = set(sys.modules)
leave = os._exit
def spy(status):
    os.write(9, "\\n".join(sorted(set(sys.modules) - before)).encode())
    leave(status)
os._exit = spy
sys.argv[0] = "pkgc"
from pkgc_client import hot
begin = hot.begin
def begin_and_tell(*args):
    begin(*args)
    os.write(9, ("\\n".join(sorted(set(sys.modules) - before)) + "\\n\\n").encode())
hot.begin = begin_and_tell
hot.main()
"""


def test_hot_path_imports(own_pkgc: Instance, index: IndexServer, demo: BuiltWheel, venv: Path) -> None:
    """Each of these modules costs milliseconds in every no-op sync."""
    lock = own_pkgc.requirements(f"demo==1.0 --hash=sha256:{demo.sha256}")
    own_pkgc.sync(lock, "--venv", venv, "-i", index.url)
    read, write = os.pipe()
    script = f"import os; os.dup2({write}, 9)\n{SPY}"
    # -S: whatever .pth files of the test environment load is not the client's doing
    code = f"import sys; sys.path += {sys.path!r}\n{script}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, "sync", lock, "--venv", venv, "-i", index.url],
        env=own_pkgc.env,
        pass_fds=(write,),
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(write)
    with os.fdopen(read) as stream:
        first, _, second = stream.read().partition("\n\n")
    assert done.returncode == 0, done.stderr
    before, after = set(first.splitlines()), set(second.splitlines())
    assert not after & HEAVY
    assert before == BEFORE
    assert after == BEFORE | AFTER


@pytest.mark.parametrize("argv", [("sync", "--help"), ("cache", "dir"), ("daemon", "logs"), ("--help",)])
def test_piped_into_head(own_pkgc: Instance, argv: tuple[str, ...]) -> None:
    """`pkgc … | head` ends without a traceback."""
    own_pkgc.ok("daemon", "start")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        own_pkgc.argv(*argv), env=own_pkgc.env, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141


class Terminal:
    """A command on a pseudo-terminal of 60 columns."""

    def __init__(self, instance: Instance, *args: str | Path) -> None:
        pid, self.master = pty.fork()
        if pid == 0:
            os.chdir(instance.root)
            os.environ.clear()
            os.environ.update(instance.env | {"TERM": "xterm", "COLUMNS": "60"})
            os.execv(instance.command, instance.argv(*args))
        self.pid = pid
        self.seen = b""

    def read(self, seconds: float) -> bytes:
        """Everything that was shown until now, waiting at most so long for the end."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:  # EIO: the other end is closed
                    break
                if not data:
                    break
                self.seen += data
        return self.seen

    def status(self) -> int:
        """Wait for the end; the exit status."""
        self.read(30)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def slow_lock(own_pkgc: Instance, index: IndexServer) -> Path:
    """A lock whose one file takes about 2 s."""
    wheel = make_wheel("slow", "1.0", {"slow.py": "", "slow.bin": os.urandom(3_000_000)})
    index.add(wheel.data, wheel.filename)
    index.behave(wheel.filename, Behaviour(times=None, rate=1_500_000))
    return own_pkgc.requirements(f"slow==1.0 --hash=sha256:{wheel.sha256}")


def test_terminal_shows_a_live_block_and_erases_it(
    own_pkgc: Instance, index: IndexServer, venv: Path, slow_lock: Path
) -> None:
    """People see that it works, and afterwards only what happened."""
    terminal = Terminal(own_pkgc, "sync", slow_lock, "--venv", venv, "-i", index.url)
    assert terminal.status() == 0
    shown = terminal.seen
    assert b"\x1b[J" in shown, "no live block was ever replaced"
    assert b"slow" in shown
    last_erase = shown.rindex(b"\x1b[J")
    assert b"slow" in shown[last_erase:]
    assert b"MB/s" not in shown[last_erase:]


def test_ctrl_c_on_a_terminal(own_pkgc: Instance, index: IndexServer, venv: Path, slow_lock: Path) -> None:
    """The key that everybody presses: the line discipline's SIGINT, and a clean screen afterwards."""
    terminal = Terminal(own_pkgc, "sync", slow_lock, "--venv", venv, "-i", index.url)
    wait_until(lambda: b"slow" in terminal.read(0.1), "the live block is shown")
    os.write(terminal.master, b"\x03")
    assert terminal.status() == 130
    shown = terminal.seen
    assert b"Traceback" not in shown
    assert shown.count(b"interrupted") >= 1
    assert b"\x1b[J" in shown[: shown.rindex(b"interrupted")]
    wait_until(lambda: index.active == 0, "the transfer has stopped", 1)


def test_no_escape_sequences_without_a_terminal(
    own_pkgc: Instance, index: IndexServer, venv: Path, slow_lock: Path
) -> None:
    """Logs of CI jobs stay readable: no colour, no live block, no wrapped lines."""
    result = own_pkgc.ok("sync", slow_lock, "--venv", venv, "-i", index.url)
    assert "\x1b" not in result.out + result.err
    assert "\r" not in result.out + result.err


def test_ignored_interrupts_stay_ignored(
    own_pkgc: Instance, index: IndexServer, venv: Path, slow_lock: Path
) -> None:
    """`nohup` and background jobs of scripts ignore SIGINT; the client respects it."""
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    client = subprocess.Popen(
        command + own_pkgc.argv("sync", slow_lock, "--venv", venv, "-i", index.url),
        env=own_pkgc.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: index.active, "the transfer has begun")
    client.send_signal(2)
    assert client.wait(30) == 0
