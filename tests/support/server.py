"""A scriptable HTTP server on loopback for tests: an index, its files, and every way of serving them badly.

It runs in threads of its own with blocking sockets, so that it shares nothing with the event loop under
test.  It is not an HTTP library: it knows what an installer's client sends, no more.

    with IndexServer() as server:
        server.add(wheel.data, wheel.filename)
        server.behave(wheel.filename, Behaviour(truncate_after=1000), Behaviour(status=503))
        ...  # the first GET is cut, the second gets 503, all others are served well
        assert len(server.requests_for(wheel.filename)) == 3

Run as a program, ``python -m tests.support.server DIRECTORY [PORT]`` serves a folder of wheels and prints
the index URL (benchmarks want the server in another process).
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import re
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from tests.support.answers import (
    JSON_TYPE,
    WELL,
    Behaviour,
    Hangup,
    Hit,
    OfferedFile,
    Request,
    cut_range,
    html_page,
    open_body,
    pieces,
    plain,
    read_request,
)

__all__ = ["JSON_TYPE", "Behaviour", "Hit", "IndexServer", "serve_directory"]


class IndexServer:
    """An index on loopback. Start it with `with`, or `start()` and `stop()`.

    Args:
        tls: serve https with this context.
        json: offer JSON pages (else HTML only).
        page_headers: extra headers of index pages, e.g. ``{"Cache-Control": "max-age=600"}``.
        auth: basic credentials that every request must carry.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        json: bool = True,
        page_headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.json = json
        self.page_headers = dict(page_headers or {})
        self.auth = auth
        self.log: list[Hit] = []
        self.connections = 0
        self.active = 0
        self.most_active = 0
        """The largest number of requests that were being answered at once."""
        self._tls = tls
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._files: dict[str, OfferedFile] = {}
        self._pages: dict[tuple[str, str], list[OfferedFile]] = {}
        self._raw: dict[str, tuple[bytes, str]] = {}
        self._behaviours: dict[str, list[tuple[Behaviour, list[int | None]]]] = {}
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0), backlog=512)
        self.host, self.port = host, int(self._listener.getsockname()[1])

    # -- what tests say ------------------------------------------------------------------------------

    @property
    def origin(self) -> str:
        """``http://127.0.0.1:PORT``, no trailing slash."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The index: ``http://127.0.0.1:PORT/simple/``."""
        return self.index_url()

    def index_url(self, index: str = "simple", credentials: str = "") -> str:
        """URL of the index named `index`, with ``user:password`` in it if given."""
        scheme, _, rest = self.origin.partition("://")
        return f"{scheme}://{credentials + '@' if credentials else ''}{rest}/{index}/"

    def file_url(self, filename: str, index: str = "simple") -> str:
        """URL of a file that was added."""
        return f"{self.origin}/files/{index}/{quote(filename)}"

    def add(
        self,
        wheel: bytes | Path,
        filename: str,
        hashes: bool | Mapping[str, str] = True,
        *,
        index: str = "simple",
        project: str | None = None,
        **meta: Any,
    ) -> str:
        """Offer a file and return its URL; a second file of that name replaces the first.

        Args:
            hashes: True: advertise the sha256; False: none; a mapping: exactly these.
            project: normalized name of the page (default: from the file name).
            meta: more keys of the JSON page (``requires-python`` etc. may be spelled with ``_``): yanked,
                size, url, requires_python…  `size=None` drops the size.
        """
        if isinstance(wheel, Path):
            with wheel.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            size = wheel.stat().st_size
        else:
            sha256, size = hashlib.sha256(wheel).hexdigest(), len(wheel)
        advertised = hashes if isinstance(hashes, Mapping) else {"sha256": sha256} if hashes else {}
        entry: dict[str, Any] = {"hashes": dict(advertised), "size": size}
        entry.update({key.replace("_", "-"): value for key, value in meta.items()})
        path = f"/files/{index}/{filename}"
        added = OfferedFile(filename, path, wheel, size, f'"{sha256[:24]}"', entry)
        name = project or re.sub(r"[-_.]+", "-", filename.split("-")[0]).lower()
        with self._lock:
            self._files[path] = added
            page = self._pages.setdefault((index, name), [])
            page[:] = [one for one in page if one.filename != filename] + [added]
        return self.file_url(filename, index)

    def remove(self, filename: str, index: str = "simple") -> None:
        """Take a file off its page and answer 404 for it."""
        with self._lock:
            self._files.pop(f"/files/{index}/{filename}", None)
            for (place, _), page in self._pages.items():
                if place == index:
                    page[:] = [one for one in page if one.filename != filename]

    def put(self, path: str, body: bytes, content_type: str = "text/html") -> str:
        """Serve `body` at an absolute path (a find-links page, garbage, …) and return its URL."""
        with self._lock:
            self._raw[path] = (body, content_type)
        return self.origin + quote(path)

    def behave(self, where: str, *behaviours: Behaviour) -> None:
        """Answer requests for `where` (a path, or a file name in any index) so, one after the other."""
        with self._lock:
            queue = self._behaviours.setdefault(where, [])
            queue.extend((one, [one.times]) for one in behaviours)

    def behave_well(self, where: str | None = None) -> None:
        """Forget the behaviours of `where`, or all."""
        with self._lock:
            if where is None:
                self._behaviours.clear()
            else:
                self._behaviours.pop(where, None)

    def requests_for(self, filename: str) -> list[Hit]:
        """The requests whose path is `filename` or ends in ``/filename``."""
        with self._lock:
            return [hit for hit in self.log if hit.path == filename or hit.path.endswith("/" + filename)]

    def page_requests(self, project: str = "", index: str = "simple") -> list[Hit]:
        """The requests for the page of `project`, or for any page of `index`."""
        prefix = f"/{index}/{project + '/' if project else ''}"
        with self._lock:
            return [hit for hit in self.log if hit.path.startswith(prefix)]

    def clear_log(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self.log.clear()

    def drop_connections(self) -> None:
        """Close every open connection, idle ones too."""
        with self._lock:
            sockets = list(self._open)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # -- life ----------------------------------------------------------------------------------------

    def start(self) -> IndexServer:
        """Begin to accept connections."""
        thread = threading.Thread(target=self._accept, name="index-server", daemon=True)
        self._threads.append(thread)
        thread.start()
        return self

    def stop(self) -> None:
        """Close everything: the port refuses connections from now on."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        for thread in list(self._threads):
            thread.join(10)

    def __enter__(self) -> IndexServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- serving -------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
            thread = threading.Thread(target=self._serve, args=(sock, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock.settimeout(10)
                sock = self._tls.wrap_socket(sock, server_side=True)
                sock.settimeout(None)
        except OSError:
            sock.close()
            return
        with self._lock:
            self._open.add(sock)
        reset = False
        try:
            with sock.makefile("rb") as stream:
                while not self._stopping.is_set() and (request := read_request(stream)) is not None:
                    with self._lock:
                        self.active += 1
                        self.most_active = max(self.most_active, self.active)
                    try:
                        self._answer(sock, number, request)
                    finally:
                        with self._lock:
                            self.active -= 1
        except Hangup as hangup:
            reset = hangup.reset
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(sock)
            with contextlib.suppress(OSError):
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _behaviour(self, path: str) -> Behaviour:
        with self._lock:
            for key in (path, path.rsplit("/", 1)[-1]):
                for behaviour, left in self._behaviours.get(key, ()):
                    if left[0] is None:
                        return behaviour
                    if left[0] > 0:
                        left[0] -= 1
                        return behaviour
        return WELL

    def _answer(self, sock: socket.socket, number: int, request: Request) -> None:
        how = self._behaviour(request.path)
        if how.delay:
            self._stopping.wait(how.delay)
        if how.stall_after == -1:
            self._record(request, 0, 0, number)
            self._stopping.wait()
            raise Hangup
        status, headers, body = self._response(request, how)
        for name, value in how.headers.items():
            headers.pop(next((key for key in headers if key.lower() == name.lower()), name), None)
            if value:
                headers[name] = value
        if how.chunked:
            headers.pop("Content-Length", None)
            headers["Transfer-Encoding"] = "chunked"
        elif how.content_length is not None:
            headers["Content-Length"] = str(how.content_length)
        if request.headers.get("connection", "").lower() == "close" or how.close:
            headers["Connection"] = "close"
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        if request.method == "HEAD" or status == 304:
            body = memoryview(b"")
        ends = [n for n in (how.truncate_after, how.reset_after, how.stall_after) if n is not None]
        part = body[: min(ends)] if ends else body
        # Recorded before the last byte leaves, so that a client that has its answer finds it in the log.
        self._record(request, status, len(part), number)
        if len(part) < 65536 and how.rate is None and not how.chunked:
            sock.sendall(head.encode("latin-1") + bytes(part))
        else:
            sock.sendall(head.encode("latin-1"))
            for piece in pieces(part, how.rate, self._stopping):
                if how.chunked:
                    sock.sendall(f"{len(piece):x}\r\n".encode() + bytes(piece) + b"\r\n")
                else:
                    sock.sendall(piece)
            if how.chunked and not ends:
                sock.sendall(b"0\r\n\r\n")
        if how.reset_after is not None:
            raise Hangup(reset=True)
        if how.stall_after is not None:
            self._stopping.wait()
        if ends or how.content_length is not None or "Connection" in headers:
            raise Hangup

    def _record(self, request: Request, status: int, sent: int, number: int) -> None:
        hit = Hit(
            request.method, request.path, request.query, request.headers, status, sent, number, request.at
        )
        with self._lock:
            self.log.append(hit)

    def _response(self, request: Request, how: Behaviour) -> tuple[int, dict[str, str], memoryview]:
        wanted = how.auth or self.auth
        if wanted is not None:
            expected = "Basic " + base64.b64encode(":".join(wanted).encode()).decode()
            if request.headers.get("authorization") != expected:
                return plain(401, "credentials wanted", {"WWW-Authenticate": 'Basic realm="test"'})
        if how.redirect is not None:
            return plain(how.status or 302, "elsewhere", {"Location": how.redirect})
        if how.status is not None:
            return plain(how.status, f"scripted {how.status}", {})
        with self._lock:
            found = self._files.get(request.path)
            raw = self._raw.get(request.path)
        headers: dict[str, str]
        if found is not None:
            headers = {"Content-Type": "application/octet-stream"}
            body = memoryview(b"") if how.data is not None else open_body(found.body)
            etag = found.etag
        else:
            page = raw or self._page(request)
            if page is None:
                return plain(404, "not found", {})
            body, headers = memoryview(page[0]), {"Content-Type": page[1], **self.page_headers}
            etag = f'"{hashlib.sha256(page[0]).hexdigest()[:24]}"'
        if how.data is not None:
            body, etag = memoryview(how.data), f'"{hashlib.sha256(how.data).hexdigest()[:24]}"'
        etag_now = etag if how.etag == "auto" else how.etag
        if etag_now is not None:
            headers["ETag"] = etag_now
        if how.last_modified is not None:
            headers["Last-Modified"] = how.last_modified
        headers["Date"] = formatdate(usegmt=True)
        if etag_now is not None and request.headers.get("if-none-match") == etag_now:
            return 304, headers, memoryview(b"")
        since = None if "if-none-match" in request.headers else request.headers.get("if-modified-since")
        if since is not None and since == how.last_modified:
            return 304, headers, memoryview(b"")
        if how.gzip:
            headers["Content-Encoding"] = "gzip"
            body = memoryview(gzip.compress(body, 1, mtime=0))
        status = 200
        if found is not None and how.ranges:
            headers["Accept-Ranges"] = "bytes"
            guard = request.headers.get("if-range")
            if guard is None or how.ignore_if_range or guard in {etag_now, how.last_modified}:
                status, body = cut_range(request.headers.get("range"), how.range_shift, body, headers)
        headers["Content-Length"] = str(len(body))
        return status, headers, body

    def _page(self, request: Request) -> tuple[bytes, str] | None:
        parts = request.path.split("/")
        with self._lock:
            if len(parts) == 4 and not parts[3]:
                files = list(self._pages.get((parts[1], parts[2]), ()))
                if not files and (parts[1], parts[2]) not in self._pages:
                    return None
            else:
                return None
        entries = [{"filename": f.filename, "url": quote(f"../..{f.path}"), **f.meta} for f in files]
        for entry in entries:
            if entry.get("size", 0) is None:
                del entry["size"]
        if self.json and JSON_TYPE in request.headers.get("accept", ""):
            page = {"meta": {"api-version": "1.1"}, "name": parts[2], "versions": [], "files": entries}
            return json.dumps(page).encode(), JSON_TYPE
        return html_page(parts[2], entries), "text/html; charset=utf-8"


def serve_directory(directory: Path, server: IndexServer) -> IndexServer:
    """Offer every wheel found in `directory`."""
    for path in sorted(directory.glob("*.whl")):
        server.add(path, path.name)
    return server


if __name__ == "__main__":
    running = serve_directory(Path(sys.argv[1]), IndexServer()).start()
    print(running.url, flush=True)
    threading.Event().wait()
