"""Local: the commands that work without a daemon: help, version, `daemon run|start|stop|restart|status|logs`.

Loaded only for them, so it may load what the hot path may not.
"""

from __future__ import annotations

import json
import os
import sys
import time

from pkgc_protocol import __version__
from pkgc_protocol.places import LOCK, LOG, POINTER, cache_dir, default_socket

from .hot import Gone, Unavailable, absolute, call, connect, invoke, read_pointer
from .launch import DRAIN_TIMEOUT, start_daemon
from .talk import Call, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ACTIONS = ("run", "start", "stop", "restart", "status", "logs")


def main(argv: list[str], env: dict[str, str]) -> int:
    """Answer one of this side's commands; its exit status.

    Raises:
        Unavailable: it could not be done.
    """
    words = [word for word in argv if word not in ("--help", "-h")]
    if not argv or len(words) < len(argv) or argv[0] == "help" or argv == ["daemon"]:
        return help_for(
            words[1:] if argv[:1] == ["help"] else words, env, asked=bool(argv) and argv != ["daemon"]
        )
    if argv[0] in ("--version", "-V"):
        say(f"pkgc {__version__}")
        return 0
    if argv[0] == "status":
        return status(argv, env)
    action, options = argv[1], argv[2:]
    if action not in ACTIONS:
        return usage(f"there is no command 'pkgc daemon {action}'", f"one of: {', '.join(ACTIONS)}")
    if action == "status":
        return status(argv, env)
    if action == "run":
        run_daemon(options, env)
    if action == "logs":
        return logs(options, env)
    if action == "start":
        return start(options, env)
    if options:
        return usage(f"'pkgc daemon {action}' takes no {options[0]!r}", "see pkgc daemon --help")
    if action == "stop":
        return stop(env)
    stop(env, quiet=True)
    return start(options, env)


def say(line: str) -> None:
    """One line on stdout."""
    put(1, (line + "\n").encode("utf-8", "surrogateescape"))


def usage(message: str, hint: str) -> int:
    """Wrong usage: exit status 2."""
    put(2, f"error[usage]: {message}\nhint: {hint}\n".encode("utf-8", "surrogateescape"))
    return 2


def json_error(error: Unavailable, argv: list[str], seconds: float) -> bytes:
    """The JSON answer of a command that found no daemon.

    Args:
        error: why.
        argv: the command line: every failure of one command has the same keys.
        seconds: how long it took to find out.
    """
    from pkgc_daemon.serving.documents import failure, json_text

    entry = {"code": error.code, "message": error.message, "context": error.context, "hint": error.hint}
    return json_text(failure(argv[0] if argv else "", [entry], seconds=seconds)).encode()


def help_for(words: list[str], env: dict[str, str], *, asked: bool) -> int:
    """Print help; on stdout when it was asked for, else on stderr with exit status 2."""
    from pkgc_daemon.serving.help import help_text

    on_terminal = os.isatty(1 if asked else 2)
    columns = None
    if on_terminal:
        try:
            columns = os.get_terminal_size(1 if asked else 2).columns or 80
        except OSError:  # it hung up meanwhile
            columns = 80
    answer = help_text(words, columns=columns, color=on_terminal and not env.get("NO_COLOR"))
    put(1 if asked and answer.exit == 0 else 2, answer.text.encode())
    return answer.exit if asked else 2


def run_daemon(options: list[str], env: dict[str, str]) -> None:
    """Become the daemon, in the foreground. Does not return."""
    known = {option.partition("=")[0] for option in options}
    places = []
    if "--socket" not in known:
        places += ["--socket", absolute(default_socket(env, os.getuid()))]
    if "--cache-dir" not in known:
        places += ["--cache-dir", absolute(cache_dir(env))]
    os.execv(sys.executable, [sys.executable, "-I", "-m", "pkgc_daemon", *places, *options])


def start(options: list[str], env: dict[str, str]) -> int:
    """Start the daemon unless it runs."""
    if options:
        if len(options) != 2 or options[0] != "--idle-exit" or not options[1].isdigit():
            return usage(f"'pkgc daemon start' takes no {options[0]!r}", "--idle-exit SECONDS (0: never)")
        env = env | {"PKGC_IDLE_EXIT": options[1]}
    cache = absolute(cache_dir(env))
    sock = connect(env, cache)
    fresh = sock is None
    if sock is None:
        sock = start_daemon(env, cache)
    path = read_pointer(cache) or default_socket(env, os.getuid())
    sock.close()
    say(f"pkgc daemon {'started' if fresh else 'runs already'} ({path})")
    return 0


