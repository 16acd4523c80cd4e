"""A client by hand: frames over a socket, for tests of what a well-behaved client never does."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from pkgc_protocol import FEATURES, MAGIC, PROTOCOL, FrameDecoder, __version__, encode


class RawClient:
    """One connection to a daemon.

    Args:
        path: its socket.
        timeout: seconds after which reading fails.
    """

    def __init__(self, path: Path, timeout: float = 20) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(str(path))
        self._decoder = FrameDecoder(first_limit=1 << 20)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, *messages: dict[str, Any]) -> None:
        """Send frames in one write."""
        self.sock.sendall(b"".join(map(encode, messages)))

    def rest(self) -> list[dict[str, Any]]:
        """Everything that comes until the daemon closes."""
        messages: list[dict[str, Any]] = []
        while True:
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                return messages
            if not data:
                return messages
            messages += self._decoder.feed(data)

    def until(self, kind: str) -> dict[str, Any]:
        """Read up to the first frame of that type; frames behind it in the same read are dropped."""
        while True:
            data = self.sock.recv(1 << 16)
            assert data, f"the daemon closed before {kind!r}"
            for message in self._decoder.feed(data):
                if message["t"] == kind:
                    return message


def hello(cache: Path, **other: Any) -> dict[str, Any]:
    """A right greeting, with fields replaced."""
    return {
        "t": "hello",
        "magic": MAGIC,
        "protocol": list(PROTOCOL),
        "software": __version__,
        "features": list(FEATURES),
        "cache_dir": os.path.realpath(cache),
    } | other


def invoke(*argv: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """A request."""
    return {"t": "invoke", "argv": list(argv), "cwd": "/", "env": env or {}, "terminal": {}}
