"""Answers of the test server: what a test may ask for, and the parts of HTTP that need no socket of ours."""

from __future__ import annotations

import html
import mmap
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "application/vnd.pypi.simple.v1+html"


@dataclass(frozen=True)
class Hit:
    """One request, as it was answered."""

    method: str
    path: str
    """Decoded, without the query."""
    query: str
    headers: Mapping[str, str]
    """Names in lower case."""
    status: int
    sent: int
    """Bytes of body that were handed to the socket."""
    connection: int
    """Serial number of the connection: equal numbers mean keep-alive."""
    at: float
    """time.monotonic() at which the request was read."""

    @property
    def range(self) -> str | None:
        """The Range header, or None."""
        return self.headers.get("range")


@dataclass(frozen=True)
class Behaviour:
    """How to answer. Every field at its default means: well."""

    times: int | None = 1
    """For how many requests; None: for ever."""
    status: int | None = None
    """Answer with this status and a short text."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Extra headers, or other values of usual ones ('' drops one)."""
    data: bytes | None = None
    """Serve these bytes instead."""
    redirect: str | None = None
    """Location; with status 302 unless `status` says otherwise."""
    delay: float = 0.0
    """Seconds before the first byte of the answer."""
    truncate_after: int | None = None
    """Close after so many bytes of this response's body (Content-Length still promises all)."""
    reset_after: int | None = None
    """The same, but with a TCP reset."""
    stall_after: int | None = None
    """Send so many bytes of body, then nothing until the server stops; -1: not even the headers."""
    rate: float | None = None
    """Bytes of body per second."""
    ranges: bool = True
    """False: ignore Range (answer 200)."""
    ignore_if_range: bool = False
    """Answer 206 even if the If-Range validator does not match."""
    range_shift: int = 0
    """Answer a Range with a 206 that begins so many bytes later (or earlier) than asked."""
    content_length: int | None = None
    """Lie about the length (the body sent stays as it is; then the connection closes)."""
    gzip: bool = False
    """Content-Encoding: gzip, asked for or not."""
    chunked: bool = False
    """Transfer-Encoding: chunked instead of a Content-Length."""
    etag: str | None = "auto"
    """'auto': a strong one made of the content; None: none."""
    last_modified: str | None = None
    auth: tuple[str, str] | None = None
    """Basic credentials wanted; others get 401."""
    close: bool = False
    """Close the connection after the answer."""


WELL = Behaviour(times=None)


@dataclass(frozen=True)
class OfferedFile:
    filename: str
    path: str
    body: bytes | Path
    size: int
    etag: str
    meta: Mapping[str, Any]


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    at: float


class Hangup(Exception):
    """The connection is to be closed; `reset` with RST."""

    def __init__(self, *, reset: bool = False) -> None:
        self.reset = reset


def read_request(stream: Any) -> Request | None:
    """One request from the stream, or None at its end."""
    line = stream.readline(65536)
    at = time.monotonic()
    if not line.strip():
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (line := stream.readline(65536)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    stream.read(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Request(method, unquote(parts.path), parts.query, headers, at)


def open_body(body: bytes | Path) -> memoryview:
    """The bytes to serve; a file is mapped, not read."""
    if isinstance(body, bytes):
        return memoryview(body)
    with body.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def pieces(body: memoryview, rate: float | None, stop: threading.Event) -> Iterator[memoryview]:
    """Parts of `body`, at `rate` bytes per second until `stop`."""
    step = 1 << 20 if rate is None else max(1, int(rate / 20))
    for start in range(0, len(body), step):
        if rate is not None and start and stop.wait(step / rate):
            return
        yield body[start : start + step]


def plain(status: int, text: str, headers: dict[str, str]) -> tuple[int, dict[str, str], memoryview]:
    """A short text answer."""
    body = text.encode()
    return (
        status,
        {"Content-Type": "text/plain", "Content-Length": str(len(body)), **headers},
        memoryview(body),
    )


def cut_range(
    asked: str | None, shift: int, body: memoryview, headers: dict[str, str]
) -> tuple[int, memoryview]:
    """RFC 9110, 14.2, for one range: ``a-``, ``a-b`` or ``-n``."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
    if match is None or match.group() == "bytes=-":
        return 200, body
    total, first, last = len(body), match[1], match[2]
    start = int(first) if first else max(0, total - int(last))
    end = min(int(last), total - 1) if first and last else total - 1
    if start >= total or end < start:
        headers["Content-Range"] = f"bytes */{total}"
        return 416, memoryview(b"")
    start = max(0, start + shift)
    headers["Content-Range"] = f"bytes {start}-{end}/{total}"
    return 206, body[start : end + 1]


def html_page(name: str, entries: list[dict[str, Any]]) -> bytes:
    """A simple HTML page (PEP 503)."""
    lines = [f"<!DOCTYPE html><html><head><title>{html.escape(name)}</title></head><body>"]
    for entry in entries:
        url = entry["url"] + "".join(f"#{a}={h}" for a, h in list(entry["hashes"].items())[:1])
        attributes = f'href="{html.escape(url)}"'
        if entry.get("requires-python"):
            attributes += f' data-requires-python="{html.escape(entry["requires-python"])}"'
        yanked = entry.get("yanked", False)
        if yanked is not False:
            attributes += f' data-yanked="{html.escape(yanked if isinstance(yanked, str) else "")}"'
        lines.append(f"<a {attributes}>{html.escape(entry['filename'])}</a><br/>")
    return "\n".join([*lines, "</body></html>"]).encode()
