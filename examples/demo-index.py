# ruff: noqa: INP001, T201  (a script for people to run, not a module)
"""Makes small wheels and serves them as a package index on loopback, to try pkgc out. Needs only Python.

wheel FOLDER NAME VERSION TEXT [--build N]
        write FOLDER/NAME-VERSION[-N]-py3-none-any.whl, whose script NAME prints TEXT
hash FILE [ALGORITHM]   print the file's hash (default: sha256) as a lock has it
serve FOLDER [--no-hashes] [--no-etag] [--header 'NAME: VALUE']...
        serve FOLDER in the background and print the URL: the index is URL/simple/, the files are URL/files/…;
        each request adds a line to FOLDER.log
stop FOLDER...          end what serves these folders (removing them does it too)
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import signal
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAYLOAD = b"0123456789abcde\n" * 20_000  # 320 kB, so that sizes mean something


def make_wheel(folder: Path, name: str, version: str, text: str, build: str | None) -> Path:
    """Write a wheel; the same arguments always give the same bytes."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"def main():\n    print({text!r})\n".encode(),
        f"{name}/payload.txt": PAYLOAD,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: demo\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n".encode(),
    }
    record = ""
    for inner, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{inner},sha256={digest},{len(data)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}{f'-{build}' if build else ''}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, data in files.items():
            wheel.writestr(zipfile.ZipInfo(inner, (2020, 1, 1, 0, 0, 0)), data)
    return path


class Handler(BaseHTTPRequestHandler):
    """Answers with a project's page (None: it has no files) or a file of the folder."""

    protocol_version = "HTTP/1.1"
    folder: Path
    options: argparse.Namespace

    def do_GET(self) -> None:
        """Answer one request, and log it."""
        parts = self.path.strip("/").split("/")
        kind, body = "text/html; charset=utf-8", None
        if len(parts) == 2 and parts[0] == "simple":
            body = self.page(parts[1])
        elif len(parts) == 2 and parts[0] == "files" and parts[1] in os.listdir(self.folder):
            kind, body = "application/octet-stream", (self.folder / parts[1]).read_bytes()
        status = 404 if body is None else 200
        etag = f'"{hashlib.sha256(body or b"").hexdigest()[:16]}"'
        if self.options.etag and self.headers.get("If-None-Match") == etag:
            status, body = 304, b""
        with self.folder.with_name(f"{self.folder.name}.log").open("a") as log:
            log.write(f"{self.command} {self.path} {status}\n")
        self.send_response(status)
        for header in self.options.header:
            name, _, value = header.partition(":")
            self.send_header(name.strip(), value.strip())
        if self.options.etag:
            self.send_header("ETag", etag)
        if status != 304:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def page(self, project: str) -> bytes | None:
        links = ""
        for path in sorted(self.folder.glob(f"{project}-*.whl")):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            fragment = f"#sha256={digest}" if self.options.hashes else ""
            links += f'<a href="/files/{path.name}{fragment}">{path.name}</a><br>\n'
        return f"<!DOCTYPE html>\n{links}".encode() if links else None

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Ends when its folder is removed."""

    def service_actions(self) -> None:  # called twice a second
        if not Handler.folder.is_dir():
            os._exit(0)


def serve(options: argparse.Namespace) -> None:
    """Print the URL, and serve in a process of its own."""
    folder = Handler.folder = Path(options.folder).resolve()
    Handler.options = options
    server = Server(("127.0.0.1", 0), Handler)
    folder.with_name(f"{folder.name}.log").touch()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    if child := os.fork():
        folder.with_name(f"{folder.name}.pid").write_text(str(child))
        return
    os.setsid()
    for stream in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("wheel")
    for argument in ("folder", "name", "version", "text", "--build"):
        verb.add_argument(argument)
    verb = verbs.add_parser("hash")
    verb.add_argument("file", type=Path)
    verb.add_argument("algorithm", nargs="?", default="sha256")
    verb = verbs.add_parser("serve")
    verb.add_argument("folder")
    verb.add_argument("--no-hashes", dest="hashes", action="store_false")
    verb.add_argument("--no-etag", dest="etag", action="store_false")
    verb.add_argument("--header", action="append", default=[])
    verbs.add_parser("stop").add_argument("folders", nargs="+")
    given = parser.parse_args()
    if given.verb == "wheel":
        print(make_wheel(Path(given.folder), given.name, given.version, given.text, given.build))
    elif given.verb == "hash":
        print(f"{given.algorithm}:{hashlib.new(given.algorithm, given.file.read_bytes()).hexdigest()}")
    elif given.verb == "serve":
        serve(given)
    else:
        for folder in given.folders:
            note = Path(f"{Path(folder)}.pid")
            os.kill(int(note.read_text()), signal.SIGTERM)
            note.unlink()


if __name__ == "__main__":
    main()
