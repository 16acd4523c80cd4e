"""A package index of real wheels on loopback, served by nginx as static files: fast, and it logs requests.

It is what the differential tests and the benchmarks run against; for an index that misbehaves on purpose see
`server.py`. Pages are JSON or HTML by content negotiation (PEP 503, PEP 691) and give sha256, size,
Requires-Python and the metadata file (PEP 658) as PyPI does; files have ETag, Last-Modified and ranges.
"""

from __future__ import annotations

import atexit
import hashlib
import html
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from email.parser import HeaderParser
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from packaging.utils import parse_sdist_filename, parse_wheel_filename

from tests.support.interpreters import Cpython, running
from tests.support.realwheels import DATA, exclusive, link_or_copy, wheels_for, write_atomically

JSON_TYPE = "application/vnd.pypi.simple.v1+json"

#: What PyPI answers for its pages and its files.
PAGES_LIKE_PYPI = "max-age=600, public"
FILES_LIKE_PYPI = "max-age=365000000, immutable, public"


class NginxMissingError(RuntimeError):
    """There is no nginx here and it could not be installed."""


class Request(NamedTuple):
    """One line of the access log."""

    method: str
    path: str
    """As sent, with the query."""
    status: int
    sent: int
    """Bytes of the body."""
    range: str
    """The Range header, or ''."""
    agent: str