def stop(env: dict[str, str], *, quiet: bool = False) -> int:
    """Ask the daemon to finish and go; returns when its process is gone.

    Raises:
        Unavailable: it is still there after the time it has for draining.
    """
    cache = absolute(cache_dir(env))
    deadline = time.monotonic() + DRAIN_TIMEOUT
    asked = seen = 0
    while True:
        if not asked:
            asked = ask_to_stop(env, cache)
        pid = asked or holder(cache)  # one that answers nobody: it is finishing, or only about to listen
        if not pid or (asked and not _runs(asked)):
            break
        if time.monotonic() > deadline:
            raise Unavailable("daemon-busy", f"the pkgc daemon (pid {pid}) is still finishing its work")
        time.sleep(0.01 if asked else 0.05)
        seen = pid
    pid = asked or seen
    if not pid:
        if not quiet:
            say("no pkgc daemon runs")
        return 0
    if not quiet:
        say(f"pkgc daemon stopped (pid {pid})")
    return 0


def ask_to_stop(env: dict[str, str], cache: str) -> int:
    """The pid of the daemon that was told to stop, or 0 when none answered.

    Raises:
        Unavailable: it does not take that from this client.
    """
    sock = connect(env, cache)
    if sock is None:
        return 0
    one = Call(sock)
    try:
        one.run({"t": "stop", "reason": "pkgc daemon stop"}, cache)
    except Gone:
        pass  # it is leaving already, or was of another version and leaves because of that
    finally:
        sock.close()
    return one.daemon_pid


def holder(cache: str) -> int:
    """The pid of the process that holds the cache's lock, or 0 when none does."""
    import fcntl

    try:
        with open(os.path.join(cache, POINTER), "rb") as note, open(os.path.join(cache, LOCK), "rb") as lock:
            pid = int(note.read(4096).split(b"\n")[1])
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return pid
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    try:
        with open(f"/proc/{pid}/stat") as stat:  # a zombie whose parent has not looked yet is gone
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return not os.path.isdir("/proc/self")


def status(argv: list[str], env: dict[str, str]) -> int:
    """Show the daemon's status; exit status 1 when none runs. Never starts one."""
    answer = call(invoke(["status", *argv[argv.index("status") + 1 :]], env), env, start=False)
    if answer is not None:
        return answer
    cache = absolute(cache_dir(env))
    path = absolute(default_socket(env, os.getuid()))
    if "json" in argv or "--output-format=json" in argv or env.get("PKGC_OUTPUT_FORMAT") == "json":
        facts: dict[str, Any] = {
            "schema": 1,
            "ok": True,
            "running": False,
            "pid": None,
            "version": __version__,
            "socket": path,
            "cache_dir": cache,
            "uptime_s": None,
            "clients": 0,
            "errors": [],
        }
        say(json.dumps(facts, indent=2))
    else:
        say(f"no pkgc daemon runs\n  socket  {path}\n  cache   {cache}")
    return 1


def logs(options: list[str], env: dict[str, str]) -> int:
    """Print the daemon's log: the last lines (`-n`, default 200), and with `-f` what is added."""
    lines, follow = 200, False
    words = list(options)
    while words:
        word = words.pop(0)
        if word in ("-f", "--follow"):
            follow = True
        elif word in ("-n", "--lines") and words and words[0].isdigit():
            lines = int(words.pop(0))
        else:
            return usage(f"'pkgc daemon logs' takes no {word!r}", "-f, --follow; -n, --lines N")
    path = os.path.join(absolute(cache_dir(env)), LOG)
    try:
        log = open(path, "rb")  # noqa: SIM115  (closed by the with below)
    except OSError as error:
        raise Unavailable("no-log", f"cannot read {path}: {error.strerror}") from error
    with log:
        put(1, b"".join(log.readlines()[-lines:] if lines else []))
        while follow:
            data = log.read(65536)
            if data:
                put(1, data)
            else:
                time.sleep(0.2)
    return 0
