"""Systemd: notifications, sockets passed by activation, the watchdog's period. No dependency on libsystemd.

Source of the rules: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

_FIRST_FD = 3


def listen_fds(environ: MutableMapping[str, str]) -> dict[str, socket.socket]:
    """Take over the listening sockets of socket activation, by name.

    The variables are removed, so that no child believes they are its own; the descriptors become
    close-on-exec and non-blocking (systemd passes them blocking).
    """
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    found: dict[str, socket.socket] = {}
    for index in range(int(count)):
        fd = _FIRST_FD + index
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        found[names[index] if index < len(names) and names[index] else f"fd{fd}"] = sock
    return found


def watchdog_period(environ: MutableMapping[str, str]) -> float | None:
    """Seconds between two WATCHDOG=1 (half of what systemd waits), or None when it does not watch."""
    pid = environ.get("WATCHDOG_PID")
    if pid is not None and pid != str(os.getpid()):
        return None
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 2_000_000 if microseconds > 0 else None


class Notifier:
    """Says READY, STOPPING, STATUS and WATCHDOG to the service manager; silent when there is none.

    Args:
        address: value of NOTIFY_SOCKET: a path, or an abstract name with a leading '@'.
    """

    def __init__(self, address: str | None) -> None:
        self._address = ("\0" + address[1:]) if address and address.startswith("@") else address

    @property
    def active(self) -> bool:
        """Whether a service manager listens."""
        return bool(self._address)

    def send(self, *lines: str) -> bool:
        """Send variable assignments; False when nobody took them (never an error: it is a courtesy)."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.connect(self._address)
                sock.sendall("\n".join(lines).encode())
        except OSError:
            return False
        return True