class RealIndex:
    """A running index of `wheels`; a context manager that stops it at the end.

    Args:
        wheels: wheel files, and sdists; they are served byte for byte and are not changed.
        page_cache_control: Cache-Control of the pages; None for no such header.
        address: the address to serve on.
        inside: what to put in front of nginx's command, to run it in the namespace that has the address.
    """

    def __init__(
        self,
        wheels: Iterable[Path],
        *,
        page_cache_control: str | None = PAGES_LIKE_PYPI,
        address: str = "127.0.0.1",
        inside: Sequence[str] = (),
    ) -> None:
        command = [*inside, _nginx()]
        self._address = address
        self._folder = Path(tempfile.mkdtemp(prefix="pkgc-index-"))
        self._seen = 0
        self._token = secrets.token_hex(8)
        try:
            wheels = sorted(wheels)
            self.sizes = {wheel.name: wheel.stat().st_size for wheel in wheels}
            self.projects = _write_site(self._folder / "site", wheels)
            self._process, self.port = self._start(command, page_cache_control)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        atexit.register(self.stop)

    @classmethod
    def for_lock(cls, lock: Path, interpreters: Sequence[Cpython] = (), **options: Any) -> Self:
        """An index of the wheels that `lock` needs on the interpreters (default: the running one)."""
        return cls(wheels_for(lock, interpreters or [running()]), **options)

    @property
    def url(self) -> str:
        """The root of the Simple API, with the slash at its end."""
        return f"http://{self._address}:{self.port}/simple/"

    @property
    def pid(self) -> int:
        """Of nginx's master process."""
        return self._process.pid

    def requests(self) -> list[Request]:
        """Every request since the start or the last `clear_log`, in the order in which they ended."""
        return self._read_log()[self._seen :]

    def clear_log(self) -> None:
        """Forget the requests so far."""
        self._seen = len(self._read_log())

    def counts(self) -> Counter[str]:
        """How often each path was asked for (any method, any status)."""
        return Counter(request.path for request in self.requests())

    def warm_up(self) -> None:
        """Read every file once: the first tool must not pay for the disk alone."""
        for path in (self._folder / "site").rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    while file.read(1 << 20):
                        pass

    def stop(self) -> None:
        """Stop nginx and remove what this index wrote. May be called twice."""
        atexit.unregister(self.stop)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read_log(self) -> list[Request]:
        # One worker writes the log in the order in which requests end. When the marker's line is there,
        # the lines of everything that a client has completely received are there too.
        marker = f"/marker/{self._token}/{secrets.token_hex(8)}"
        _get(f"http://{self._address}:{self.port}{marker}")
        deadline = time.monotonic() + 10
        while True:
            lines = (self._folder / "access.log").read_text("utf-8", "replace").splitlines()
            if any(marker in line for line in lines[-20:]):
                break
            if time.monotonic() > deadline:
                raise RuntimeError("nginx does not write its access log")
            time.sleep(0.002)
        return [_parse(line) for line in lines if f"/marker/{self._token}/" not in line]

    def _start(
        self, command: list[str], page_cache_control: str | None
    ) -> tuple[subprocess.Popen[bytes], int]:
        for attempt in range(5):
            port = _free_port()
            config = self._folder / "nginx.conf"
            config.write_text(_config(self._folder, self._address, port, self._token, page_cache_control))
            errors = (self._folder / "errors.log").open("wb")
            with errors:
                process = subprocess.Popen(
                    [*command, "-e", "stderr", "-p", str(self._folder), "-c", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                )
            if self._answers(process, port):
                return process, port
            if process.poll() is None:
                process.kill()
            process.wait()
            reason = (self._folder / "errors.log").read_text("utf-8", "replace")
            # Another process may have taken the port between the two binds.
            if "Address already in use" not in reason or attempt == 4:
                raise RuntimeError(f"nginx did not start:\n{reason}")
        raise AssertionError("unreachable")

    def _answers(self, process: subprocess.Popen[bytes], port: int) -> bool:
        deadline = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < deadline:
            # The token tells this nginx from a stranger on the same port.
            if _get(f"http://{self._address}:{port}/marker/{self._token}/start") == self._token.encode():
                return True
            time.sleep(0.01)
        return False


def _config(folder: Path, address: str, port: int, token: str, page_cache_control: str | None) -> str:
    # As root nginx would drop to a user that may not read the checkout; it serves loopback only.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    pages = f'add_header Cache-Control "{page_cache_control}";' if page_cache_control else ""
    return f"""
{user}
daemon off;
worker_processes 1;
pid "{folder}/nginx.pid";
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  log_format requests escape=json
    '{{"method":"$request_method","path":"$request_uri","status":$status,'
    '"sent":$body_bytes_sent,"range":"$http_range","agent":"$http_user_agent"}}';
  access_log "{folder}/access.log" requests;
  client_body_temp_path "{folder}/tmp-body";
  proxy_temp_path "{folder}/tmp-proxy";
  fastcgi_temp_path "{folder}/tmp-fastcgi";
  uwsgi_temp_path "{folder}/tmp-uwsgi";
  scgi_temp_path "{folder}/tmp-scgi";
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 75s;
  keepalive_requests 1000000;
  etag on;
  types {{ text/html html; {JSON_TYPE} json; }}
  charset utf-8;
  map $http_accept $page {{
    default index.html;
    "~application/vnd\\.pypi\\.simple\\.v1\\+json" index.json;
  }}
  server {{
    listen {address}:{port} backlog=1024;
    server_name localhost;
    root "{folder}/site";
    location ~ ^(?<folder>/simple/(?:[a-z0-9-]+/)?)$ {{
      add_header Vary Accept;
      {pages}
      try_files $folder$page =404;
    }}
    location /files/ {{
      types {{ }}
      default_type application/octet-stream;
      add_header Cache-Control "{FILES_LIKE_PYPI}";
    }}
    location /marker/{token}/ {{ return 200 {token}; }}
    location / {{ return 404; }}
  }}
}}
"""


def _write_site(site: Path, wheels: Sequence[Path]) -> dict[str, list[str]]:
    """Write the pages and link the files. Gives project -> file names."""
    files = site / "files"
    files.mkdir(parents=True)
    projects: dict[str, list[dict[str, Any]]] = {}
    with exclusive("facts"):
        facts = _facts(wheels)
    for wheel in wheels:
        fact = facts[wheel.name]
        link_or_copy(wheel, files / wheel.name)
        entry: dict[str, Any] = {
            "filename": wheel.name,
            "url": f"../../files/{wheel.name}",
            "hashes": {"sha256": fact["sha256"]},
            "size": fact["size"],
            "yanked": False,
        }
        if wheel.suffix == ".whl":
            metadata = files / f"{wheel.name}.metadata"
            metadata.write_bytes(fact["metadata"].encode("utf-8", "surrogateescape"))
            entry["core-metadata"] = {"sha256": hashlib.sha256(metadata.read_bytes()).hexdigest()}
        if requires := HeaderParser().parsestr(fact["metadata"]).get("Requires-Python"):
            entry["requires-python"] = requires
        projects.setdefault(_release(wheel.name)[0], []).append(entry)
    simple = site / "simple"
    _write_page(
        simple,
        {"meta": {"api-version": "1.1"}, "projects": [{"name": name} for name in sorted(projects)]},
        [f'<a href="{name}/">{name}</a>' for name in sorted(projects)],
    )
    for name, entries in projects.items():
        versions = sorted({_release(entry["filename"])[1] for entry in entries})
        page = {"meta": {"api-version": "1.1"}, "name": name, "versions": versions, "files": entries}
        _write_page(simple / name, page, [_anchor(entry) for entry in entries])
    return {name: [entry["filename"] for entry in entries] for name, entries in projects.items()}


def _release(filename: str) -> tuple[str, str]:
    """Project and version of a wheel or an sdist."""
    parse = parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename
    name, version = parse(filename)[:2]
    return name, str(version)


def _anchor(entry: dict[str, Any]) -> str:
    attributes = f'href="{entry["url"]}#sha256={entry["hashes"]["sha256"]}"'
    if "core-metadata" in entry:
        metadata = f"sha256={entry['core-metadata']['sha256']}"
        attributes += f' data-core-metadata="{metadata}" data-dist-info-metadata="{metadata}"'
    if "requires-python" in entry:
        attributes += f' data-requires-python="{html.escape(entry["requires-python"])}"'
    return f"<a {attributes}>{entry['filename']}</a>"


def _write_page(folder: Path, page: dict[str, Any], anchors: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").write_text(json.dumps(page))
    body = "<br>\n".join(anchors)
    (folder / "index.html").write_text(
        "<!DOCTYPE html>\n<html><head>"
        '<meta name="pypi:repository-version" content="1.1"><title>Links</title></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _facts(wheels: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """sha256, size and METADATA of each wheel; of those in `.check-data` kept by name, size and mtime."""
    kept = DATA / "facts.json"
    known: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    facts = {}
    new = False
    for wheel in wheels:
        stat = wheel.stat()
        key = f"{wheel.name}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in known:
            with wheel.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            known[key] = {"sha256": sha256, "size": stat.st_size, "metadata": _metadata(wheel)}
            new = new or wheel.is_relative_to(DATA)
        facts[wheel.name] = known[key]
    if new:
        write_atomically(kept, json.dumps(known))
    return facts


def _metadata(wheel: Path) -> str:
    if wheel.suffix != ".whl":
        with tarfile.open(wheel) as archive:
            info = next((name for name in archive.getnames() if re.fullmatch(r"[^/]+/PKG-INFO", name)), None)
            file = archive.extractfile(info) if info else None
            return file.read().decode("utf-8", "surrogateescape") if file else ""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        top = min(names, key=lambda name: name.count("/"))
        return archive.read(top).decode("utf-8", "surrogateescape")


def _parse(line: str) -> Request:
    fields = json.loads(line)
    return Request(
        fields["method"], fields["path"], fields["status"], fields["sent"], fields["range"], fields["agent"]
    )


def _get(url: str) -> bytes | None:
    """The body of `url`, without any proxy; None when nobody answers 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except OSError:
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _nginx() -> str:
    """Where nginx is; installed by apt-get when it is missing and this is root.

    Raises:
        NginxMissingError: it is missing and stays so.
    """
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin"
    if found := shutil.which("nginx", path=path):
        return found
    if os.geteuid() == 0 and (apt := shutil.which("apt-get", path=path)):
        with exclusive("apt"):
            for command in (
                [apt, "update"],
                [apt, "install", "-y", "--no-install-recommends", "nginx-light"],
            ):
                subprocess.run(command, capture_output=True, timeout=300, check=False)
        if found := shutil.which("nginx", path=path):
            return found
    raise NginxMissingError("the test index is served by nginx: install nginx-light or nginx")
