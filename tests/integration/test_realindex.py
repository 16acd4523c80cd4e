"""The index of real wheels serves what it was given: everything measured or compared rests on that."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from email.message import Message
from pathlib import Path

import pytest

from tests.support.realindex import JSON_TYPE, NginxMissingError, RealIndex
from tests.support.wheels import make_wheel


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    built = make_wheel("Demo.Pkg", "1.0", {"demo.py": "x = 1\n" * 1000}, requires_python=">=3.9")
    path = tmp_path / built.filename
    path.write_bytes(built.data)
    return path


@pytest.fixture
def index(wheel: Path) -> Iterator[RealIndex]:
    try:
        running = RealIndex([wheel])
    except NginxMissingError as error:
        pytest.skip(str(error))
    with running:
        yield running


def get(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, Message, bytes]:
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_page_is_json_when_asked_for(index: RealIndex, wheel: Path) -> None:
    status, headers, body = get(f"{index.url}demo-pkg/", {"Accept": f"{JSON_TYPE}, text/html;q=0.1"})
    assert (status, headers["Content-Type"]) == (200, JSON_TYPE)
    (file,) = json.loads(body)["files"]
    assert file["filename"] == wheel.name
    assert file["hashes"] == {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    assert file["size"] == wheel.stat().st_size
    assert file["requires-python"] == ">=3.9"
    assert "max-age=600" in headers["Cache-Control"]


def test_page_is_html_otherwise(index: RealIndex, wheel: Path) -> None:
    status, headers, body = get(f"{index.url}demo-pkg/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert f"../../files/{wheel.name}#sha256={sha256}" in body.decode()
    assert 'data-requires-python="&gt;=3.9"' in body.decode()


def test_file_is_the_same_bytes_and_can_be_resumed(index: RealIndex, wheel: Path) -> None:
    url = index.url.replace("/simple/", f"/files/{wheel.name}")
    status, headers, body = get(url)
    assert status == 200
    assert body == wheel.read_bytes()
    etag = headers["ETag"]
    status, headers, part = get(url, {"Range": "bytes=10-", "If-Range": etag})
    assert (status, part) == (206, body[10:])
    assert headers["Content-Range"] == f"bytes 10-{len(body) - 1}/{len(body)}"


def test_unchanged_page_is_not_sent_again(index: RealIndex) -> None:
    _, headers, _ = get(f"{index.url}demo-pkg/")
    status, _, body = get(f"{index.url}demo-pkg/", {"If-None-Match": headers["ETag"]})
    assert (status, body) == (304, b"")


def test_log_counts_every_request(index: RealIndex) -> None:
    index.clear_log()
    for _ in range(3):
        get(f"{index.url}demo-pkg/")
    assert get(f"{index.url}missing/")[0] == 404
    assert index.counts() == {"/simple/demo-pkg/": 3, "/simple/missing/": 1}
    index.clear_log()
    assert index.requests() == []


def test_nothing_is_left_behind(wheel: Path) -> None:
    try:
        index = RealIndex([wheel])
    except NginxMissingError as error:
        pytest.skip(str(error))
    index.stop()
    index.stop()
    assert not Path(f"/proc/{index.pid}").exists()
    with pytest.raises(OSError, match="refused"):
        get(index.url)
