"""Real git servers on loopback, and repositories for them, made by git with fixed names and dates.

    with GitServers(tmp_path / "served") as servers:
        repository = servers.repository("demo")
        first = repository.commit({"pyproject.toml": "…"})
        repository.tag("v1", annotated=True)
        servers.http("demo")  # a URL, smart HTTP through git http-backend
        servers.git("demo")   # a URL, git daemon

They run in threads of their own; each connection is answered by a git process.
"""

from __future__ import annotations

import base64
import http.server
import os
import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

#: For tests that need git.
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git_variables(home: Path) -> dict[str, str]:
    """The variables of a person who has a home and no configuration of git."""
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "LC_ALL": "C",
    }


class Repository:
    """A bare repository to be served, and a place to make commits for it.

    Args:
        folder: of the bare repository.
        hash_name: ``sha1`` or ``sha256``.
    """

    def __init__(self, folder: Path, hash_name: str = "sha1") -> None:
        self.folder = folder
        self._moment = 1_700_000_000
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", "--initial-branch=main", f"--object-format={hash_name}")
        self.git("config", "protocol.file.allow", "always")

    def git(self, *arguments: str, given: bytes = b"") -> str:
        """Run git in the repository; what it says.  Every call is a minute later than the last."""
        self._moment += 60
        date = f"{self._moment} +0000"
        env = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@example.invalid",
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@example.invalid",
            "GIT_COMMITTER_DATE": date,
        }
        ran = subprocess.run(["git", *arguments], cwd=self.folder, env=env, input=given, capture_output=True)
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout.decode().strip()

    def commit(
        self,
        files: Mapping[str, str],
        branch: str = "main",
        *,
        links: Mapping[str, str] | None = None,
        submodules: Mapping[str, tuple[str, str]] | None = None,
    ) -> str:
        """A commit of exactly `files` on top of `branch`; its name.

        Args:
            links: symbolic links: path -> text.
            submodules: path -> (URL, commit).
        """
        contents = {path: ("100644", text) for path, text in files.items()}
        contents |= {path: ("120000", text) for path, text in (links or {}).items()}
        if submodules:
            sections = [
                f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n'
                for path, (url, _) in submodules.items()
            ]
            contents[".gitmodules"] = ("100644", "".join(sections))
        self._moment += 60
        who = f"A <a@example.invalid> {self._moment} +0000"
        stream = f"commit refs/heads/{branch}\nauthor {who}\ncommitter {who}\ndata 6\nchange\n"
        if self.git("for-each-ref", f"refs/heads/{branch}"):
            stream += f"from refs/heads/{branch}^0\n"
        stream += "deleteall\n"
        for path, (mode, text) in contents.items():
            stream += f"M {mode} inline {path}\ndata {len(text.encode())}\n{text}\n"
        for path, (_, commit) in (submodules or {}).items():
            stream += f"M 160000 {commit} {path}\n"
        self.git("fast-import", "--quiet", given=stream.encode())
        return self.git("rev-parse", f"refs/heads/{branch}")

    def tag(self, name: str, commit: str = "main", *, annotated: bool = False) -> None:
        """Tag a commit, with an object of its own or without."""
        self.git("tag", *(("-a", "-m", name) if annotated else ()), name, commit)


class GitServers:
    """Servers of the repositories in one folder. Start them with `with`.

    Args:
        folder: made when missing.
        auth: basic credentials that every request over HTTP must carry.
        version: of the protocol over HTTP, at most; before 2, a commit that is no tip is refused.
    """

    def __init__(self, folder: Path, *, auth: tuple[str, str] | None = None, version: int = 2) -> None:
        self.folder = folder
        self.auth = auth
        self.version = version
        self.hits: list[str] = []
        """What was asked for: ``GET /demo/info/refs``, ``git``."""
        self.silent = threading.Event()
        """While set, requests are accepted and never answered."""
        self.over = threading.Event()
        self._servers: list[socketserver.TCPServer] = []
        self._ports: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def repository(self, name: str, hash_name: str = "sha1") -> Repository:
        """A new repository to serve."""
        return Repository(self.folder / name, hash_name)

    def http(self, name: str, userinfo: str = "") -> str:
        """The URL of a repository over smart HTTP."""
        return f"http://{userinfo}{'@' if userinfo else ''}127.0.0.1:{self._ports['http']}/{name}"

    def git(self, name: str) -> str:
        """The URL of a repository over git's own protocol."""
        return f"git://127.0.0.1:{self._ports['git']}/{name}"

    def file(self, name: str) -> str:
        """The file: URL of a repository."""
        return f"file://{self.folder / name}"

    def __enter__(self) -> GitServers:
        for kind, handler in (("http", _SmartHttp), ("git", _Daemon)):
            bound = type(handler.__name__, (handler,), {"owner": self})
            server = _Server(("127.0.0.1", 0), bound)
            self._ports[kind] = server.server_address[1]
            self._servers.append(server)
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def variables(self) -> dict[str, str]:
        """Of the git processes that answer."""
        return git_variables(self.folder)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of these tests leave when they like."""


class _Daemon(socketserver.BaseRequestHandler):
    """git daemon, one process for each connection, as inetd starts it."""

    owner: GitServers
    request: socket.socket

    def handle(self) -> None:
        self.owner.hits.append("git")
        if self.owner.silent.is_set():
            self.owner.over.wait(60)
            return
        command = ["git", "daemon", "--inetd", "--export-all", f"--base-path={self.owner.folder}"]
        connection = self.request.fileno()
        subprocess.run(command, stdin=connection, stdout=connection, env=self.owner.variables(), check=False)


class _SmartHttp(http.server.BaseHTTPRequestHandler):
    """git http-backend as a CGI program."""

    owner: GitServers
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Tests read `GitServers.hits`."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        self.owner.hits.append(f"{self.command} {path}")
        if self.owner.silent.is_set():
            self.owner.over.wait(60)
            self.close_connection = True
            return
        if self.owner.auth is not None:
            expected = base64.b64encode(":".join(self.owner.auth).encode()).decode()
            if self.headers.get("Authorization") != f"Basic {expected}":
                self._send(401, [("WWW-Authenticate", 'Basic realm="test"')], b"no")
                return
        env = self.owner.variables() | {
            "GIT_PROJECT_ROOT": str(self.owner.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        if self.owner.version >= 2:
            env["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        ran = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
        head, _, content = ran.stdout.partition(b"\r\n\r\n")
        headers = [
            (name, value.strip())
            for name, _, value in (x.partition(":") for x in head.decode().split("\r\n"))
        ]
        status = next((int(value[:3]) for name, value in headers if name == "Status"), 200)
        self._send(status, [pair for pair in headers if pair[0] != "Status"], content)

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
