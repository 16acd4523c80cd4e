"""Running git: without questions, hooks or surprises of the caller's variables; bounded in time; cancellable.

It knows how git is started, watched and stopped, and what its failures are called; not what it is asked for.
The user's own configuration counts (credential helpers, proxies, ``insteadOf``, certificates).
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NamedTuple

from pkgc_daemon.errors import PkgcError
from pkgc_daemon.redaction import MASK, redact_text

from . import lifeline
from .directories import interrupted
from .giturls import Remote

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]

#: Seconds without a sign of life after which git is stopped.
STALL = 300.0
#: How often it is looked whether the call was cancelled.
_LOOK = 0.05
#: Seconds that git has to clean up after itself.
_GRACE = 2.0
#: Bytes of output that are kept: a list of half a million branches.
_MOST_OUTPUT = 128 * 1024 * 1024
#: Bytes of its messages that are kept, the last ones.
_MOST_MESSAGES = 64 * 1024

#: What would make git work on another repository (git rev-parse --local-env-vars), or say other things.
#: GIT_CONFIG_COUNT stays: CI systems pass credentials with it.
_DROPPED = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INDEX_VERSION",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_SHALLOW_FILE",
        "GIT_GRAFT_FILE",
        "GIT_QUARANTINE_PATH",
        "GIT_REPLACE_REF_BASE",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_CONFIG",
        "GIT_DEFAULT_HASH",
        "GIT_TEMPLATE_DIR",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_LITERAL_PATHSPECS",
        "GIT_GLOB_PATHSPECS",
        "GIT_NOGLOB_PATHSPECS",
        "GIT_ICASE_PATHSPECS",
        "GIT_EXTERNAL_DIFF",
        "GIT_ATTR_SOURCE",
        "GIT_CEILING_DIRECTORIES",
        "GIT_REF_PARANOIA",
        "GIT_FLUSH",
        "GIT_DEFAULT_REF_FORMAT",
        "GIT_PROTOCOL_FROM_USER",
        "LANGUAGE",
        "SSH_ASKPASS",
    }
)
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "protocol.ext.allow=never",
    "protocol.fd.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "fetch.prune=false",
    "color.ui=false",
    "advice.detachedHead=false",
)
_HELPER = (
    '!f() { test "$1" = get || exit 0; printf "username=%s\\npassword=%s\\n" '
    '"$PKGC_GIT_USERNAME" "$PKGC_GIT_PASSWORD"; }; f'
)

_PROGRESS = re.compile(rb"(?:Receiving objects|Resolving deltas|Updating files): +\d+% \((\d+)/(\d+)\)")
_NOISE = re.compile(
    r"(?:remote: )?(?:Enumerating|Counting|Compressing|Receiving|Resolving|Updating|Total) .*"
)

# First match wins; the texts are git's, curl's, ssh's and those of the large hosts, in English (LC_ALL=C).
_CAUSES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (code, re.compile(pattern, re.IGNORECASE))
    for code, pattern in (
        ("disk-full", r"No space left on device|Disk quota exceeded"),
        (
            "git-authentication",
            (
                r"Authentication failed|could not read (?:Username|Password)|terminal prompts disabled"
                r"|Permission denied \(|Host key verification failed|HTTP Basic: Access denied"
                r"|requested URL returned error: 40[13]|Invalid username or|Too many authentication failures"
            ),
        ),
        ("not-advertised", r"not our ref|unadvertised object|dumb http transport does not support shallow"),
        ("no-such-ref", r"couldn't find remote ref|Remote branch .* not found"),
        (
            "git-unreachable",
            (
                r"unable to access|unable to connect|Could not resolve"
                r"|Connection (?:refused|timed out|reset|closed)"
                r"|Could not read from remote repository|does not appear to be a git repository"
                r"|repository '.*' not found|repository not found|RPC failed|early EOF|unexpected disconnect"
                r"|the remote end hung up|Network is unreachable|No route to host|unsafe repository"
                r"|dubious ownership|not valid: is this a git repository|transport '.*' not allowed"
                r"|access denied or repository not exported"
            ),
        ),
    )
)
_HINTS = {
    "disk-full": "free some space and run the command again",
    "git-authentication": "give git access to the repository: a credential helper, the ssh agent, or "
    "${VARIABLES} with user and password in the URL; `git ls-remote URL` shows whether it has it",
    "git-unreachable": "check the URL and the network; `git ls-remote URL` shows what git finds",
}


class Ran(NamedTuple):
    """How a git command ended."""

    status: int
    output: bytes
    messages: str
    """What it wrote to stderr, its last part, without credentials and progress."""

    @property
    def complaint(self) -> str:
        """The last lines of its messages."""
        return "\n".join(self.messages.splitlines()[-8:]) or f"exit status {self.status}, no message"

    @property
    def cause(self) -> str:
        """The code of its failure, as far as the messages tell; ``git-failed`` for others."""
        return next((code for code, pattern in _CAUSES if pattern.search(self.messages)), "git-failed")


class Git:
    """git for one remote.

    Args:
        remote: whose credentials it gets.
        progress: told of objects received and files written, as git counts them.
        cancelled: asked all the time; then git and what it started are stopped.
        environ: the variables that it starts with (default: this process's).
        stall: seconds without output after which it is stopped.

    Raises:
        PkgcError: as `run`.
    """

    def __init__(
        self,
        remote: Remote,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        stall: float = STALL,
    ) -> None:
        self.remote = remote
        self.cancelled = cancelled
        self._progress = progress
        self._stall = stall
        self._environ = git_environment(remote, os.environ if environ is None else environ)
        own_ssh = {"GIT_SSH", "GIT_SSH_COMMAND"} & self._environ.keys()
        # The variable would overrule a configured command.
        if remote.transport == "ssh" and not own_ssh and not self.run("config", "core.sshCommand").output:
            self._environ["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes"

    def run(self, *arguments: str, folder: str | None = None) -> Ran:
        """Run ``git ARGUMENTS`` to its end.

        Args:
            folder: of the checkout; None: no folder that means anything.

        Raises:
            PkgcError: ``git-missing``, ``git-stalled``, ``git-failed`` (too much output), ``interrupted``.
        """
        # A folder that is no repository must not lead to one above it.
        ceiling = {} if folder is None else {"GIT_CEILING_DIRECTORIES": os.path.dirname(folder)}
        command = ["git"]
        for setting in (*_SETTINGS, *self._file_settings()):
            command += ("-c", setting)
        command += arguments
        try:
            process = lifeline.start(
                command,
                self._environ | ceiling,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder or "/",
            )
        except FileNotFoundError as error:
            if folder is not None and not os.path.isdir(folder):
                raise PkgcError("git-failed", f"{folder}: {error.strerror}") from error
            raise _missing(self.remote) from error
        except OSError as error:
            raise _missing(self.remote, error) from error
        with process:
            try:
                output, messages = self._watch(process)
            except BaseException:
                _end(process)
                raise
            lifeline.release(process)  # a daemon that remembers passwords may stay
        return Ran(process.returncode, output, self._readable(messages))

    def check(self, doing: str, *arguments: str, folder: str | None = None) -> Ran:
        """As `run`, and a failure is an error.

        Args:
            doing: what failed, e.g. ``cannot fetch``.

        Raises:
            PkgcError: as `run`; ``git-authentication``, ``git-unreachable``, ``disk-full``, ``git-failed``.
        """
        ran = self.run(*arguments, folder=folder)
        if ran.status:
            raise self.failure(doing, ran)
        return ran

    def failure(self, doing: str, ran: Ran) -> PkgcError:
        """The error for a command that failed."""
        code = ran.cause if ran.cause in _HINTS else "git-failed"
        return PkgcError(code, f"{doing} {self.remote.shown}", context=ran.complaint, hint=_HINTS.get(code))

    def _file_settings(self) -> tuple[str, ...]:
        # Submodules may be local only if the repository itself is (CVE-2022-39253).
        return ("protocol.file.allow=always",) if self.remote.transport == "file" else ()

    def _watch(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        output, messages = bytearray(), bytearray()
        streams: dict[IO[bytes] | None, bytearray] = {process.stdout: output, process.stderr: messages}
        heard = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for stream in streams:
                assert stream is not None
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                if self.cancelled is not None and self.cancelled():
                    raise interrupted()
                for key, _ in selector.select(_LOOK):
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                        continue
                    heard = time.monotonic()
                    kept = output if key.fileobj is process.stdout else messages
                    kept += data
                    if kept is messages:
                        self._report(data)
                        del messages[:-_MOST_MESSAGES]
                if len(output) > _MOST_OUTPUT:
                    raise PkgcError("git-failed", f"{self.remote.shown}: git's answer is too long")
                if time.monotonic() - heard > self._stall:
                    raise self._stall_error(bytes(messages))
        return bytes(output), bytes(messages)

    def _report(self, data: bytes) -> None:
        if self._progress is not None and (found := _PROGRESS.findall(data)):
            done, total = found[-1]
            self._progress(int(done), int(total))

    def _stall_error(self, messages: bytes) -> PkgcError:
        return PkgcError(
            "git-stalled",
            f"git made no progress for {self._stall:g} s with {self.remote.shown}",
            context=self._readable(messages) or None,
            hint="check the network and run the command again",
        )

    def _readable(self, messages: bytes) -> str:
        """What a person reads of git's messages: no progress, no credentials."""
        text = messages.decode("utf-8", "replace")
        for secret in (self.remote.password, self.remote.username):
            if secret is not None and len(secret) > 3:
                text = text.replace(secret, MASK)
        lines = (
            line.rpartition("\r")[2].strip() for line in redact_text(text).replace("\r\n", "\n").split("\n")
        )
        return "\n".join(line for line in lines if line and not _NOISE.fullmatch(line))


def git_environment(remote: Remote, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that git gets.

    No questions: neither on a terminal nor in a window (SSH_ASKPASS); what was configured for git itself
    (GIT_ASKPASS, credential helpers) works.  The URL's user and password come first for its host; a user
    without password may be a token: the helpers are asked first, an empty password is tried last.
    """
    env = {
        key: value
        for key, value in environ.items()
        if key not in _DROPPED and not key.startswith("GIT_TRACE")
    }
    env |= {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "SSH_ASKPASS_REQUIRE": "never",
        "GCM_INTERACTIVE": "never",
        "GIT_OPTIONAL_LOCKS": "0",
    }
    if remote.username is not None:
        section = f"credential.{remote.origin}"
        settings = [(f"{section}.helper", _HELPER)]
        if remote.password is not None:
            settings.insert(0, (f"{section}.helper", ""))  # forget the others
        else:
            settings.insert(0, (f"{section}.username", remote.username))
        env |= _as_variables(settings, env)
        env |= {"PKGC_GIT_USERNAME": remote.username, "PKGC_GIT_PASSWORD": remote.password or ""}
    return env


def _as_variables(settings: Sequence[tuple[str, str]], env: Mapping[str, str]) -> dict[str, str]:
    """Settings as git reads them from variables, behind those that are there already."""
    given = env.get("GIT_CONFIG_COUNT", "")
    start = int(given) if given.isdecimal() else 0
    variables = {"GIT_CONFIG_COUNT": str(start + len(settings))}
    for number, (key, value) in enumerate(settings, start):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop git and all that it started: politely, so that it removes its temporary files; then for good."""
    for number, patience in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _missing(remote: Remote, error: OSError | None = None) -> PkgcError:
    return PkgcError(
        "git-missing",
        f"git is needed for {remote.shown}, and cannot be run here",
        context=None if error is None else error.strerror,
        hint="install git and run the command again",
    )
