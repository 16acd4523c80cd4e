"""A slow link: a network namespace behind two interfaces whose rate a token bucket limits (needs root)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.realwheels import PROJECT

#: Bytes of a frame. With the usual 1,500 the headers alone would take the 5 % that the goal leaves.
_MTU = 9000


@dataclass(frozen=True, slots=True)
class Link:
    """The far end of a link, where a server is to be put."""

    address: str
    """Of the far end."""
    inside: tuple[str, ...]
    """What to put in front of a command so that it runs there."""
    bits: float
    """Per second."""
    delay: float
    """Seconds each way."""

    def least_seconds(self, size: int) -> float:
        """How long `size` bytes take at the full rate."""
        return size * 8 / self.bits

    @contextmanager
    def relayed(self, port: int) -> Iterator[int]:
        """A port of this machine's loopback that leads, delayed, to `port` of the far end."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.relay", self.address, str(port), str(self.delay)],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            with process.stdout:
                yield int(process.stdout.readline())
        finally:
            process.terminate()
            process.wait()


def why_impossible() -> str:
    """Why no link can be made here, or ''."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    missing = [tool for tool in ("ip", "tc") if _found(tool) is None]
    return f"missing: {', '.join(missing)} (iproute2)" if missing else ""


@contextmanager
def slow_link(bits: float, delay: float) -> Iterator[Link]:
    """Make a link, and remove it at the end.

    Args:
        bits: per second, each way.
        delay: seconds each way, for what goes through `Link.relayed`.

    Raises:
        subprocess.CalledProcessError: the kernel does not let us.
    """
    number = os.getpid()
    name, near, far = f"pkgc-bench-{number}", f"pb{number}n", f"pb{number}f"
    network = f"10.213.{number % 250}"
    # Ends of pairs vanish with the namespace, so that removing it removes everything.
    bucket = ["root", "tbf", "rate", f"{bits:.0f}bit", "burst", "64kb", "latency", "100ms"]
    _ip("netns", "add", name)
    try:
        _ip("link", "add", near, "mtu", str(_MTU), "type", "veth", "peer", "name", far, "mtu", str(_MTU))
        _ip("link", "set", far, "netns", name)
        _ip("address", "add", f"{network}.1/30", "dev", near)
        _ip("link", "set", near, "up")
        _run("tc", "qdisc", "add", "dev", near, *bucket)
        inside = (_found("ip") or "ip", "netns", "exec", name)
        for command in (
            ["ip", "address", "add", f"{network}.2/30", "dev", far],
            ["ip", "link", "set", far, "up"],
            ["ip", "link", "set", "lo", "up"],
            ["tc", "qdisc", "add", "dev", far, *bucket],
        ):
            _run(*inside, *command)
        yield Link(f"{network}.2", inside, bits, delay)
    finally:
        _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(tool: str, *arguments: str) -> None:
    subprocess.run([_found(tool) or tool, *arguments], check=True, capture_output=True)


def _found(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
